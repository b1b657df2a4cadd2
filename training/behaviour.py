"""Behaviours that a shopper takes for granted, measured through the served path: what gates an index beside nDCG."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from feature_repo.text import query_text
from serving.runtime.query.lexicon import Lexicon, phrases
from serving.runtime.query.prices import like_years, price_bounds
from serving.runtime.search import SearchResult
from serving.runtime.shelf import Shelf
from training.errors import IndexNotGood
from training.search_jobs import Loaded
from training.search_quality import DEPTH, MISSPELT, NO_RESULT, Judgments, K, gets_typo, misspelt

MIN_TYPO_KEPT: Final = 0.7
"""Share of the first K products that one edit per long word must leave in place. Corrections are made only when
sure, so some words are never corrected ("erbuds") or become others ("iphone" -> "phone"). Measured: chorus 0.93,
complete_journey 0.80; without spelling correction 0.36 and 0.34."""
MIN_SYNONYM_KEPT: Final = 0.6
"""Share of the first K products for a word that its equal must find among its first WITHIN. Not the first K: the word
as written counts more than its equal, so who says "television" sees those first. Measured: chorus 0.90,
complete_journey 0.80; without synonyms 0.52 and 0.30."""
MIN_TRANSLATED_KEPT: Final = 0.8
"""The same for a word that the shop does not know, which is replaced by what it means: the first K for both.
Measured: chorus 0.93, complete_journey 1.00; without synonyms 0.54 and 0.64."""
WITHIN: Final = 100
"""Places among which a synonym must find what its equal finds first."""
MIN_PRICED: Final = 1.0
"""Share of queries with a price bound whose every answer is inside it: a shopper forgives no exception."""
MIN_BRAND_LEADS: Final = 0.9
"""Share of the first BRAND_PLACES places that a query of a brand alone gives to that brand. Measured: 1.00 in both
shops; less than 1 is needed because a brand may be a common word."""
BRAND_PLACES: Final = 3
BRANDS: Final = 20
"""Brands asked for, the most frequent first."""
CATEGORIES: Final = 10
"""Categories whose prices are asked for, the most frequent first."""
PAIRS: Final = 150
"""Pairs of words compared, each kind; drawn by hash where a shop has more."""
EXAMPLES: Final = 5
"""Queries that a failing behaviour names."""

Answer = Callable[[str, int], tuple[SearchResult, list[str]]]
"""A query and the length of the page in; the gateway's answer and what it gave up to find it."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What was found of one behaviour."""

    name: str
    found: float
    """Mean over the queries, in [0, 1]; NaN without any."""
    queries: int
    needed: float
    examples: Sequence[str]
    """What went worst, the worst first."""
    why_none: str
    """What the shop lacks when there was nothing to ask."""

    @classmethod
    def of(cls, name: str, results: Iterable[tuple[float, str]], needed: float, why_none: str) -> Behaviour:
        """From (score in [0, 1], what happened) of each query."""
        ranked = sorted(results)
        found = float(np.mean([score for score, _ in ranked])) if ranked else float("nan")
        worst = [said for score, said in ranked if score < 1][:EXAMPLES]
        return cls(name, found, len(ranked), needed, worst, why_none)

    @property
    def holds(self) -> bool:
        """Whether enough was found; nothing to ask is no failure."""
        return not self.queries or self.found >= self.needed

    def __str__(self) -> str:
        if not self.queries:
            return f"not checked: {self.why_none}"
        bar = f"needed {self.needed:.2f}" if self.needed else "no bar of its own"
        return f"{self.found:.3f} of {self.queries} queries, {bar}"


def behaviours(search: Loaded, golden: Judgments | None) -> list[Behaviour]:
    """All of them; what a shop without synonyms, brands, prices or golden set lacks is not checked, and says so.

    Args:
        search: as it would be served.
        golden: the shop's judged queries.
    """
    return [
        typos(search.answer, golden),
        *synonyms(search.answer, search.lexicon, golden),
        prices(search.answer, search.engine.shelf, search.lexicon),
        brands(search.answer, search.engine.shelf),
        unanswered(search.answer, golden),
    ]


def refuse_misbehaving(found: Sequence[Behaviour]) -> None:
    """Raise IndexNotGood for the behaviours that do not hold, with the queries that went worst."""
    failing = [each for each in found if not each.holds]
    if failing:
        said = "; ".join(f"{each.name}: {each}, worst: {'; '.join(each.examples)}" for each in failing)
        raise IndexNotGood(
            f"the new index misbehaves, the live one stays. {said}. See docs/search.md, What gates an index"
        )


def typos(answer: Answer, golden: Judgments | None) -> Behaviour:
    """Golden queries with one edit in each long word, against the queries as written."""
    queries = [] if golden is None else [query for query in sorted(golden.slices) if gets_typo(golden, query)]
    pairs = [(query, misspelt(query)) for query in queries]
    none = "the shop has no golden set with a word to misspell"
    return Behaviour.of("typos", _kept(answer, pairs, K), MIN_TYPO_KEPT, none)


def synonyms(answer: Answer, lexicon: Lexicon | None, golden: Judgments | None) -> list[Behaviour]:
    """A word, alone and in golden queries, against its equal: one that the shop knows too, and one that it does not."""
    known: list[tuple[str, str]] = []
    unknown: list[tuple[str, str]] = []
    if lexicon is not None:
        for query, equal, word in _equals(lexicon, golden):
            (known if _knows(lexicon, word) else unknown).append((query, equal))
    none = "no word of the catalogue has "
    return [
        Behaviour.of("synonyms", _kept(answer, _some(known), WITHIN), MIN_SYNONYM_KEPT, none + "an equal in it"),
        Behaviour.of(
            "translations", _kept(answer, _some(unknown), K), MIN_TRANSLATED_KEPT, none + "an equal outside it"
        ),
    ]


def prices(answer: Answer, shelf: Shelf, lexicon: Lexicon | None) -> Behaviour:
    """Categories asked for below, above and between two of their own prices: each answer is inside the bounds."""
    results = []
    if lexicon is not None:
        for query, low, high in _priced_queries(shelf, lexicon.data.minor_digits):
            found, given_up = answer(query, DEPTH)
            price = shelf.price_minor[found.rows]
            outside = found.rows[(price <= 0) | (price < low) | (price > high)]
            said = ""
            if given_up or not len(found.rows):
                said = f"{query!r} found nothing inside its bounds, where the category has products"
            elif len(outside):
                first = outside[0]
                said = f"{query!r} shows {shelf.product_ids[first]} at {shelf.price_minor[first]} minor units"
            results.append((float(not said), said))
    return Behaviour.of("prices", results, MIN_PRICED, "no category has prices")


def brands(answer: Answer, shelf: Shelf) -> Behaviour:
    """The most frequent brands by their names alone: the first places are theirs."""
    stocked = shelf.brand[shelf.in_stock != 0]  # what is sold out comes last, whatever it is
    held = Counter(brand for brand in stocked.tolist() if query_text(brand))
    results = []
    for brand, products in held.most_common(BRANDS):
        if products >= BRAND_PLACES:
            first = [str(shelf.brand[row]) for row in answer(brand, BRAND_PLACES)[0].rows]
            results.append((first.count(brand) / BRAND_PLACES, f"{brand!r} leads with {first}"))
    return Behaviour.of(
        "brands", results, MIN_BRAND_LEADS, f"no brand has {BRAND_PLACES} products that are not sold out"
    )


def unanswered(answer: Answer, golden: Judgments | None) -> Behaviour:
    """Golden queries that nothing answers: search shows nothing, or says what it gave up.

    No bar of its own: what gates is the share of the live release (`answered`).
    """
    results = []
    for query, name in sorted(({} if golden is None else golden.slices).items()):
        if name == NO_RESULT:
            found, given_up = answer(query, K)
            results.append((float(not len(found.rows) or bool(given_up)), f"{query!r} shows {len(found.rows)}"))
    return Behaviour.of("no result", results, 0.0, "the shop has no golden set with such queries")


def answered(answer: Answer, golden: Judgments, held: Collection[str]) -> pd.DataFrame:
    """Whether each golden query is answered as it must be: columns query, slice and answered (0 or 1).

    1 where the first page shows a product; of NO_RESULT, where it shows none or says what was given up. Queries that
    get a typo are there once more, misspelt, as the slice MISSPELT.

    Args:
        answer: the gateway's path.
        golden: the shop's judged queries.
        held: products that count; a page of others shows none.
    """
    rows = [(query, name, query) for query, name in sorted(golden.slices.items())]
    rows += [(query, MISSPELT, misspelt(query)) for query, _, _ in rows if gets_typo(golden, query)]
    found = []
    for query, name, asked in rows:
        page, given_up = answer(asked, K)
        shows = any(str(page.shelf.product_ids[row]) in held for row in page.rows)
        found.append((query, name, float(bool(given_up) or not shows if name == NO_RESULT else shows)))
    return pd.DataFrame(found, columns=["query", "slice", "answered"])


def _kept(answer: Answer, pairs: Iterable[tuple[str, str]], depth: int) -> Iterator[tuple[float, str]]:
    """Share of the first K products of the one query that are among the first `depth` of the other."""
    for one, other in pairs:
        first = set(answer(one, K)[0].rows.tolist())
        kept = len(first.intersection(answer(other, depth)[0].rows.tolist())) / max(len(first), 1)
        yield kept, f"{other!r} keeps {kept:.2f} of {one!r}"


def _equals(lexicon: Lexicon, golden: Judgments | None) -> list[tuple[str, str, str]]:
    """(query in words of the shop, the same with an equal, that equal), golden queries first."""
    stands_for: dict[str, list[str]] = {}
    for word, meant in lexicon.data.synonyms.items():
        for each in meant:
            if _knows(lexicon, each):
                stands_for.setdefault(each, []).append(word)
    found = []
    for query in [*sorted({} if golden is None else golden.grades), *sorted(stands_for)]:
        words = query_text(query).split()
        for at in phrases(words, stands_for, lexicon.longest_phrase):
            start, end = words[: at.start], words[at.end :]
            found += [(query, " ".join([*start, equal, *end]), equal) for equal in at.value]
    return list(dict.fromkeys(found))


def _knows(lexicon: Lexicon, phrase: str) -> bool:
    return all(lexicon.knows(word) for word in phrase.split())


def _some(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return sorted(pairs, key=lambda pair: hashlib.sha256("|".join(pair).encode()).digest())[:PAIRS]


def _priced_queries(shelf: Shelf, digits: int) -> Iterator[tuple[str, int, float]]:
    """(query, least, greatest price in minor units) that at least one product of the category named is inside of.

    Left out is what says a price after other names and none after this one ("Toys by age over 8").
    """
    unit = 10**digits
    priced = shelf.price_minor > 0
    names = Counter(name for name in shelf.category[priced].tolist() if _names_no_price(name, digits))
    for name, _ in names.most_common(CATEGORIES):
        low, high = np.quantile(shelf.price_minor[priced & (shelf.category == name)], (0.25, 0.75))
        least, most = int(low // unit), int(-(-high // unit))
        asked = [(f"{name} under {most}", None, most * unit)]
        if least:
            asked.append((f"{name} over {least}", least * unit, None))
            if not like_years(least, most):
                asked.append((f"{name} between {least} and {most}", least * unit, most * unit))
        for query, at_least, at_most in asked:
            elsewhere = price_bounds(f"item {query.removeprefix(name)}", digits)
            if price_bounds(query.casefold(), digits) is not None or elsewhere is None:
                yield query, at_least or 0, float("inf") if at_most is None else at_most


def _names_no_price(name: str, digits: int) -> bool:
    """Whether a category's name can be asked for with a price: it has words, and states no bound itself."""
    return bool(query_text(name)) and price_bounds(name.casefold(), digits) is None
