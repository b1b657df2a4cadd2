"""Search and similar products over one release: keyword and vector retrieval, fused by rank, then filters.

Pure after loading: no clock, no network, no files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from data_contracts.errors import ArtefactRefused
from data_contracts.merchandising import Rule
from serving.runtime import facets, merchandising, npz
from serving.runtime.catalogue import Catalogue
from serving.runtime.encoder import Encoder
from serving.runtime.understanding import Bounds, Term, Understanding

RRF_K = 60
"""Constant of reciprocal rank fusion. Source: Cormack, Clarke & Buettcher, SIGIR 2009."""
KEYWORD_DOCS = 500
"""Product texts taken from the keyword index."""
VECTOR_TEXTS = 40
"""Texts taken from the vector index."""
MIN_COSINE = 0.35
"""Below this similarity a text has nothing to do with the query."""
BOOST = 0.01
"""Fused score that a product gains for each field the query names: more than any difference of ranks within a stage."""

Rows = NDArray[np.int32]
Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Shelf:
    """What search needs to know of each product, all (n_products,) in one row order."""

    product_ids: Sequence[str]
    category: NDArray[np.str_]
    brand: NDArray[np.str_]
    price_minor: NDArray[np.int64]
    """0 where the price is unknown."""
    popularity: NDArray[np.float32]

    @classmethod
    def of(cls, catalogue: Catalogue) -> Self:
        """The shelf of a release's catalogue."""
        return cls(
            product_ids=list(catalogue.product_ids),
            category=np.array(catalogue.text["category"], dtype=np.str_),
            brand=np.array(catalogue.text["brand"], dtype=np.str_),
            price_minor=catalogue.stats["price_minor"].astype(np.int64),
            popularity=catalogue.stats["decayed_14d"].astype(np.float32),
        )


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One page of results."""

    rows: Rows
    """(<= n,) rows of the shelf, best first."""
    scores: Scores
    """Fused score of each row."""
    stages: dict[str, Scores]
    """Score of each row by stage: keyword (BM25), vector (cosine), popularity; NaN where a stage did not find it."""
    total: int
    """Products that match, on all pages."""
    facets: dict[str, dict[str, int]]
    """`category` and `brand` -> value -> matching products, most frequent first; each ignores the filter on itself."""
    price_ranges: list[tuple[int, int | None, int]] = field(default_factory=list)
    """(from, to, matching products) in minor units, both ends included."""
    rules: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """Row -> the merchandising rules that moved it."""
    degraded: list[str] = field(default_factory=list)


class SearchEngine:
    """Both indexes of one release."""

    def __init__(self, keyword: "KeywordIndex", vectors: Any, encoder: Encoder | None, shelf: Shelf) -> None:
        if list(keyword.product_ids) != list(shelf.product_ids):
            raise ArtefactRefused(
                "the keyword index and the product features list different products; rebuild the index"
            )
        if vectors.ntotal <= int(keyword.text_of_product.max(initial=-1)):
            raise ArtefactRefused(
                f"the vector index holds {vectors.ntotal} texts, the keyword index names more; rebuild the index"
            )
        self._keyword = keyword
        self._vectors = vectors
        self._encoder = encoder
        self.shelf = shelf
        self._by_doc = _Groups.of(keyword.doc_of_product, keyword.n_docs)
        self._by_text = _Groups.of(keyword.text_of_product, vectors.ntotal)
        self.row = {str(pid): at for at, pid in enumerate(shelf.product_ids)}

    def search(  # noqa: PLR0913
        self,
        understood: Understanding,
        *,
        n: int,
        offset: int = 0,
        filters: Bounds = Bounds(),  # noqa: B008 - frozen
        exclude: Sequence[str] = (),
        rules: Sequence[Rule] = (),
    ) -> SearchResult:
        """The products that match, best first; an empty page when nothing does.

        Args:
            understood: what the query means; its own bounds hold where `filters` leaves one open.
            n: length of the page.
            offset: products before it.
            filters: bounds that the client sent.
            exclude: product ids that are never shown.
            rules: merchandising rules that apply to this request.
        """
        degraded: list[str] = []
        docs, doc_scores = self._keyword.top(understood.terms, KEYWORD_DOCS)
        texts, cosines = self._nearest(understood.text, degraded)
        rows, stages = self._candidates(docs, doc_scores, texts, cosines)
        fused = np.zeros(len(rows), dtype=np.float32)
        for values in stages.values():
            fused += _reciprocal_rank(values)
        fused += BOOST * self._boosted(rows, understood.boosts)
        bounds = filters.over(understood.bounds)
        return self._page(
            rows, fused, stages, degraded, bounds=bounds, n=n, offset=offset, exclude=exclude, rules=rules
        )

    def browse(
        self,
        *,
        n: int,
        offset: int = 0,
        filters: Bounds = Bounds(),  # noqa: B008 - frozen
        exclude: Sequence[str] = (),
        rules: Sequence[Rule] = (),
    ) -> SearchResult:
        """The products within the filters, the popular first: a category page."""
        rows = np.arange(len(self.shelf.product_ids), dtype=np.int32)
        popularity = self.shelf.popularity
        return self._page(
            rows, popularity, {"popularity": popularity}, [],
            bounds=filters, n=n, offset=offset, exclude=exclude, rules=rules,
        )  # fmt: skip

    def _page(  # noqa: PLR0913
        self,
        rows: Rows,
        scores: Scores,
        stages: dict[str, Scores],
        degraded: list[str],
        *,
        bounds: Bounds,
        n: int,
        offset: int,
        exclude: Sequence[str],
        rules: Sequence[Rule],
    ) -> SearchResult:
        """One page of candidates: filtered, counted, arranged by the rules, cut."""
        rows, scores, stages = self._with_pinned(rows, scores, stages, rules)
        masks = self._masks(rows, bounds, exclude)
        masks["rules"] = ~merchandising.blocked(rules, rows, self.row, self.shelf)
        counted = {name: facets.without(masks, name) for name in ("category", "brand", "price")}
        at = np.flatnonzero(np.logical_and.reduce(list(masks.values())))
        arranged = merchandising.arrange(rules, rows[at], scores[at], self.row, self.shelf)
        page = arranged.order[offset : offset + n]
        shown = at[page]
        return SearchResult(
            rows=rows[shown],
            scores=scores[shown],
            stages={name: values[shown] for name, values in stages.items()},
            total=len(arranged.order),
            facets={
                "category": facets.counts(self.shelf.category[rows[counted["category"]]]),
                "brand": facets.counts(self.shelf.brand[rows[counted["brand"]]]),
            },
            price_ranges=facets.price_ranges(self.shelf.price_minor[rows[counted["price"]]]),
            rules={int(rows[at[each]]): arranged.rules[each] for each in page.tolist() if each in arranged.rules},
            degraded=degraded,
        )

    def similar(self, row: int, *, n: int) -> SearchResult:
        """The products nearest to the one in `row` by meaning, the popular first among equals."""
        query = self._vectors.reconstruct(int(self._keyword.text_of_product[row]))[None, :]
        cosines, texts = self._vectors.search(query, min(VECTOR_TEXTS, self._vectors.ntotal))
        rows, groups = self._by_text.members(texts[0].astype(np.int32))
        cosine = cosines[0].astype(np.float32)[groups]
        keep = rows != row
        rows, cosine = rows[keep], cosine[keep]
        popularity = self.shelf.popularity[rows]
        page = np.lexsort((rows, -popularity, -np.round(cosine, 4)))[:n]
        stages = {"vector": cosine[page], "popularity": popularity[page]}
        return SearchResult(rows=rows[page], scores=cosine[page], stages=stages, total=len(rows), facets={})

    def _nearest(self, query: str, degraded: list[str]) -> tuple[Rows, Scores]:
        """Texts near the query and their cosines; none, and `encoder` degraded, when the encoder fails."""
        none = np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32)
        if self._encoder is None:
            degraded.append("encoder")
            return none
        if not query:
            return none
        try:
            vector = self._encoder.encode([query])
        except Exception:  # noqa: BLE001 - whatever a native runtime raises, keywords still answer
            degraded.append("encoder")
            return none
        cosines, texts = self._vectors.search(vector, min(VECTOR_TEXTS, self._vectors.ntotal))
        near = cosines[0] >= MIN_COSINE
        return texts[0][near].astype(np.int32), cosines[0][near].astype(np.float32)

    def _candidates(
        self, docs: Rows, doc_scores: Scores, texts: Rows, cosines: Scores
    ) -> tuple[Rows, dict[str, Scores]]:
        by_word, word_group = self._by_doc.members(docs)
        by_meaning, meaning_group = self._by_text.members(texts)
        rows = np.union1d(by_word, by_meaning).astype(np.int32)
        keyword = np.full(len(rows), np.nan, dtype=np.float32)
        keyword[np.searchsorted(rows, by_word)] = doc_scores[word_group]
        vector = np.full(len(rows), np.nan, dtype=np.float32)
        vector[np.searchsorted(rows, by_meaning)] = cosines[meaning_group]
        return rows, {"keyword": keyword, "vector": vector, "popularity": self.shelf.popularity[rows]}

    def _boosted(self, rows: Rows, boosts: Mapping[str, str]) -> Scores:
        """How many of the fields that a query names each product bears."""
        named = np.zeros(len(rows), dtype=np.float32)
        for name, values in (("brand", self.shelf.brand), ("category", self.shelf.category)):
            if name in boosts:
                named += values[rows] == boosts[name]
        return named

    def _with_pinned(
        self, rows: Rows, scores: Scores, stages: dict[str, Scores], rules: Sequence[Rule]
    ) -> tuple[Rows, Scores, dict[str, Scores]]:
        """The candidates and, with no score, pinned products that are not among them."""
        new = np.setdiff1d(merchandising.pinned(rules, self.row), rows).astype(np.int32)
        if not len(new):
            return rows, scores, stages
        missing = np.full(len(new), np.nan, dtype=np.float32)
        return (
            np.concatenate([rows, new]),
            np.concatenate([scores, np.zeros(len(new), dtype=np.float32)]),
            {name: np.concatenate([values, missing]) for name, values in stages.items()},
        )

    def _masks(self, rows: Rows, bounds: Bounds, exclude: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
        """Filter -> which rows pass it; those that facets show have the facets' names."""
        masks: dict[str, NDArray[np.bool_]] = {
            "exclude": ~np.isin(rows, [self.row[pid] for pid in exclude if pid in self.row])
        }
        for name, values, wanted in (
            ("category", self.shelf.category, bounds.category),
            ("brand", self.shelf.brand, bounds.brand),
        ):
            if wanted is not None:
                masks[name] = np.char.lower(values[rows]) == wanted.lower()
        if (bounds.price_min_minor, bounds.price_max_minor) != (None, None):
            price = self.shelf.price_minor[rows]
            low, high = bounds.price_min_minor or 0, bounds.price_max_minor
            masks["price"] = (price > 0) & (price >= low) & ((price <= high) if high is not None else True)
        return masks


@dataclass(frozen=True, slots=True)
class KeywordIndex:
    """BM25 impacts by word, and where each product stands in both indexes."""

    kind: ClassVar[str] = "keyword_index"
    product_ids: Sequence[str]
    doc_of_product: Rows
    text_of_product: Rows
    column: dict[str, int]
    data: Scores
    indices: Rows
    indptr: Rows
    n_docs: int
    encoder_sha256: str

    @classmethod
    def load(cls, path: Path) -> Self:
        """The index from its verified npz file."""
        arrays, meta = npz.read(path, cls.kind)
        words = npz.unpack_text(arrays["vocabulary"], int(meta["n_words"]))
        return cls(
            product_ids=npz.unpack_text(arrays["product_ids"], int(meta["n_products"])),
            doc_of_product=arrays["doc_of_product"],
            text_of_product=arrays["text_of_product"],
            column={word: at for at, word in enumerate(words)},
            data=arrays["data"],
            indices=arrays["indices"],
            indptr=arrays["indptr"],
            n_docs=int(meta["n_docs"]),
            encoder_sha256=str(meta["encoder_sha256"]),
        )

    def top(self, terms: Sequence[Term], k: int) -> tuple[Rows, Scores]:
        """The `k` best texts for the query's terms and their BM25 scores, best first; of a group the best counts."""
        score = np.zeros(self.n_docs, dtype=np.float32)
        for group in _distinct_groups(terms):
            best = np.zeros(self.n_docs, dtype=np.float32)
            for word, boost in group:
                at = self.column.get(word)
                if at is not None:
                    span = slice(self.indptr[at], self.indptr[at + 1])
                    where = self.indices[span]
                    best[where] = np.maximum(best[where], np.float32(boost) * self.data[span])
            score += best
        found = np.flatnonzero(score).astype(np.int32)
        first = found[np.lexsort((found, -score[found]))][:k]
        return first, score[first]


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


def _reciprocal_rank(values: Scores) -> Scores:
    """1 / (k + rank), equal values sharing a rank; 0 where a stage did not find the row."""
    found = ~np.isnan(values)
    out = np.zeros(len(values), dtype=np.float32)
    if found.any():
        _, rank = np.unique(-values[found], return_inverse=True)
        out[found] = 1.0 / (RRF_K + 1 + rank)
    return out


def _distinct_groups(terms: Sequence[Term]) -> list[tuple[tuple[str, float], ...]]:
    """(word, boost) of each group, a group that is there twice once: repeating a word asks for nothing more."""
    groups: dict[int, list[tuple[str, float]]] = {}
    for term in terms:
        groups.setdefault(term.group, []).append((term.word, term.boost))
    return list(dict.fromkeys(tuple(sorted(group)) for group in groups.values()))


def load(paths: Mapping[str, Path], catalogue: Catalogue) -> SearchEngine:
    """The search engine of a release.

    Args:
        paths: artefact name -> file, stored under its sha256 and verified by the caller; of them `encoder`,
            `tokenizer`, `faiss_index` and `keyword_index` are read.
        catalogue: the release's products.

    Raises:
        ArtefactRefused: one is missing, or the index was built by another encoder.
    """
    import faiss

    needed = ("encoder", "tokenizer", "faiss_index", "keyword_index")
    missing = [name for name in needed if name not in paths]
    if missing:
        raise ArtefactRefused(f"found artefacts {sorted(paths)}, search needs {', '.join(missing)} too")
    keyword = KeywordIndex.load(paths["keyword_index"])
    if paths["encoder"].name != keyword.encoder_sha256:
        raise ArtefactRefused(
            f"the index was built by encoder {keyword.encoder_sha256[:12]}, the release holds "
            f"{paths['encoder'].name[:12]}; "
            "run rebuild_index and assemble the release again"
        )
    faiss.omp_set_num_threads(1)
    vectors = faiss.read_index(str(paths["faiss_index"]))
    return SearchEngine(keyword, vectors, Encoder.load(paths["encoder"], paths["tokenizer"]), Shelf.of(catalogue))
