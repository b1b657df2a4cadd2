"""How well a search answers judged queries: one row of scores per query, over whatever path is handed in.

Intervals and verdicts belong to monitoring.statistics. The baseline, misspelt queries and folds are here too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from feature_repo.search_text import FIELDS
from feature_repo.text import product_name, without_markup
from serving.runtime.keyword import IndexConfig, KeywordIndex, Postings
from serving.runtime.search import SearchEngine
from serving.runtime.understanding import Understanding, as_written

K: Final = 10
"""Cut-off of nDCG and of judged@10, in positions."""
DEPTH: Final = 1000
"""Products read of each answer, so that nearly every judged one has a place in it."""
SCORES: Final = ("ndcg_at_10", "ndcg_judged", "judged_at_10", "found")
"""Columns of scores, in their order."""
FOLDS: Final = 5
"""Parts of the queries: what is learned on four is measured on the fifth."""
NO_RESULT: Final = "no-result"
"""Slice of a golden set: queries that nothing answers."""
OTHERWISE_WRITTEN: Final = frozenset({"typo", "hinglish", NO_RESULT})
"""Slices of a golden set that get no typo: they have theirs, or no answer to keep."""
MISSPELT: Final = "misspelt (simulated)"
"""The slice of queries that `misspelt` made of the other ones."""
_NAMED: Final = ("name", "product_type", "package_size", "brand", "category", "department")
"""Columns that a product's name is made of."""
_TYPO_FROM: Final = 5
"""Letters of the shortest word that gets a typo."""

Search = Callable[[str], Sequence[str]]
"""A query in, product ids out, best first."""


@dataclass(frozen=True, slots=True)
class Judgments:
    """What people said of products for queries."""

    grades: Mapping[str, Mapping[str, int]]
    """Query -> product id -> grade, 0 (wrong) to 4."""
    slices: Mapping[str, str]
    """Query -> the slice that it belongs to."""

    @property
    def relevant(self) -> list[str]:
        """The queries that something answers."""
        return [query for query, grades in self.grades.items() if max(grades.values(), default=0) > 0]

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Judgments:
        """From columns query, product_id, grade and slice: a row per pair; no product_id where nothing answers."""
        grades: dict[str, dict[str, int]] = {}
        for query, product_id, grade in frame[["query", "product_id", "grade"]].itertuples(index=False):
            judged = grades.setdefault(str(query), {})
            if product_id:
                judged[str(product_id)] = int(grade)
        slices = frame.drop_duplicates("query")
        return cls(grades, dict(zip(slices["query"].astype(str), slices["slice"].astype(str), strict=True)))


def score(search: Search, judgments: Judgments, ask: Callable[[str], str] = lambda query: query) -> pd.DataFrame:
    """One row per query that has something relevant, by query.

    Args:
        search: the path to measure.
        judgments: what is right.
        ask: the query as it is asked, such as `misspelt`; judged as the one it comes from.

    Returns:
        Columns query, slice and SCORES: nDCG@10 with unjudged products as wrong, nDCG@10 of the judged products alone,
        share of the first 10 places held by judged ones, and products found (up to DEPTH).
    """
    rows = []
    for query in sorted(judgments.relevant):
        found = list(search(ask(query)))[:DEPTH]
        rows.append((query, judgments.slices[query], *_scores(found, judgments.grades[query]), len(found)))
    return pd.DataFrame(rows, columns=["query", "slice", *SCORES])


def _scores(found: Sequence[str], grades: Mapping[str, int]) -> tuple[float, float, float]:
    every = ndcg([grades.get(product, 0) for product in found], list(grades.values()))
    judged = ndcg([grades[product] for product in found if product in grades], list(grades.values()))
    return every, judged, sum(product in grades for product in found[:K]) / K


def ndcg(served: Sequence[int], known: Sequence[int], k: int = K) -> float:
    """nDCG@k in [0, 1] of grades in served order, with gains 2^grade - 1; NaN when nothing known is relevant.

    Args:
        served: grades in served order.
        known: the grades of all that is judged, in any order: the ideal list.
        k: cut-off in positions.

    Source: Burges et al., ICML 2005 (gains); Jarvelin & Kekalainen, TOIS 2002 (discount log2(rank + 1)).
    """
    ideal = _dcg(sorted(known, reverse=True), k)
    return _dcg(served, k) / ideal if ideal > 0 else float("nan")


def _dcg(grades: Sequence[int], k: int) -> float:
    gains = np.exp2(np.asarray(grades[:k], dtype=np.float64)) - 1
    return float(gains @ (1 / np.log2(np.arange(2, gains.size + 2))))


def served(engine: SearchEngine, understand: Callable[[str], Understanding] = as_written, *, n: int = DEPTH) -> Search:
    """The served path of a release."""

    def search(query: str) -> list[str]:
        return [str(engine.shelf.product_ids[row]) for row in engine.search(understand(query), n=n).rows]

    return search


def bm25(products: pd.DataFrame) -> Search:
    """The baseline: stemmed BM25 over name and description as one text.

    Args:
        products: clean/products: product_id and what a name is made of, `_NAMED`; description where the shop has it.
    """
    described = products["description"] if "description" in products else pd.Series("", index=products.index)
    texts = zip(_names(products), described.fillna(""), strict=True)
    docs = [("", "", "", "", without_markup(f"{name} {text}")) for name, text in texts]
    flat = dict.fromkeys(FIELDS, 1.0)
    config = IndexConfig(k1=1.2, weights=flat, b=dict.fromkeys(FIELDS, 0.75))
    postings, statistics = Postings.of(docs, config)
    at = np.arange(len(docs), dtype=np.int32)
    ids = products["product_id"].astype(str).tolist()
    index = KeywordIndex(ids, at, at, postings, statistics, config, "", {})

    def search(query: str) -> list[str]:
        known = tuple(term for term in as_written(query).terms if term.word in index.column)
        return [ids[doc] for doc in index.top(known, DEPTH).docs]

    return search


def _names(products: pd.DataFrame) -> list[str]:
    """What a shopper reads: the shop's own names, composed ones where it has none."""
    told = products.reindex(columns=list(_NAMED)).astype(object)
    told = told.where(told.notna(), None)
    rows = told.itertuples(index=False, name=None)
    return [product_name(**dict(zip(_NAMED, row, strict=True))) for row in rows]


def misspelt(query: str) -> str:
    """The query with one edit in each word of five letters or more; always the same one for the same word.

    One of: a letter left out, doubled, replaced by its neighbour on the keyboard, or swapped with the next.
    """
    return " ".join(_typo(word) for word in query.split())


def gets_typo(judgments: Judgments, query: str) -> bool:
    """Whether a judged query is one that `misspelt` changes, and that is not OTHERWISE_WRITTEN."""
    return judgments.slices[query] not in OTHERWISE_WRITTEN and misspelt(query) != query


_NEIGHBOUR: Final = dict(zip("qwertyuiopasdfghjklzxcvbnm", "wertyuioiosdfghjkjkxcvbnbn", strict=True))


def _typo(word: str) -> str:
    if len(word) < _TYPO_FROM or not (word.isascii() and word.isalpha()):
        return word
    drawn = hashlib.sha256(word.encode()).digest()
    at = drawn[0] % len(word)
    swapped = word[:at] + word[at + 1 : at + 2] + word[at] + word[at + 2 :]
    made: tuple[str, ...] = (
        word[:at] + word[at + 1 :],
        word[:at] + word[at] + word[at:],
        word[:at] + _NEIGHBOUR.get(word[at], "e") + word[at + 1 :],
        swapped,
    )
    start = drawn[1] % len(made)
    return next(each for each in made[start:] + made[:start] if each != word)


def folds(queries: Sequence[str], n: int = FOLDS) -> dict[str, int]:
    """Query -> its fold in [0, n): the queries in the order of their hashes, dealt out in turn."""
    ordered = sorted(queries, key=lambda query: (hashlib.sha256(query.encode()).digest(), query))
    return {query: at % n for at, query in enumerate(ordered)}


def cross_fitted(
    fit: Callable[[Judgments], Search],
    judgments: Judgments,
    n: int = FOLDS,
    ask: Callable[[str], str] = lambda query: query,
) -> Iterator[pd.DataFrame]:
    """Scores of each fold's queries under what `fit` made of the other folds' judgments."""
    fold = folds(list(judgments.grades), n)
    for held in range(n):
        inside = {query for query in judgments.grades if fold[query] == held}
        yield score(fit(_only(judgments, judgments.grades.keys() - inside)), _only(judgments, inside), ask)


def _only(judgments: Judgments, queries: set[str]) -> Judgments:
    return Judgments(
        {query: grades for query, grades in judgments.grades.items() if query in queries}, judgments.slices
    )
