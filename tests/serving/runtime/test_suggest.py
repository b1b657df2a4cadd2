"""Suggestions and facets over entries whose weights are written here."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.search_words import load_search_words
from feature_repo.text import query_text
from serving.runtime.facets import counts, price_ranges, without
from serving.runtime.query.lexicon import Lexicon
from serving.runtime.suggest import Suggester
from tests.serving.runtime.test_query import AT, texts
from training.lexicon import build_lexicon

QUERIES = {"wireless mouse pad": 40, "wireless charger": 90, "milk": 10}


def make() -> Suggester:
    words = load_search_words("complete_journey")
    return Suggester.of(Lexicon(build_lexicon(texts(), words, minor_digits=2, until=AT, queries=QUERIES)))


SUGGESTER = make()


def suggested(typed: str, n: int = 10) -> list[str]:
    return [each.text for each in SUGGESTER.suggest(typed, n)]


def test_queries_come_first_then_categories_and_brands_then_products() -> None:
    """For "m": the query milk, the categories, the products; equal texts once, as their first kind."""
    found = SUGGESTER.suggest("m", 10)
    assert found[0].kind == "query"
    assert [each.kind == "product" for each in found] == sorted(each.kind == "product" for each in found)
    assert [each.text.lower() for each in found].count("milk") == 1
    assert suggested("wireless") == ["wireless charger", "wireless mouse pad", "Wireless Mouse"]


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("wireless mo", "wireless mouse pad"), ("mouse wire", "wireless mouse pad"),
        ("WIRELESS  CH", "wireless charger"),
        ("wireless. 'mo", "wireless mouse pad"),
        ("wirless mo", "wireless mouse pad"), ("wirelss", "wireless charger"), ("logitehc", "Logitech"), ("xyz", None),
        ("", None), ("!!", None),
    ],
)  # fmt: skip
def test_every_word_counts_and_typos_are_forgiven(typed: str, first: str | None) -> None:
    """Words in any order, the last one a prefix; a misspelled one finds what it was meant to be."""
    assert next(iter(suggested(typed)), None) == first


@given(st.text(max_size=40), st.integers(1, 20))
def test_any_text_gets_at_most_n(typed: str, n: int) -> None:
    """It never raises; each suggestion comes once."""
    found = suggested(typed, n)
    assert len(found) == len(set(found)) <= n


@given(st.sampled_from(sorted(SUGGESTER.texts)), st.integers(1, 30))
def test_every_prefix_of_an_entry_suggests_it(text: str, cut: int) -> None:
    """Typing towards an entry never loses it."""
    typed = text[:cut].strip()
    assert text in {query_text(each) for each in suggested(typed, 100)}


def test_without_a_lexicon_nothing_is_suggested() -> None:
    """A release from before lexicons answers with an empty list."""
    assert Suggester.of(None).suggest("milk", 5) == []


def test_facet_counts_ignore_their_own_filter() -> None:
    """Four products; brand x and price <= 2 hold for one of them; each facet sees what the other filter leaves."""
    masks = {"brand": np.array([True, True, False, False]), "price": np.array([True, False, True, False])}
    assert without(masks, "brand").tolist() == [True, False, True, False]
    assert without(masks, "price").tolist() == [True, True, False, False]
    assert without(masks, "category").tolist() == [True, False, False, False]
    assert without({"brand": masks["brand"]}, "brand").all()
    assert counts(np.array(["b", "a", "", "b", "c", "a", "b"])) == {"b": 3, "a": 2, "c": 1}


def test_price_ranges_by_hand() -> None:
    """Prices 100, 200, ..., 1000: quintiles 280, 460, 640, 820 lie above the round edges 200 and 500."""
    prices = np.arange(100, 1_001, 100, dtype=np.int64)
    assert price_ranges(np.append(prices, 0)) == [(0, 199, 1), (200, 499, 3), (500, None, 6)]
    assert price_ranges(np.zeros(3, dtype=np.int64)) == []


@given(st.lists(st.integers(0, 10_000_000), max_size=60))
def test_price_ranges_count_every_known_price_once(prices: list[int]) -> None:
    """Ranges touch, do not overlap, and their counts are those of a filter with their ends."""
    values = np.array(prices, dtype=np.int64)
    found = price_ranges(values)
    assert sum(n for *_, n in found) == int((values > 0).sum())
    for low, high, n in found:
        assert n == int(((values > 0) & (values >= low) & ((values <= high) if high is not None else True)).sum())
