"""The routes of version 1: what is asked, what is answered, what bad input gets."""

import json
import sqlite3
from typing import Any

import pytest
from starlette.testclient import TestClient

from feature_repo.online import OnlineReader
from mercato.stores.events import read_events
from mercato.stores.impressions import impressions_of
from serving.gateway import Gateway
from serving.schemas import Ranked, SearchAnswer
from tests.feature_repo.clean_sample import T
from tests.serving.small_release import HOUSEHOLDS

JSON = {"content-type": "application/json"}
KNOWN = HOUSEHOLDS[0]


def event(event_id: str, **changes: Any) -> dict[str, Any]:
    """A click as a client sends it."""
    return {
        "event_id": event_id, "type": "click", "session_id": "s1", "product_id": "1082185",
        "event_time": T.isoformat(), **changes,
    }  # fmt: skip


def test_a_known_customer_gets_its_own_products(client: TestClient, built: tuple[Any, str]) -> None:
    """A known household gets n ranked products with reasons from the release that is live; another gets others."""
    answers = [client.post("/v1/recommend", json={"customer_id": each, "n": 5}) for each in HOUSEHOLDS]
    bodies = [Ranked.model_validate(each.json()) for each in answers]
    assert [each.degraded for each in bodies] == [[], []]
    assert all(each.release_id == built[1] and len(each.results) == 5 for each in bodies)
    assert all(result.reasons and result.scores is None for result in bodies[0].results)
    assert bodies[0].results != bodies[1].results
    assert answers[0].headers["x-request-id"] == bodies[0].request_id


@pytest.mark.parametrize("body", [{}, {"customer_id": "nobody"}, {"session_id": "s"}, {"product_ids": ["no-such"]}])
def test_a_cold_start_is_no_error(client: TestClient, body: dict[str, Any]) -> None:
    """An absent or unknown customer gets products, and the answer is not degraded."""
    answer = client.post("/v1/recommend", json=body).json()
    assert len(answer["results"]) == 10
    assert answer["degraded"] == []


def test_excluded_products_stay_away(client: TestClient) -> None:
    """What is excluded, or on the page already, is not recommended."""
    first = [each["product_id"] for each in client.post("/v1/recommend", json={"customer_id": KNOWN}).json()["results"]]
    body = {"customer_id": KNOWN, "exclude": first[:3], "product_ids": [first[3]]}
    again = {each["product_id"] for each in client.post("/v1/recommend", json=body).json()["results"]}
    assert again.isdisjoint(first[:4])


def test_novel_answers_leave_out_what_was_bought(client: TestClient, gateway: Gateway) -> None:
    """With the goal novel no product is one that the household bought before; with all some are."""
    row = OnlineReader(gateway.settings).customer(f"c{KNOWN}")
    assert row is not None
    for goal, expected in (("novel", False), ("all", True)):
        answer = client.post("/v1/recommend", json={"customer_id": KNOWN, "goal": goal, "n": 50}).json()
        shown = {each["product_id"] for each in answer["results"]}
        assert (not shown.isdisjoint(row["product_ids"])) is expected


def test_explain_shows_the_score_of_each_stage(client: TestClient) -> None:
    """With explain each result carries the ranker's score, or the keyword's and the vector's."""
    ranked = client.post("/v1/recommend", json={"customer_id": KNOWN, "explain": True}).json()["results"]
    found = client.post("/v1/search", json={"query": "milk", "explain": True}).json()["results"]
    assert all("ranker" in each["scores"] for each in ranked)
    assert {"keyword", "vector"} <= found[0]["scores"].keys()


def test_search_pages_filters_and_counts(client: TestClient) -> None:
    """Two pages of five are the first ten; a filter keeps its category and its price; total counts all pages."""
    ten, five, next_five = (
        SearchAnswer.model_validate(client.post("/v1/search", json={"query": "frozen pizza", **page}).json())
        for page in ({"n": 10}, {"n": 5}, {"n": 5, "offset": 5})
    )
    assert [each.product_id for each in ten.results] == [each.product_id for each in five.results + next_five.results]
    assert ten.total == five.total > 10
    filters = {"category": "frozen pizza", "price_max": 3}
    body = {"query": "frozen pizza", "filters": filters, "n": 100}
    cheap = SearchAnswer.model_validate(client.post("/v1/search", json=body).json())
    assert cheap.total == cheap.facets["category"]["FROZEN PIZZA"] == sum(cheap.facets["brand"].values()) > 0
    assert all(each.price is not None and each.price <= 3 for each in cheap.results)


def test_search_for_a_customer_lifts_what_they_buy_and_for_nobody_is_as_before(client: TestClient) -> None:
    """What the household buys gains, and explain says so; a customer nobody knows gets the bytes of no customer."""

    def answer(**more: Any) -> dict[str, Any]:
        body = client.post("/v1/search", json={"query": "frozen pizza", "n": 100, "explain": True, **more}).json()
        return {name: value for name, value in body.items() if name != "request_id"}

    plain, known = answer(), answer(customer_id=KNOWN)
    assert json.dumps(answer(customer_id="nobody")) == json.dumps(plain)
    assert not any("personal" in each["scores"] for each in plain["results"])
    before = {each["product_id"]: each["score"] for each in plain["results"]}
    gains = {each["product_id"]: each["score"] - before[each["product_id"]] for each in known["results"]}
    bought = {each["product_id"]: each["scores"].get("personal", 0.0) for each in known["results"]}
    assert max(bought.values()) > 0
    assert all((gains[each] > 0) == (bought[each] > 0) for each in gains)


def test_similar_and_one_product(client: TestClient) -> None:
    """A product is shown by its id; similar ones are others."""
    product = client.get("/v1/products/1082185").json()
    assert (product["name"], product["currency"]) == ("Bananas, 40 LB (National)", "USD")
    found = client.get("/v1/products/1082185/similar", params={"n": 7}).json()["results"]
    assert len(found) == 7
    assert "1082185" not in {each["product_id"] for each in found}


def test_trending_in_a_category(client: TestClient) -> None:
    """Trending in a category shows products of that category, best sold first."""
    answer = client.get("/v1/trending", params={"category": "frozen pizza", "n": 3}).json()
    assert [client.get(f"/v1/products/{each['product_id']}").json()["category"] for each in answer["results"]] == [
        "FROZEN PIZZA"
    ] * 3
    scores = [each["score"] for each in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    assert client.get("/v1/trending").status_code == 200


def test_what_is_live(client: TestClient, built: tuple[Any, str]) -> None:
    """The release, its weight and its generation are shown; the gateway is alive and ready."""
    answer = client.get("/v1/release").json()
    assert (answer["release_id"], answer["generation"], answer["weights"]) == (built[1], 1, {built[1]: 10_000})
    assert client.get("/livez").status_code == client.get("/readyz").status_code == 200


def test_accepted_events_are_in_the_log_without_the_shops_id(client: TestClient, gateway: Gateway) -> None:
    """Accepted events are read back with the customer's key, a new customer's too; the rest is named with reasons."""
    events = [
        event("h1", customer_id=KNOWN, price=1.99, quantity=2), event("h2", customer_id="new-customer"), event("h1"),
        event("h3", event_time="2017-12-04T05:00:00"), {**event("h4"), "product_id": None}, "no event",
        event("h5", event_time="2999-01-01T00:00:00Z"), event("h6", surplus=1),
    ]  # fmt: skip
    answer = client.post("/v1/events", json={"events": events}).json()
    assert (answer["accepted"], answer["duplicate"]) == (2, 1)
    assert [each["index"] for each in answer["rejected"]] == [3, 4, 5, 6, 7]
    assert [each["event_id"] for each in answer["rejected"]] == ["h3", "h4", None, "h5", "h6"]
    assert "timezone" in answer["rejected"][0]["reason"]
    assert "needs product_id" in answer["rejected"][1]["reason"]
    assert "future" in answer["rejected"][3]["reason"]
    far = T.replace(year=9998)
    stored = {
        each.row.event_id: each.row for each in read_events(gateway.settings.events(), known_from=T, known_before=far)
    }
    assert (stored["h1"].customer_key, stored["h1"].price_minor) == (f"c{KNOWN}", 199)
    assert str(stored["h2"].customer_key).startswith("c")
    raw = (gateway.settings.root / "events.db-wal").read_bytes() + (gateway.settings.root / "events.db").read_bytes()
    assert b"new-customer" not in raw


def test_every_ranked_answer_is_logged(built: tuple[Any, str], home: Any) -> None:
    """An answer leaves one impression per product: position, propensity, release, arm, and the ranker's features."""
    from mercato.settings import Settings
    from tests.serving.conftest import client_of, wait_ready

    opened = Gateway.open(Settings(home=home))
    wait_ready(opened)
    answer = client_of(opened).post("/v1/recommend", json={"customer_id": KNOWN, "session_id": "s9", "n": 4}).json()
    page = client_of(opened).post("/v1/search", json={"query": "milk", "n": 2, "offset": 2}).json()
    opened.close()
    rows = sqlite3.connect(home / "impressions.db")
    query = (
        "SELECT position, product_id, propensity, release_id, arm, customer_key, session_id, length(features) "
        "FROM impressions WHERE request_id = ? ORDER BY position"
    )
    found = rows.execute(query, (answer["request_id"],)).fetchall()
    assert [each[:2] for each in found] == [
        (at, each["product_id"]) for at, each in enumerate(answer["results"], start=1)
    ]
    (names,) = rows.execute("SELECT names FROM feature_sets").fetchone()
    assert {each[2:] for each in found} == {(1.0, built[1], "champion", f"c{KNOWN}", "s9", 4 * len(json.loads(names)))}
    assert [each[0] for each in rows.execute(query, (page["request_id"],))] == [3, 4]
    (first, *_) = impressions_of(opened.settings, answer["request_id"])
    assert first["features"]["n_purchases"] >= 0
    assert (first["position"], first["product_id"]) == (1, answer["results"][0]["product_id"])
    assert impressions_of(opened.settings, "unknown") == []
    rows.close()


BAD: list[tuple[str, str, Any, int, str]] = [
    ("POST", "/v1/recommend", b"{", 400, "unparsable"),
    ("POST", "/v1/recommend", b"\xff\xfe", 400, "unparsable"),
    ("POST", "/v1/recommend", b"[" * 100_000, 400, "unparsable"),
    ("POST", "/v1/recommend", b'{"n":' + b"9" * 5_000 + b"}", 400, "unparsable"),
    ("POST", "/v1/recommend", b'{"n":0}', 422, "rule_broken"),
    ("POST", "/v1/recommend", b'{"n":101}', 422, "rule_broken"),
    ("POST", "/v1/recommend", b'{"n":99999999999999999999999999}', 422, "rule_broken"),
    ("POST", "/v1/recommend", b'{"n":NaN}', 422, "rule_broken"),
    ("POST", "/v1/recommend", b'{"customer_id":"\\ud800"}', 422, "rule_broken"),
    ("POST", "/v1/recommend", b'{"customer_id":"\\u0000"}', 422, "rule_broken"),
    ("POST", "/v1/recommend", b'{"\\ud800":1}', 422, "rule_broken"),
    ("POST", "/v1/recommend", b'{"surplus":1}', 422, "rule_broken"),
    ("POST", "/v1/recommend", b"[]", 422, "rule_broken"),
    ("POST", "/v1/recommend", b"", 422, "rule_broken"),
    ("POST", "/v1/search", b'{"query":" \\u0000 "}', 422, "rule_broken"),
    ("POST", "/v1/search", json.dumps({"query": "a" * 501}).encode(), 422, "rule_broken"),
    ("POST", "/v1/search", b'{"query":"milk","filters":{"price_min":2,"price_max":1}}', 422, "rule_broken"),
    ("POST", "/v1/events", b'{"events":[]}', 422, "rule_broken"),
    ("GET", "/v1/products/no-such", None, 404, "unknown_product"),
    ("GET", "/v1/products/%00%ff", None, 404, "unknown_product"),
    ("GET", "/v1/products/1082185/similar?n=0", None, 422, "rule_broken"),
    ("GET", "/v1/trending?category=no-such", None, 404, "unknown_category"),
    ("GET", "/v1/nothing", None, 404, "unknown_route"),
    ("PUT", "/v1/search", b"{}", 405, "wrong_method"),
    ("POST", "/v1/search", b'{"query":"' + b"a" * 10_000_000 + b'"}', 413, "body_too_large"),
]


@pytest.mark.parametrize("bad", BAD)
def test_bad_input_gets_a_clear_4xx(client: TestClient, bad: tuple[str, str, bytes | None, int, str]) -> None:
    """Whatever is wrong, the answer says so in one shape, with a hint and the request's id."""
    method, path, body, status, code = bad
    answer = client.request(method, path, content=body, headers=JSON)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == code
    assert error["message"]
    assert error["hint"]
    assert error["request_id"] == answer.headers["x-request-id"]
    assert "Traceback" not in answer.text
    assert "pydantic" not in answer.text


def test_a_body_that_grows_past_the_limit_is_cut_off(client: TestClient) -> None:
    """A body without an announced length is refused as soon as more than a megabyte came."""
    answer = client.post("/v1/search", content=(b"a" * 100_000 for _ in range(50)), headers=JSON)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


def test_metrics_have_closed_labels(client: TestClient) -> None:
    """Requests are counted by route template and status, never by product, path or query."""
    for path in ("/v1/products/1082185", "/v1/products/some-secret-id", "/some-unknown-path"):
        client.get(path)
    text = client.get("/metrics").text
    assert 'mercato_requests_total{route="/v1/products/{product_id}",status="404"}' in text
    assert 'mercato_requests_total{route="other",status="404"}' in text
    assert "some-" not in text
