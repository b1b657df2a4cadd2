"""Products put and removed through the gateway: at once in every answer, kept over a restart."""

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
from starlette.testclient import TestClient

from mercato import paths
from mercato.settings import Settings
from mercato.stores.events import microseconds
from mercato.stores.products import Change, product_store
from serving.gateway import Gateway
from tests.feature_repo.clean_sample import DAY, T, write
from tests.serving.conftest import client_of, wait_ready
from training.fit import catalogue_rows

NEW = {"name": "Glow-in-the-dark zucchini lamp", "brand": "Lumo", "price": "12.50", "attributes": {"colour": "green"}}


def ids(client: TestClient, query: str) -> list[str]:
    answer = client.post("/v1/search", json={"query": query, "n": 20}).json()
    return [each["product_id"] for each in answer["results"]]


def test_a_change_is_found_at_once_and_a_removed_product_nowhere(built: tuple[Path, str], tmp_path: Path) -> None:
    """Put: found by name and by attribute, shown with its price. Removed: in no answer. Both hold after a restart."""
    shutil.copytree(built[0], tmp_path / "home")
    settings = Settings(home=tmp_path / "home")
    gateway = Gateway.open(settings)
    wait_ready(gateway)
    with client_of(gateway) as client:
        assert client.put("/v1/products/new-1", json=NEW).status_code == 200
        assert ids(client, "zucchini lamp")[0] == ids(client, "lumo")[0] == "new-1"
        assert ids(client, '"dark zucchini"') == ids(client, '"Zucchini Lamps"') == ["new-1"]
        shown = client.get("/v1/products/new-1").json()
        assert (shown["name"], shown["price"], shown["brand"]) == (NEW["name"], 12.5, "Lumo")
        assert client.get("/v1/products/new-1/similar").status_code == 200
        best = ids(client, "milk")[0]
        assert client.put(f"/v1/products/{best}", json={"name": "Oat drink"}).status_code == 200
        assert best in ids(client, "oat drink")
        popular = client.get("/v1/trending", params={"n": 1}).json()["results"][0]
        assert popular["name"] in product_suggestions(client, popular["name"])
        renamed = {"name": "Renamed", "price": "77.25"}
        assert client.put(f"/v1/products/{popular['product_id']}", json=renamed).status_code == 200
        assert popular["name"] not in product_suggestions(client, popular["name"])
        for answer in (client.get("/v1/trending"), client.post("/v1/recommend", json={"n": 50})):
            [shown] = [each for each in answer.json()["results"] if each["product_id"] == popular["product_id"]]
            assert (shown["name"], shown["price"]) == ("Renamed", 77.25)
        gone = popular["product_id"]
        assert client.delete(f"/v1/products/{gone}").status_code == 200
        assert_nowhere(client, gone, popular["name"])
        sold_out = {"name": "Milk frother", "in_stock": False}
        assert client.put("/v1/products/new-2", json=sold_out).status_code == 200
        asked = {"query": "milk", "explain": True}
        total = client.post("/v1/search", json=asked).json()["total"]
        [last] = client.post("/v1/search", json={**asked, "n": 1, "offset": total - 1}).json()["results"]
        assert (last["product_id"], last["scores"]["in_stock"]) == ("new-2", 0)
        available = client.post("/v1/search", json={**asked, "filters": {"in_stock": True}}).json()
        assert available["total"] == total - 1
        assert client.put("/v1/products/x", json={"price": 3}).json()["error"]["code"] == "rule_broken"
    gateway.close()

    again = Gateway.open(settings)
    wait_ready(again)
    with client_of(again) as client:
        assert ids(client, "zucchini lamp")[0] == "new-1"
        assert_nowhere(client, gone, popular["name"])
        assert client.delete("/v1/products/new-1").status_code == 200
        assert "new-1" not in ids(client, "zucchini lamp")
        later = catalogue_rows(settings, again.now() + timedelta(seconds=1)).set_index("product_id")
    again.close()
    assert gone not in later.index
    assert "new-1" not in later.index
    assert later.loc[best, "name"] == "Oat drink"
    assert later["in_stock"].dropna().to_dict() == {"new-2": False}
    assert gone in set(catalogue_rows(settings, T)["product_id"])  # a replay as of then does not know yet


def test_the_feeds_row_holds_once_it_is_newer(tmp_path: Path) -> None:
    """What was put or removed at T loses to the feed's rows of a day later, and holds against those of a day before."""
    settings = Settings(home=tmp_path / "home")
    rows = [
        {"product_id": name, "name": "of the feed", "event_time": at, "known_at": at}
        for at, names in ((T - DAY, ("older", "older, gone")), (T + DAY, ("newer", "newer, gone")))
        for name in names
    ]
    write(paths.lake(settings), "products", pd.DataFrame(rows))
    store = product_store(settings)
    for name in ("older", "newer", "only put"):
        store.add(settings.shop, Change(name, microseconds(T), {"name": "put"}))
    for name in ("older, gone", "newer, gone"):
        store.add(settings.shop, Change(name, microseconds(T), None))
    held = catalogue_rows(settings, T + 2 * DAY).set_index("product_id")["name"].to_dict()
    assert held == {"older": "put", "newer": "of the feed", "newer, gone": "of the feed", "only put": "put"}


def product_suggestions(client: TestClient, typed: str) -> list[str]:
    found = client.get("/v1/suggest", params={"q": typed, "n": 100}).json()["suggestions"]
    return [each["text"] for each in found if each["kind"] == "product"]


def assert_nowhere(client: TestClient, product_id: str, name: str) -> None:
    """No answer shows a product that was removed."""
    answers: list[Any] = [
        client.post("/v1/search", json={"query": name, "n": 50}),
        client.post("/v1/recommend", json={"n": 50}),
        client.get("/v1/trending", params={"n": 50}),
    ]
    assert name not in product_suggestions(client, name)
    assert client.get(f"/v1/products/{product_id}/similar").status_code == 404
    for answer in answers:
        assert product_id not in [each["product_id"] for each in answer.json()["results"]]
    assert client.get(f"/v1/products/{product_id}").status_code == 404
