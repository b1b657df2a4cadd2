"""Queries that say nearly the same: what was learned of one would be known of the other."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from feature_repo.search_text import search_tokens
from training.datasets.by_group import LeakageFound

SIMILAR: Final = 0.6
"""Two queries are near-duplicates when they share at least this much (Jaccard) of their stems or of the letter trigrams
of their stems: "camera cases" and "camera case", "head set" and "headset", "gaming mouse pad" and "gaming mouse"."""
_EXAMPLES: Final = 3
_AT_ONCE: Final = 10_000
"""Queries compared at a time, so that memory does not grow with their number."""


def near_duplicates(queries: Sequence[str], held: Iterable[str]) -> NDArray[np.bool_]:
    """(len(queries),) whether each is a near-duplicate of one of `held`, by SIMILAR."""
    others = sorted(set(held))
    found = np.zeros(len(queries), dtype=bool)
    if not others:
        return found
    for at in range(0, len(queries), _AT_ONCE):
        some = queries[at : at + _AT_ONCE]
        nearest = np.maximum(_overlap(some, others, _stems), _overlap(some, others, _trigrams))
        found[at : at + len(some)] = nearest >= SIMILAR
    return found


def refuse_leaks(queries: Sequence[str], held: Iterable[str]) -> None:
    """Nothing, unless a query is a near-duplicate of one that the result will be judged by.

    Raises:
        LeakageFound: with examples.
    """
    leaks = near_duplicates(queries, held)
    if leaks.any():
        some = sorted({queries[at] for at in np.flatnonzero(leaks).tolist()})
        raise LeakageFound(
            f"{int(leaks.sum()):,} training pairs have a query that is nearly one of those kept for judging, e.g. "
            f"{some[:_EXAMPLES]} (similarity at least {SIMILAR}); build the pairs again: training.pairs leaves them out"
        )


def _stems(query: str) -> set[str]:
    return set(search_tokens(query))


def _trigrams(query: str) -> set[str]:
    text = f"^{''.join(search_tokens(query))}$"
    return {text[at : at + 3] for at in range(len(text) - 2)}


def _overlap(queries: Sequence[str], others: Sequence[str], parts: Callable[[str], set[str]]) -> NDArray[np.float64]:
    """(len(queries),) greatest Jaccard overlap of each with one of `others`."""
    known = [parts(each) for each in others]
    column = {part: at for at, part in enumerate(sorted(set().union(*known)))}
    asked = [parts(each) for each in queries]
    left, right = _membership(asked, column), _membership(known, column)
    shared = (left @ right.T).toarray()
    sizes = np.array([[len(each)] for each in asked]) + np.array([len(each) for each in known])
    return np.asarray((shared / np.maximum(sizes - shared, 1)).max(axis=1))


def _membership(sets: Sequence[set[str]], column: dict[str, int]) -> sparse.csr_matrix:
    rows = [(row, column[part]) for row, each in enumerate(sets) for part in each if part in column]
    at = np.array(rows, dtype=np.int64).reshape(-1, 2)
    return sparse.csr_matrix((np.ones(len(at)), (at[:, 0], at[:, 1])), shape=(len(sets), len(column)))
