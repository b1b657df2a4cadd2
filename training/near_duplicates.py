"""Texts that say the same in nearly the same letters: one group, one annotation, one side of a split."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from feature_repo.text import normalise_query

SIMILARITY: Final = 0.8
"""Cosine of two texts' sets of character 2- to 4-grams from which on they are near-duplicates."""
_SLICE: Final = 1000
_ROUNDING: Final = 1e-6


def groups(texts: Sequence[str], similarity: float = SIMILARITY) -> NDArray[np.int64]:
    """(n,) position of the first text of each text's group.

    Two texts are in one group when a chain of texts at least so similar joins them, or when search reads them alike.
    How similar two texts are does not depend on the others.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not texts:
        return np.empty(0, np.int64)
    kept = list(dict.fromkeys(texts))
    grams = _grams(kept)
    firsts: dict[str, int] = {}
    alike = [firsts.setdefault(normalise_query(text) or text, at) for at, text in enumerate(kept)]
    joined = coo_array((np.ones(len(kept), np.float32), (np.arange(len(kept)), alike)), shape=grams.shape[:1] * 2)
    _, part = connected_components(_near(grams, grams, similarity) + joined, directed=False)
    part_of = dict(zip(kept, part.tolist(), strict=True))
    first_of: dict[int, int] = {}
    return np.asarray([first_of.setdefault(part_of[text], at) for at, text in enumerate(texts)], np.int64)


def crossing(left: Sequence[str], right: Sequence[str], similarity: float = SIMILARITY) -> list[tuple[str, str]]:
    """Pairs of a text of `left` and a near-duplicate of it in `right`."""
    if not left or not right:
        return []
    grams = _grams([*left, *right])
    found = _near(grams[: len(left)], grams[len(left) :], similarity).tocoo()
    return [(left[i], right[j]) for i, j in zip(found.row, found.col, strict=True)]


def _grams(texts: Sequence[str]) -> Any:
    """(n, features) sparse rows of length 1; a text of nothing but spaces has none."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.preprocessing import normalize

    counted = CountVectorizer(analyzer=_shingles, binary=True, dtype=np.float32).fit_transform([*texts, "x"])
    return normalize(counted[:-1]).tocsr()


def _shingles(text: str) -> list[str]:
    padded = f" {' '.join(text.casefold().split())} "
    return [padded[at : at + n] for n in (2, 3, 4) for at in range(max(0, len(padded) - n + 1))]


def _near(left: Any, right: Any, similarity: float) -> Any:
    """(n, m) sparse: pairs at least so similar; a slice of rows at a time keeps memory low."""
    from scipy.sparse import vstack

    parts = []
    for at in range(0, left.shape[0], _SLICE):
        part = (left[at : at + _SLICE] @ right.T).tocsr()
        part.data[part.data < similarity - _ROUNDING] = 0
        part.eliminate_zeros()
        parts.append(part)
    return vstack(parts)
