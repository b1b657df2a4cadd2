"""One index with its products: the catalogue of a release, or what changed since. Pure."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from data_contracts.errors import ArtefactRefused
from serving.runtime.fusion import Found
from serving.runtime.keyword import KeywordIndex, Passes
from serving.runtime.shelf import Shelf
from serving.runtime.understanding import Term

KEYWORD_DOCS: Final = 500
"""Product texts taken from the keyword index: so many of all, and so many of those that pass the filters."""
PHRASE_DOCS: Final = 4 * KEYWORD_DOCS
"""The same for words in quotes: of those that hold them, so many are read for whether they stand side by side."""
VECTOR_TEXTS: Final = 100
"""Texts taken from the vector index: so many of all, and so many of those that pass the filters."""
FILTERED_FROM: Final = 10 * VECTOR_TEXTS
"""Nearest texts among which those that pass the filters are looked for."""
MIN_COSINE: Final = 0.35
"""Below this similarity a text has nothing to do with the query."""

Rows = NDArray[np.int32]
Scores = NDArray[np.float32]


class Part:
    """Both indexes over some products."""

    def __init__(self, keyword: KeywordIndex, vectors: Any, shelf: Shelf) -> None:
        if list(keyword.product_ids) != list(shelf.product_ids):
            raise ArtefactRefused(
                "the keyword index and the product features list different products; rebuild the index"
            )
        if vectors.ntotal <= int(keyword.text_of_product.max(initial=-1)):
            raise ArtefactRefused(
                f"the vector index holds {vectors.ntotal} texts, the keyword index names more; rebuild the index"
            )
        self.keyword = keyword
        self.vectors = vectors
        self.shelf = shelf
        self._by_doc = _Groups.of(keyword.doc_of_product, keyword.n_docs)
        self._by_text = _Groups.of(keyword.text_of_product, vectors.ntotal)

    def candidates(
        self, terms: tuple[Term, ...], query: Scores | None, passes: Passes | None = None, *, quoted: bool = False
    ) -> tuple[Rows, Found]:
        """The rows that words or meaning find, ascending, and what each stage says of them.

        Args:
            terms: the query's words.
            query: (d,) its unit vector; None: by words alone.
            passes: which rows the request's filters let through, whose best are taken too; None: all of them.
            quoted: words of the query stand in quotes.
        """
        docs = PHRASE_DOCS if quoted else KEYWORD_DOCS
        hits = self.keyword.top(terms, docs, None if passes is None else self._docs_that(passes))
        by_word, group = self._by_doc.members(hits.docs)
        near = self._near(query, passes) if query is not None else np.empty(0, np.int32)
        rows = np.union1d(by_word, near).astype(np.int32)
        at = np.searchsorted(rows, by_word)
        keyword = np.full(len(rows), np.nan, dtype=np.float32)
        keyword[at] = hits.scores[group]
        covered = np.zeros((3, len(rows)), dtype=np.float32)
        covered[:, at] = hits.covered[:, group] / hits.whole
        vector = np.full(len(rows), np.nan, dtype=np.float32)
        if query is not None and len(rows):
            vector = self.vectors.reconstruct_batch(self.keyword.text_of_product[rows].astype(np.int64)) @ query
        share = np.nan_to_num(keyword) / np.float32(hits.whole)
        return rows, Found(keyword, vector, np.isin(rows, near), self.shelf.popularity[rows], covered, share)

    def holding(self, rows: Rows, words: Collection[str]) -> NDArray[np.bool_]:
        """(len(rows),) whether the product's text holds every one of some stems."""
        return np.isin(self.keyword.doc_of_product[rows], self.keyword.holding(words))

    def _docs_that(self, passes: Passes) -> Passes:
        """Which documents are the text of a product that passes."""

        def held(docs: Rows) -> NDArray[np.bool_]:
            rows, group = self._by_doc.members(docs)
            return np.bincount(group[passes(rows)], minlength=len(docs)) > 0

        return held

    def _near(self, query: Scores, passes: Passes | None) -> Rows:
        """Rows whose text is among the nearest of all, or among the nearest that pass."""
        near = self.nearest(query, VECTOR_TEXTS)[0]
        if passes is None:
            return near
        wide, cosines = self.nearest(query, FILTERED_FROM)
        kept = np.flatnonzero(passes(wide))
        more = wide[kept[np.argsort(-cosines[kept], kind="stable")][:VECTOR_TEXTS]]
        return np.union1d(near, more).astype(np.int32)

    def nearest(self, query: Scores, k: int, floor: float = MIN_COSINE) -> tuple[Rows, Scores]:
        """Rows whose text is among the k nearest to a (d,) unit vector, and their cosines, `floor` at least."""
        cosines, texts = self.vectors.search(query[None, :], min(k, self.vectors.ntotal))
        close = (cosines[0] >= floor) & (texts[0] >= 0)
        rows, group = self._by_text.members(texts[0][close].astype(np.int32))
        return rows, cosines[0][close].astype(np.float32)[group]

    def vector(self, row: int) -> Scores:
        """(d,) the vector of a product's text."""
        return np.asarray(self.vectors.reconstruct(int(self.keyword.text_of_product[row])), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class _Groups:
    """Products by group (a text): CSR over group ids."""

    order: Rows
    start: NDArray[np.int64]

    @classmethod
    def of(cls, group: Rows, n_groups: int) -> Self:
        counts = np.bincount(group, minlength=n_groups)
        start = np.concatenate([[0], np.cumsum(counts)])
        return cls(np.argsort(group, kind="stable").astype(np.int32), start)

    def members(self, groups: Rows) -> tuple[Rows, NDArray[np.int64]]:
        """All members of `groups`, and for each the position of its group in `groups`."""
        sizes = self.start[groups + 1] - self.start[groups]
        position = np.repeat(np.arange(len(groups)), sizes)
        within = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return self.order[np.repeat(self.start[groups], sizes) + within], position
