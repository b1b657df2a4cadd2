"""Hard negatives: texts that look right to BM25 or to the encoder of today, and are not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, PositiveFloat, PositiveInt
from scipy import sparse

from feature_repo.search_text import search_tokens
from training.index import IndexConfig, bm25_impacts

_AT_ONCE: Final = 256
"""Queries scored together against every text."""


class MiningConfig(BaseModel, frozen=True, extra="forbid"):
    """Which texts become hard negatives."""

    seed: int = 0
    """Of the draw among the candidates."""
    depth: PositiveInt = 50
    """Texts taken from BM25 and from the encoder for each query, best first."""
    max_ratio: PositiveFloat = 0.95
    """A text whose cosine reaches this share of the positive's is taken for a right answer nobody marked."""
    same_group_ratio: PositiveFloat = 0.8
    """The same for texts of the positive's own group, where unmarked right answers are likely."""


@dataclass(frozen=True, slots=True)
class Texts:
    """What is searched."""

    texts: Sequence[str]
    """(n,) distinct texts."""
    vectors: NDArray[np.float32]
    """(n, d) unit vectors of today's encoder."""
    groups: Sequence[str]
    """(n,) group of each; empty where none is known."""


def mine(
    queries: Sequence[str],
    query_vectors: NDArray[np.float32],
    positives: Sequence[int],
    known: pd.Series,
    over: Texts,
    config: MiningConfig,
) -> NDArray[np.int64]:
    """(len(queries),) row of a hard negative for each query, -1 where every candidate may be right.

    Args:
        queries: as asked.
        query_vectors: (len(queries), d) by the encoder of `over.vectors`.
        positives: row of the right text of each query.
        known: query -> set of the rows that are right for it.
        over: the texts.
        config: what counts as a negative.
    """
    rng = np.random.default_rng(config.seed)
    keyword = _Keyword(over.texts)
    groups = np.array(over.groups, dtype=object)
    tokens = [set(search_tokens(text)) for text in over.texts]
    found = np.full(len(queries), -1, dtype=np.int64)
    for start in range(0, len(queries), _AT_ONCE):
        some = range(start, min(start + _AT_ONCE, len(queries)))
        cosines = query_vectors[some.start : some.stop] @ over.vectors.T
        impacts = keyword.scores([queries[at] for at in some])
        for at, cosine, impact in zip(some, cosines, impacts, strict=True):
            positive = positives[at]
            near = np.union1d(_best(cosine, config.depth), _best(impact, config.depth))
            group = groups[positive]
            ratio = np.where((groups[near] == group) & (group != ""), config.same_group_ratio, config.max_ratio)
            words = set(search_tokens(queries[at]))
            left = [
                int(row)
                for row, wrong in zip(near, cosine[near] < ratio * cosine[positive], strict=True)
                if wrong and row not in known[queries[at]] and not words <= tokens[row]
            ]
            found[at] = left[int(rng.integers(len(left)))] if left else -1
    return found


class _Keyword:
    """BM25 over the texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        docs = [search_tokens(text) for text in texts]
        words = sorted({word for doc in docs for word in doc})
        self._column = {word: at for at, word in enumerate(words)}
        self._impacts = bm25_impacts(docs, words, IndexConfig())

    def scores(self, queries: Sequence[str]) -> NDArray[np.float32]:
        """(len(queries), n) BM25 scores."""
        at = [
            (row, self._column[word])
            for row, query in enumerate(queries)
            for word in dict.fromkeys(search_tokens(query))
            if word in self._column
        ]
        rows, columns = zip(*at, strict=True) if at else ((), ())
        shape = (len(queries), len(self._column))
        asked = sparse.csr_matrix((np.ones(len(at), np.float32), (rows, columns)), shape=shape)
        return np.asarray((asked @ self._impacts.T).toarray(), np.float32)


def _best(scores: NDArray[np.float32], depth: int) -> NDArray[np.int64]:
    """Rows of the greatest scores above zero, in no order."""
    depth = min(depth, scores.size)
    top = np.argpartition(-scores, depth - 1)[:depth]
    return top[scores[top] > 0]
