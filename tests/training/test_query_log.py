"""From searches in the event log to words that spelling knows and suggestions."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from data_contracts.search_words import load_search_words
from mercato.paths import Lake
from serving.runtime.query.lexicon import Lexicon
from serving.runtime.query.understand import understand
from serving.runtime.suggest import Suggester
from tests.lake_maker import make_lake
from tests.serving.runtime.test_query import texts
from tests.training.annotation_maker import UNTIL, WRITTEN, put_clean
from training.lexicon import build_lexicon
from training.query_log import customers_by_query

LOOKBACK = timedelta(days=90)


def searches(
    query: str, customers: list[str | None], *, led: str = "click", origin: str = "real"
) -> list[dict[str, Any]]:
    """One search per customer, and what it led to."""
    rows: list[dict[str, Any]] = []
    for n, customer in enumerate(customers):
        request = f"{query}|{origin}|{n}"
        both = {"session_id": f"s{n}", "customer_key": customer, "request_id": request, "origin": origin}
        rows.append({**both, "event_id": f"{request}|asked", "type": "search", "query": query})
        if led:
            rows.append({**both, "event_id": f"{request}|led", "type": led, "product_id": "1"})
    return rows


def people(n: int) -> list[str | None]:
    return [f"c{at}" for at in range(n)]


def logged(lake: Lake) -> Lake:
    put_clean(
        lake,
        "interactions",
        [
            *searches("Gaming  chair", people(3)),
            *searches("gaming CHAIR", people(5), led="cart"),
            *searches("asha verma", ["c1"] * 20),
            *searches("visitor words", [None] * 20),
            *searches("nothing found", people(9), led=""),
            *searches("robot words", people(9), origin="simulated"),
            *searches("wireles mouse", people(9), led="purchase"),
        ],
    )
    return lake


def test_a_query_counts_its_customers_who_found_something(tmp_path: Path) -> None:
    """One customer counts once however often and however written; no visitor, no dead end, no simulation counts."""
    counted = customers_by_query(logged(make_lake(tmp_path)), UNTIL, LOOKBACK)
    assert counted == {"gaming chair": 5, "asha verma": 1, "wireles mouse": 9}
    assert customers_by_query(make_lake(tmp_path), WRITTEN, LOOKBACK) == {}
    assert customers_by_query(make_lake(tmp_path), UNTIL, timedelta(days=1)) == {}


def test_a_translation_that_many_ask_is_still_translated() -> None:
    """However many ask for "doodh", no product holds it: it goes on being searched as milk, and is suggested."""
    words = load_search_words("complete_journey")
    made = build_lexicon(texts(), words, minor_digits=2, until=UNTIL, queries={"doodh": 50, "doodh mouse": 50})
    assert understand("doodh", Lexicon(made)).text == "milk"
    assert {each.text for each in made.suggestions if each.kind == "query"} == {"doodh", "doodh mouse"}


def test_before_the_first_event_nothing_was_asked(tmp_path: Path) -> None:
    """A shop without an event log has a lexicon of its catalogue."""
    assert customers_by_query(make_lake(tmp_path), UNTIL, LOOKBACK) == {}


def test_what_many_ask_is_known_and_suggested_and_what_one_asks_is_not(tmp_path: Path) -> None:
    """No product holds "gaming": five customers make it a word to correct to; a misspelling of nine stays one."""
    queries = customers_by_query(logged(make_lake(tmp_path)), UNTIL, LOOKBACK)
    words = load_search_words("complete_journey")
    before, after = (
        Lexicon(build_lexicon(texts(), words, minor_digits=2, until=UNTIL, queries=asked)) for asked in ({}, queries)
    )
    assert [understand("gamng", each).text for each in (before, after)] == ["gamng", "gaming"]
    assert [each.text for each in Suggester.of(after).suggest("gam", 5)] == ["gaming chair"]
    assert Suggester.of(before).suggest("gam", 5) == []
    assert not after.knows("verma")
    assert Suggester.of(after).suggest("ash", 5) == []
    assert understand("wireles mouse", after).text == "wireless mouse"
    assert "wireles mouse" not in {each.text for each in after.data.suggestions}
