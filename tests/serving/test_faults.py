"""Each dependency down, slow or wrong: a shopper still gets an answer, and the answer says what is missing."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from feature_repo.online import OnlineReader
from mercato.errors import StoreUnavailable
from mercato.settings import Settings
from mercato.stores.events import EventLog
from serving import metrics
from serving.gateway import Gateway
from serving.impressions import Impression, ImpressionLog
from serving.online import Customers
from serving.router import Routing
from serving.runtime.artefacts import Artefacts
from tests.serving.small_release import HOUSEHOLDS

KNOWN = HOUSEHOLDS[0]


class Broken:
    """A reader, encoder or ranker that raises."""

    def customer(self, customer_key: str) -> dict[str, Any] | None:
        raise StoreUnavailable("down")

    def encode(self, texts: Any) -> Any:
        raise RuntimeError("no session")

    def scores(self, features: Any) -> Any:
        raise RuntimeError("bad tree")


class Hanging:
    """An online store that does not answer."""

    def __init__(self) -> None:
        self.release = threading.Event()

    def customer(self, customer_key: str) -> dict[str, Any] | None:
        self.release.wait(30)
        return None


@pytest.fixture
def broken_artefacts(gateway: Gateway) -> Iterator[Any]:
    """A function that puts other artefacts into the live release, for one test."""
    before = gateway.router.current()

    def put(**changes: Any) -> None:
        live = before.releases[before.champion]
        changed = replace(live, **changes)
        gateway.router._current = Routing.of(before.document, {before.champion: changed})

    yield put
    gateway.router._current = before


def ask(client: TestClient, **body: Any) -> dict[str, Any]:
    """The answer to a recommendation; always 200."""
    answer = client.post("/v1/recommend", json={"customer_id": KNOWN, **body})
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def test_a_store_that_is_down_leaves_the_last_known_features(client: TestClient, gateway: Gateway) -> None:
    """With the online store down a customer seen before is ranked by the last features, another gets the cold start."""
    whole = ask(client)
    reader = gateway.customers._reader
    gateway.customers._reader = Broken()
    try:
        again, unseen = ask(client), ask(client, customer_id=HOUSEHOLDS[1])
    finally:
        gateway.customers._reader, gateway.customers._failures, gateway.customers._closed_until = reader, 0, 0.0
    assert (whole["degraded"], again["degraded"], unseen["degraded"]) == ([], ["online_features"], ["online_features"])
    assert [each["product_id"] for each in again["results"]] == [each["product_id"] for each in whole["results"]]
    cold = client.post("/v1/recommend", json={}).json()
    assert [each["product_id"] for each in unseen["results"]] == [each["product_id"] for each in cold["results"]]


def test_a_store_that_hangs_costs_its_deadline_and_is_then_left_alone(built: tuple[Path, str]) -> None:
    """After three reads past the deadline the store is not asked for a while: the fourth read costs nothing."""
    hanging = Hanging()
    customers = Customers(hanging, deadline=0.01, threads=1)

    async def four() -> list[tuple[Any, bool]]:
        return [await customers.read("c1") for _ in range(4)]

    assert asyncio.run(four()) == [(None, False)] * 4
    assert customers._pool._work_queue.qsize() <= 2
    hanging.release.set()
    customers.close()


def test_the_store_is_asked_again_after_its_rest(built: tuple[Path, str]) -> None:
    """A read that succeeds after failures ends the rest."""
    customers = Customers(Broken(), deadline=5.0)

    async def back() -> tuple[Any, bool]:
        for _ in range(3):
            assert await customers.read("c149") == (None, False)
        customers._reader, customers._closed_until = OnlineReader(Settings(home=built[0])), 0.0
        return await customers.read("c149")

    customer, fresh = asyncio.run(back())
    assert fresh
    assert len(customer.product_ids) > 0
    assert customers._failures == 0
    customers.close()


def test_without_an_encoder_search_goes_by_word(client: TestClient, gateway: Gateway) -> None:
    """With the encoder failing search finds by keyword and says so."""
    engine = gateway.router.current().releases[gateway.router.current().champion].search
    encoder, engine.encoder = engine.encoder, Broken()
    try:
        answer = client.post("/v1/search", json={"query": "frozen pizza", "explain": True}).json()
    finally:
        engine.encoder = encoder
    assert answer["degraded"] == ["encoder"]
    assert all("keyword" in each["scores"] and "vector" not in each["scores"] for each in answer["results"])
    assert len(answer["results"]) == 10


class BrokenIndex:
    """A vector index of which one method raises."""

    def __init__(self, index: Any, method: str) -> None:
        self._index, self._method = index, method

    def __getattr__(self, name: str) -> Any:
        if name == self._method:
            raise RuntimeError("bad index")
        return getattr(self._index, name)


@pytest.mark.parametrize("method", ["search", "reconstruct_batch"])
def test_without_an_index_search_goes_by_word(client: TestClient, gateway: Gateway, method: str) -> None:
    """With the vector index failing search finds by keyword and says so, inside a filter too."""
    base = gateway.router.current().releases[gateway.router.current().champion].search.base
    vectors, base.vectors = base.vectors, BrokenIndex(base.vectors, method)
    try:
        asked = {"query": "frozen pizza", "explain": True}
        whole = client.post("/v1/search", json=asked).json()
        inside = client.post("/v1/search", json={**asked, "filters": {"price_max": 5}}).json()
    finally:
        base.vectors = vectors
    for answer in (whole, inside):
        assert answer["degraded"] == ["index"]
        assert all("keyword" in each["scores"] and "vector" not in each["scores"] for each in answer["results"])
        assert len(answer["results"]) == 10


@pytest.mark.parametrize("rankers", [{}, {"all": Broken()}], ids=["missing", "failing"])
def test_without_a_ranker_retrieval_orders(
    client: TestClient, broken_artefacts: Any, gateway: Gateway, rankers: Any
) -> None:
    """With the ranker missing or failing the candidates come in retrieval order, and the answer says so."""
    artefacts = gateway.router.current().releases[gateway.router.current().champion].artefacts
    broken_artefacts(artefacts=replace(artefacts, rankers=rankers))
    answer = ask(client, explain=True)
    assert answer["degraded"] == ["ranker"]
    assert len(answer["results"]) == 10
    assert all("ranker" not in each["scores"] for each in answer["results"])


def test_with_everything_down_popular_products_are_shown(
    client: TestClient, broken_artefacts: Any, gateway: Gateway
) -> None:
    """With no model and the pipeline raising for customers, what is popular across categories is shown."""
    artefacts = gateway.router.current().releases[gateway.router.current().champion].artefacts
    broken_artefacts(artefacts=Artefacts(artefacts.catalogue, {}, {"all": Broken()}, config=None))  # type: ignore[arg-type]
    answer = ask(client, n=5)
    rows = artefacts.catalogue.cold_start[:5]
    assert answer["degraded"] == ["ranker", "retrieval"]
    assert [each["product_id"] for each in answer["results"]] == [artefacts.catalogue.product_ids[row] for row in rows]


def test_events_are_refused_while_the_log_is_down(client: TestClient, gateway: Gateway, tmp_path: Path) -> None:
    """With a log that cannot be written events get 503 with Retry-After, never an acknowledgement."""
    (tmp_path / "no-folder").write_text("a file")
    down = EventLog(f"sqlite:///{tmp_path / 'no-folder' / 'events.db'}", gateway.now)
    log, gateway.ingest._log = gateway.ingest._log, down
    event = {"event_id": "x", "type": "search", "session_id": "s", "event_time": "2017-12-04T05:00:00Z"}
    try:
        answer = client.post("/v1/events", json={"events": [event]})
    finally:
        gateway.ingest._log = log
        down.close()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "event_log_unavailable")
    assert answer.headers["retry-after"] == "2"
    assert "accepted" not in answer.json()


def test_a_fault_of_ours_is_a_503_without_a_trace(client: TestClient, gateway: Gateway) -> None:
    """An exception that nobody expected becomes a 503 in our one shape, and is logged and counted once."""
    counted = metrics.UNEXPECTED.labels("/v1/search")
    before, faults = gateway.router._current, counted._value.get()
    gateway.router._current = "nonsense"  # type: ignore[assignment]
    try:
        with capture_logs() as logged:
            answer = client.post("/v1/search", json={"query": "milk"})
    finally:
        gateway.router._current = before
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unexpected")
    assert counted._value.get() == faults + 1
    assert [each["event"] for each in logged].count("request.failed") == 1
    assert "nonsense" not in answer.text
    assert b'mercato_unexpected_errors_total{route="/v1/search"}' in metrics.render()


def test_impressions_are_shed_when_the_queue_is_full(tmp_path: Path) -> None:
    """With no room left an impression is dropped and counted, and the request does not wait."""
    log = ImpressionLog(f"sqlite:///{tmp_path / 'impressions.db'}", waiting=1)
    shown = Impression("r", "search", "r-1", "champion", None, None, 0, ["p1", "p2"], [1.0, 0.5])
    before = metrics.IMPRESSIONS_DROPPED._value.get()
    for _ in range(500):
        log.write(shown)
    assert metrics.IMPRESSIONS_DROPPED._value.get() > before
    log.close()
