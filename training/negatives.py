"""Hard negatives: texts that look right to BM25 or to the encoder in use, and are not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, PositiveFloat, PositiveInt
from scipy import sparse

from feature_repo.search_text import FIELDS, search_tokens
from serving.runtime.encoder import Encoder
from serving.runtime.keyword import IndexConfig, Postings

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
    """(n, d) unit vectors of the encoder in use."""
    groups: Sequence[str]
    """(n,) group of each; empty where none is known."""


def triplets(pairs: pd.DataFrame, encoder: Encoder, over: Texts, config: MiningConfig) -> pd.DataFrame:
    """Columns anchor, positive and negative: the pairs for which a hard negative was found.

    Args:
        pairs: columns query and text; each text is one of `over`.
        encoder: that of `over.vectors`.
        over: the texts.
        config: what counts as a negative.
    """
    row = {text: at for at, text in enumerate(over.texts)}
    asked = pairs[["query", "text"]].assign(positive=pairs["text"].map(row))
    at, queries = pd.factorize(asked["query"])
    found = mine(asked, encoder.encode_all(queries.tolist())[at], over, config)
    made = asked.assign(negative=[over.texts[at] for at in found])[found >= 0]  # of -1: any, and gone
    named = made.rename(columns={"query": "anchor"}).drop(columns="positive").rename(columns={"text": "positive"})
    return named.reset_index(drop=True)


def mine(asked: pd.DataFrame, vectors: NDArray[np.float32], over: Texts, config: MiningConfig) -> NDArray[np.int64]:
    """(len(asked),) row of a hard negative for each query, -1 where every candidate may be right.

    A candidate may be right when it is another positive of the query, holds every word of it, or is nearly as close to
    it as the positive.

    Args:
        asked: columns query and positive, the row of the right text.
        vectors: (len(asked), d) of the queries, by the encoder of `over.vectors`.
        over: the texts.
        config: what counts as a negative.
    """
    rng = np.random.default_rng(config.seed)
    keyword = _Keyword(over.texts)
    groups = np.array(over.groups, dtype=object)
    tokens = [set(search_tokens(text)) for text in over.texts]
    right = asked.groupby("query")["positive"].agg(set)
    queries, positives = asked["query"].tolist(), asked["positive"].tolist()
    found = np.full(len(queries), -1, dtype=np.int64)
    for start in range(0, len(queries), _AT_ONCE):
        some = range(start, min(start + _AT_ONCE, len(queries)))
        cosines = vectors[some.start : some.stop] @ over.vectors.T
        impacts = keyword.scores([queries[at] for at in some])
        for at, cosine, impact in zip(some, cosines, impacts, strict=True):
            near = np.union1d(_best(cosine, config.depth), _best(impact, config.depth))
            group = groups[positives[at]]
            ratio = np.where((groups[near] == group) & (group != ""), config.same_group_ratio, config.max_ratio)
            words = set(search_tokens(queries[at]))
            left = [
                int(row)
                for row in near[cosine[near] < ratio * cosine[positives[at]]]
                if row not in right[queries[at]] and not words <= tokens[row]
            ]
            found[at] = left[int(rng.integers(len(left)))] if left else -1
    return found


class _Keyword:
    """BM25 over the texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        fields = [(text, *[""] * (len(FIELDS) - 1)) for text in texts]
        postings, _ = Postings.of(fields, IndexConfig())
        self._column = {word: at for at, word in enumerate(postings.words)}
        parts = (postings.impacts, postings.docs, postings.indptr)
        self._impacts = sparse.csc_matrix(parts, shape=(len(texts), len(postings.words)))

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
