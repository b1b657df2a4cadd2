"""Keyword retrieval: BM25 over fields as impacts by word, with the fields in which each word was found. Pure."""

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial, reduce
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from feature_repo.search_text import FIELDS, stems
from serving.runtime import npz
from serving.runtime.understanding import Term

Rows = NDArray[np.int32]
Scores = NDArray[np.float32]
Passes = Callable[[Rows], NDArray[np.bool_]]
"""Which of some rows (or documents) a request's filters let through."""
FIELD_BIT: Final = {name: np.uint8(1 << at) for at, name in enumerate(FIELDS)}
"""Field -> its bit in a posting's mask."""
PREFIXED_WORDS: Final = 16
"""Words of the index that an unknown word of a query is the beginning of, at most."""
_PREFIX_FROM: Final = 3
"""Letters of the shortest unknown word that is looked up as a beginning."""


class IndexConfig(BaseModel):
    """How words of a product's fields become scores."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    k1: float = Field(default=0.6, gt=0)
    """Saturation of a word's count; product texts are short, so lower than the 1.2 of web pages."""
    weights: dict[str, float] = {"name": 1.0, "brand": 1.0, "category": 1.0, "attributes": 0.3, "description": 1.0}
    """Field -> what a word in it counts."""
    b: dict[str, float] = {"name": 0.75, "brand": 0.0, "category": 0.5, "attributes": 0.75, "description": 0.75}
    """Field -> share of its length normalisation, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What the whole catalogue says of words and lengths, so that a product added later is scored alike."""

    n_docs: int
    mean_length: Mapping[str, float]
    """Field -> mean number of words where it has any."""
    frequency: Mapping[str, int]
    """Word -> documents that hold it."""

    def idf(self, word: str) -> float:
        """Inverse document frequency as in Lucene, never negative; the highest for a word that nothing holds."""
        held = self.frequency.get(word, 0)
        return float(np.log1p((self.n_docs - held + 0.5) / (held + 0.5)))


@dataclass(frozen=True, slots=True)
class Postings:
    """Impacts in compressed columns, one per word.

    Attributes:
        words: ascending.
        indptr: (n_words + 1,) where each word's postings begin.
        docs: (n,) documents, ascending within a word.
        impacts: (n,) float32, what the word adds to the document's score.
        fields: (n,) uint8, bits (FIELD_BIT) of the fields that hold the word.
    """

    words: Sequence[str]
    indptr: NDArray[np.int64]
    docs: Rows
    impacts: Scores
    fields: NDArray[np.uint8]

    @classmethod
    def of(
        cls, docs: Sequence[Sequence[str]], config: IndexConfig, known: Statistics | None = None
    ) -> tuple[Self, Statistics]:
        """The postings of documents, each its texts in the order of FIELDS; by `known` statistics or their own.

        Source: Robertson, Zaragoza & Taylor, CIKM 2004 (BM25 over weighted fields).
        """
        column: dict[str, int] = {}
        at_doc, at_word, at_field, count = array("i"), array("i"), array("b"), array("i")
        lengths = np.zeros((len(FIELDS), len(docs)), dtype=np.float32)
        for doc, texts in enumerate(docs):
            for field, text in enumerate(texts):
                found = stems(text)
                lengths[field, doc] = len(found)
                for word, times in Counter(found).items():
                    at_doc.append(doc)
                    at_word.append(column.setdefault(word, len(column)))
                    at_field.append(field)
                    count.append(times)
        words = sorted(column)
        rank = np.empty(len(words), dtype=np.int64)
        rank[[column[word] for word in words]] = np.arange(len(words))
        doc_at, field_at = np.frombuffer(at_doc, np.int32), np.frombuffer(at_field, np.int8)
        key = rank[np.frombuffer(at_word, np.int32)] * len(docs) + doc_at
        means = known.mean_length if known else _means(lengths)
        tf = np.frombuffer(count, np.int32) * _field_weight(field_at, doc_at, lengths, means, config)
        order = np.argsort(key, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(key[order]) != 0]) if len(order) else np.empty(0, np.int64)
        total = np.add.reduceat(tf[order], starts) if len(starts) else np.empty(0)
        bits = np.left_shift(1, field_at.astype(np.int64)).astype(np.uint8)[order]
        mask = np.bitwise_or.reduceat(bits, starts) if len(starts) else np.empty(0, np.uint8)
        word_of, doc_of = np.divmod(key[order][starts], max(len(docs), 1))
        held = np.bincount(word_of, minlength=len(words))
        statistics = known or Statistics(len(docs), means, dict(zip(words, held.tolist(), strict=True)))
        idf = np.array([statistics.idf(word) for word in words])
        impact = idf[word_of] * total * (config.k1 + 1) / (total + config.k1)
        indptr = np.concatenate([[0], np.cumsum(held)]).astype(np.int64)
        return cls(words, indptr, doc_of.astype(np.int32), impact.astype(np.float32), mask), statistics


def _means(lengths: Scores) -> dict[str, float]:
    """Field -> mean length over the documents that have it; 1 where none has."""
    return {
        name: float(row[row > 0].mean(dtype=np.float64)) if (row > 0).any() else 1.0
        for name, row in zip(FIELDS, lengths, strict=True)
    }


def _field_weight(
    field: NDArray[np.int8], doc: Rows, lengths: Scores, means: Mapping[str, float], config: IndexConfig
) -> NDArray[np.float64]:
    """(n,) what one occurrence counts, by field and the field's length in that document."""
    b = np.array([config.b[name] for name in FIELDS])
    weight = np.array([config.weights[name] for name in FIELDS])
    mean = np.array([means[name] for name in FIELDS])
    relative = lengths[field, doc].astype(np.float64) / mean[field]
    return np.asarray(weight[field] / (1 - b[field] + b[field] * relative))


@dataclass(frozen=True)
class KeywordIndex:
    """Postings over product texts, and where each product stands in both indexes."""

    kind: ClassVar[str] = "keyword_index"
    product_ids: Sequence[str]
    doc_of_product: Rows
    text_of_product: Rows
    postings: Postings
    statistics: Statistics
    config: IndexConfig
    encoder_sha256: str
    meta: Mapping[str, Any]

    def save(self, path: Path) -> Path:
        """Writes the one file of this artefact."""
        postings = self.postings
        arrays: dict[str, NDArray[Any]] = {
            "product_ids": npz.pack_text(self.product_ids),
            "doc_of_product": self.doc_of_product,
            "text_of_product": self.text_of_product,
            "vocabulary": npz.pack_text(postings.words),
            "impacts": postings.impacts,
            "docs": postings.docs,
            "fields": postings.fields,
            "indptr": postings.indptr,
        }
        meta = {
            **self.meta,
            "kind": self.kind,
            "config": self.config.model_dump(),
            "encoder_sha256": self.encoder_sha256,
            "n_docs": self.statistics.n_docs,
            "n_products": len(self.product_ids),
            "n_words": len(postings.words),
            "mean_length": dict(self.statistics.mean_length),
        }
        return npz.write(path, arrays, meta)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The index from its verified npz file."""
        arrays, meta = npz.read(path, cls.kind)
        words = npz.unpack_text(arrays["vocabulary"], int(meta["n_words"]))
        held = np.diff(arrays["indptr"]).tolist()
        return cls(
            product_ids=npz.unpack_text(arrays["product_ids"], int(meta["n_products"])),
            doc_of_product=arrays["doc_of_product"],
            text_of_product=arrays["text_of_product"],
            postings=Postings(words, arrays["indptr"], arrays["docs"], arrays["impacts"], arrays["fields"]),
            statistics=Statistics(int(meta["n_docs"]), meta["mean_length"], dict(zip(words, held, strict=True))),
            config=IndexConfig(**meta["config"]),
            encoder_sha256=str(meta["encoder_sha256"]),
            meta=meta,
        )

    @cached_property
    def n_docs(self) -> int:
        """Documents in this index."""
        return int(self.doc_of_product.max(initial=-1)) + 1

    @cached_property
    def column(self) -> dict[str, int]:
        """Word -> its place among the words."""
        return {word: at for at, word in enumerate(self.postings.words)}

    def top(self, terms: Sequence[Term], k: int, passes: Passes | None = None) -> "Hits":
        """The `k` best documents for a query's terms; of terms that share a group the best one counts.

        Args:
            terms: the query's words.
            k: documents, at most.
            passes: with it, the `k` best that pass come on top of the `k` best of all.
        """
        groups = self._groups(terms)
        score = np.zeros(self.n_docs, dtype=np.float32)
        for group in groups:
            if len(group.lists) == 1:
                (span, boost) = group.lists[0]
                score[self.postings.docs[span]] += boost * self.postings.impacts[span]
            elif group.lists:
                best = np.zeros(self.n_docs, dtype=np.float32)
                for span, boost in group.lists:
                    docs = self.postings.docs[span]
                    best[docs] = np.maximum(best[docs], boost * self.postings.impacts[span])
                score += best
        found = np.flatnonzero(score).astype(np.int32)
        first = _best(found, score, k)
        if passes is not None and len(first) < len(found):
            more = _best(found[passes(found)], score, k)
            first = _best(np.union1d(first, more), score, 2 * k)
        return Hits(first, score[first], *self._coverage(groups, first))

    def holding(self, words: Collection[str]) -> Rows:
        """Documents that hold every one of some stems, in whatever field; ascending."""
        columns = [self.column.get(word) for word in words]
        if not columns or None in columns:
            return np.empty(0, np.int32)
        lists = sorted((self.postings.docs[self._span(column)] for column in columns if column is not None), key=len)
        return reduce(partial(np.intersect1d, assume_unique=True), lists)

    def _groups(self, terms: Sequence[Term]) -> list["_Group"]:
        """The posting lists behind a query, one group per position in it.

        A word that no product of the whole catalogue holds stands for the words that it begins.
        """
        groups: dict[int, _Group] = {}
        for term in terms:
            group = groups.setdefault(term.group, _Group([], 0.0))
            words = [term.word] if term.word in self.column else self._begun_by(term.word)
            group.lists += [(self._span(self.column[word]), term.boost) for word in words]
            group.idf = max(group.idf, *(self.statistics.idf(word) for word in words or [term.word]))
        return list(groups.values())

    def _begun_by(self, beginning: str) -> Sequence[str]:
        if len(beginning) < _PREFIX_FROM or beginning in self.statistics.frequency:
            return ()
        words = self.postings.words
        first = bisect_left(words, beginning)
        last = bisect_left(words, beginning + "\U0010ffff", first, min(first + PREFIXED_WORDS, len(words)))
        return words[first:last]

    def _span(self, column: int) -> slice:
        return slice(int(self.postings.indptr[column]), int(self.postings.indptr[column + 1]))

    def _coverage(self, groups: Sequence["_Group"], docs: Rows) -> tuple[Scores, float]:
        """((3, n) idf of the groups that each document holds anywhere / in its name / in its text, idf of all)."""
        covered = np.zeros((len(_PLACES), len(docs)), dtype=np.float32)
        for group in groups:
            mask = np.zeros(len(docs), dtype=np.uint8)
            for span, _ in group.lists:
                posted = self.postings.docs[span]
                at = np.minimum(np.searchsorted(posted, docs), len(posted) - 1)
                mask |= np.where(posted[at] == docs, self.postings.fields[span][at], np.uint8(0))
            for place, bits in enumerate(_PLACES):
                covered[place] += np.float32(group.idf) * ((mask & bits) > 0)
        return covered, max(sum(group.idf for group in groups), 1e-9)


def _best(docs: Rows, score: Scores, k: int) -> Rows:
    """The `k` of `docs` that score best, best first."""
    if len(docs) > k:
        edge = np.partition(score[docs], len(docs) - k)[len(docs) - k]
        docs = docs[score[docs] >= edge]
    return docs[np.lexsort((docs, -score[docs]))][:k]


_PLACES: Final = (np.uint8(255), FIELD_BIT["name"], FIELD_BIT["name"] | FIELD_BIT["description"])


@dataclass(frozen=True, slots=True)
class Hits:
    """What a query's words found, best first.

    Attributes:
        docs: (n,) documents.
        scores: (n,) BM25 over fields.
        covered: (3, n) idf of the query's words found anywhere, in the name, in name or description.
        whole: idf of all words of the query.
    """

    docs: Rows
    scores: Scores
    covered: Scores
    whole: float


@dataclass(slots=True)
class _Group:
    """One position of a query: posting lists with their boosts, and the idf that it is worth."""

    lists: list[tuple[slice, float]]
    idf: float
