"""Search and similar products over one release: keyword and vector retrieval, fused, filtered, arranged by rules.

Pure after loading: no clock, no network, no files.
"""

from collections.abc import Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from data_contracts.errors import ArtefactRefused
from data_contracts.merchandising import Rule
from feature_repo.customer import CustomerFeatures
from feature_repo.search_text import search_tokens
from feature_repo.text import query_text
from serving.runtime import diversity, facets, merchandising
from serving.runtime.catalogue import STOCK_UNKNOWN, Catalogue
from serving.runtime.encoder import Encoder
from serving.runtime.fusion import Found, Fusion
from serving.runtime.keyword import KeywordIndex, Passes
from serving.runtime.part import Part
from serving.runtime.personal import PERSONAL, affinity
from serving.runtime.shelf import Shelf
from serving.runtime.understanding import Bounds, Understanding

LEAD: Final = 0.25
"""What each field that the query names is worth to a product that bears it, in ranges of the fused scores."""
UNSOLD: Final = 0.01
"""What a product that nobody bought scores on a category page, in best sellers: so that a rule's boost moves it too."""
SIMILAR_TEXTS: Final = 40
"""Texts looked at for similar products."""

Rows = NDArray[np.int32]
Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One page of results."""

    rows: Rows
    """(<= n,) rows of `shelf`, best first."""
    shelf: Shelf
    """The products at that moment."""
    scores: Scores
    """Fused score of each row."""
    stages: dict[str, Scores]
    """Of each row by stage: keyword (BM25), vector (cosine), popularity, personal (what the customer buys, in [0, 1]),
    in_stock (1, or 0 for sold out); NaN where a stage says nothing."""
    total: int
    """Products shown, on all pages: a lower bound where more match than are taken from the indexes (`part`)."""
    facets: dict[str, dict[str, int]]
    """`category` and `brand` -> value -> matching products, most frequent first; each ignores the filter on itself."""
    price_ranges: list[tuple[int, int | None, int]] = field(default_factory=list)
    """(from, to, matching products) in minor units, both ends included."""
    rules: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """Row -> the merchandising rules that moved it."""
    touched: dict[str, int] = field(default_factory=dict)
    """Id of each merchandising rule that applied -> products that it moved or removed, on all pages."""
    matched: int = 0
    """Of `total`, those that the request itself found: without what only a rule's pin put there."""
    degraded: list[str] = field(default_factory=list)


class SearchEngine:
    """Both indexes of one release, with what changed since they were built."""

    def __init__(self, keyword: KeywordIndex, vectors: Any, encoder: Encoder | None, shelf: Shelf) -> None:
        self.base = Part(keyword, vectors, shelf)
        self.encoder = encoder
        self.fusion = Fusion()
        self.shelf = shelf
        self.row = {str(pid): at for at, pid in enumerate(shelf.product_ids)}
        self.added: Part | None = None
        self.hidden: NDArray[np.bool_] = np.zeros(len(shelf.product_ids), dtype=bool)
        self.gone_names: Collection[str] = ()
        """Names in the release that no product bears any more."""

    def fused_by(self, fusion: Fusion) -> Self:
        """The same engine with another fusion."""
        other = copy(self)
        other.fusion = fusion
        return other

    def changed(self, added: Part | None, gone: Sequence[str]) -> Self:
        """The engine of the release with products that were put since, and without those that were removed.

        Args:
            added: products put since the index was built, new ones and new versions; their rows follow the release's.
            gone: ids of products removed.
        """
        other = copy(self)
        other.added = added
        base = self.base.shelf
        other.shelf = base if added is None else base.followed_by(added.shelf)
        other.row = {str(pid): at for at, pid in enumerate(base.product_ids)}
        replaced = [] if added is None else [str(pid) for pid in added.shelf.product_ids]
        other.hidden = np.zeros(len(other.shelf.product_ids), dtype=bool)
        other.hidden[[other.row.pop(pid) for pid in {*gone, *replaced} if pid in other.row]] = True
        other.row.update({pid: len(base.product_ids) + at for at, pid in enumerate(replaced)})
        borne = {other.shelf.name[at] for at in other.row.values()}
        other.gone_names = {other.shelf.name[at] for at in np.flatnonzero(other.hidden).tolist()} - borne
        return other

    @property
    def new_stems(self) -> Collection[str]:
        """Stems of the products that were put since the release was built."""
        return () if self.added is None else self.added.keyword.column

    def search(  # noqa: PLR0913
        self,
        understood: Understanding,
        *,
        n: int,
        offset: int = 0,
        filters: Bounds = Bounds(),  # noqa: B008 - frozen
        exclude: Sequence[str] = (),
        rules: Sequence[Rule] = (),
        customer: CustomerFeatures | None = None,
    ) -> SearchResult:
        """The products that match, best first; an empty page when nothing does.

        What is sold out comes after the rest, unless the query is its name or id.

        Args:
            understood: what the query means; its own bounds hold where `filters` leaves one open.
            n: length of the page.
            offset: products before it.
            filters: bounds that the client sent.
            exclude: product ids that are never shown.
            rules: merchandising rules that apply to this request.
            customer: what they buy moves up a little; None: nobody known.
        """
        degraded: list[str] = []
        bounds = filters.over(understood.bounds)
        passes = self._passes(bounds, exclude, rules, understood.phrases)
        rows, found = self._candidates(understood, degraded, passes)
        fused = self.fusion.scores(found)
        stages = {"keyword": found.keyword, "vector": found.vector, "popularity": found.popularity}
        if len(fused):
            spread = float(np.ptp(fused))
            fused = fused + np.float32(LEAD * spread) * self._boosted(rows, understood.boosts)
            if customer is not None:
                ids = [str(self.shelf.product_ids[row]) for row in rows.tolist()]
                bought = affinity(customer, ids, self.shelf.category[rows].tolist())
                fused = fused + np.float32(PERSONAL * spread) * bought
                stages["personal"] = np.where(bought > 0, bought, np.nan).astype(np.float32)
        asked = {query_text(understood.raw), understood.text}
        return self._page(
            rows, fused, stages, degraded,
            bounds=bounds, filters=filters, n=n, offset=offset, exclude=exclude, rules=rules, asked=asked,
            phrases=understood.phrases,
        )  # fmt: skip

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
        scores = popularity + np.float32(UNSOLD * max(float(popularity.max(initial=0.0)), 1.0))
        return self._page(
            rows, scores, {"popularity": popularity}, [],
            bounds=filters, filters=filters, n=n, offset=offset, exclude=exclude, rules=rules,
        )  # fmt: skip

    def similar(self, row: int, *, n: int) -> SearchResult:
        """The products nearest to the one in `row` by meaning, the popular first among equals."""
        query = self._vector(row)
        rows, cosine = self.base.nearest(query, SIMILAR_TEXTS, floor=-1.0)
        if self.added is not None:
            more, near = self.added.nearest(query, SIMILAR_TEXTS, floor=-1.0)
            rows, cosine = (
                np.concatenate([rows, more + len(self.base.shelf.product_ids)]),
                np.concatenate([cosine, near]),
            )
        keep = (rows != row) & ~self.hidden[rows]
        rows, cosine = rows[keep], cosine[keep]
        popularity = self.shelf.popularity[rows]
        page = np.lexsort((rows, -popularity, -np.round(cosine, 4)))[:n]
        stages = {"vector": cosine[page], "popularity": popularity[page]}
        return SearchResult(rows[page], self.shelf, cosine[page], stages, len(rows), facets={}, matched=len(rows))

    def _vector(self, row: int) -> Scores:
        first = len(self.base.shelf.product_ids)
        if row < first:
            return self.base.vector(row)
        if self.added is None:
            raise IndexError(f"found row {row}, the shelf has {first}")
        return self.added.vector(row - first)

    def _passes(
        self, bounds: Bounds, exclude: Sequence[str], rules: Sequence[Rule], phrases: Sequence[str]
    ) -> Passes | None:
        """Which rows a request may show; None where it filters nothing. Of `phrases` the words are looked for alone."""
        blocking = any(rule.action == "block" for rule in rules)
        if bounds == Bounds() and not (exclude or phrases or blocking or self.hidden.any()):
            return None
        words = {word for phrase in phrases for word in search_tokens(phrase)}

        def passes(rows: Rows) -> NDArray[np.bool_]:
            shown: NDArray[np.bool_] = np.logical_and.reduce(list(self._masks(rows, bounds, exclude).values()))
            if words:
                shown &= self._holding(rows, words)
            return shown & ~merchandising.blocked(rules, rows, self.row, self.shelf)

        return passes

    def _holding(self, rows: Rows, words: Collection[str]) -> NDArray[np.bool_]:
        first = len(self.base.shelf.product_ids)
        old = rows < first
        held = np.zeros(len(rows), dtype=bool)
        held[old] = self.base.holding(rows[old], words)
        if self.added is not None:
            held[~old] = self.added.holding(rows[~old] - np.int32(first), words)
        return held

    def _candidates(self, understood: Understanding, degraded: list[str], passes: Passes | None) -> tuple[Rows, Found]:
        """Rows that words or meaning find, ascending, and what the stages say; by words alone when the index is out."""
        vector = self._encoded(understood.text, degraded)
        if vector is not None:
            try:
                return self._found(understood, vector, passes)
            except Exception:  # noqa: BLE001 - whatever a native index raises, keywords still answer
                degraded.append("index")
        return self._found(understood, None, passes)

    def _found(self, asked: Understanding, vector: Scores | None, passes: Passes | None) -> tuple[Rows, Found]:
        quoted = bool(asked.phrases)
        rows, found = self.base.candidates(asked.terms, vector, passes, quoted=quoted)
        if self.added is None:
            return rows, found
        first = np.int32(len(self.base.shelf.product_ids))
        behind: Passes | None = None if passes is None else lambda rows: passes(rows + first)
        more, found_more = self.added.candidates(asked.terms, vector, behind, quoted=quoted)
        rows = np.concatenate([rows, more + first])
        return rows, Found.joined([found, found_more])

    def _encoded(self, text: str, degraded: list[str]) -> Scores | None:
        """(d,) the query's vector; None, and `encoder` degraded, when the encoder is out."""
        if self.encoder is None:
            degraded.append("encoder")
            return None
        if not text:
            return None
        try:
            return np.asarray(self.encoder.encode([text])[0], dtype=np.float32)
        except Exception:  # noqa: BLE001 - whatever a native runtime raises, keywords still answer
            degraded.append("encoder")
            return None

    def _page(  # noqa: PLR0913
        self,
        rows: Rows,
        scores: Scores,
        stages: dict[str, Scores],
        degraded: list[str],
        *,
        bounds: Bounds,
        filters: Bounds,
        n: int,
        offset: int,
        exclude: Sequence[str],
        rules: Sequence[Rule],
        asked: Collection[str] = (),
        phrases: Sequence[str] = (),
    ) -> SearchResult:
        """One page of candidates: filtered, counted, arranged by stock and rules, cut.

        What a rule pins is held to the client's `filters`, not to what the query states.
        """
        candidates = len(rows)
        rows, scores, stages = self._with_pinned(rows, scores, stages, rules)
        masks = self._masks(rows, bounds, exclude)
        if phrases:
            masks["phrases"] = self.shelf.named(rows, phrases)
        itself = np.logical_and.reduce(list(masks.values())) & (np.arange(len(rows)) < candidates)
        pins = np.flatnonzero(np.isin(rows, merchandising.pinned(rules, self.row)))
        own = self._masks(rows[pins], filters, exclude)
        for name, mask in masks.items():
            mask[pins] = own.get(name, True)
        blocks = merchandising.blocks(rules, rows, self.row, self.shelf)
        masks["rules"] = ~np.logical_or.reduce([np.zeros(len(rows), dtype=bool), *blocks.values()])
        counted = {name: facets.without(masks, name) for name in ("category", "brand", "price")}
        at = np.flatnonzero(np.logical_and.reduce(list(masks.values())))
        sold_out = self.shelf.sold_out(rows[at], asked)
        arranged = merchandising.arrange(rules, rows[at], scores[at], self.row, self.shelf, last=sold_out)
        order = arranged.order
        if asked and bounds.category is None:
            fixed = sold_out | np.isin(np.arange(len(at)), list(arranged.rules))
            order = diversity.spread(order, scores[at], self.shelf.category[rows[at]], fixed)
        others = facets.without(masks, "rules")
        removed = {name: int(np.count_nonzero(hit & others)) for name, hit in blocks.items()}
        page = order[offset : offset + n]
        shown = at[page]
        stock = self.shelf.in_stock[rows].astype(np.float32)
        stages = {**stages, "in_stock": np.where(stock == STOCK_UNKNOWN, np.float32(np.nan), stock)}
        return SearchResult(
            rows=rows[shown],
            shelf=self.shelf,
            scores=scores[shown],
            stages={name: values[shown] for name, values in stages.items()},
            total=len(at),
            facets={
                "category": facets.counts(self.shelf.category[rows[counted["category"]]]),
                "brand": facets.counts(self.shelf.brand[rows[counted["brand"]]]),
            },
            price_ranges=facets.price_ranges(self.shelf.price_minor[rows[counted["price"]]]),
            rules={int(rows[at[each]]): arranged.rules[each] for each in page.tolist() if each in arranged.rules},
            touched={**arranged.touched, **removed},
            matched=int(np.count_nonzero(itself[at])),
            degraded=degraded,
        )

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
        unwanted = [self.row[pid] for pid in exclude if pid in self.row]
        masks: dict[str, NDArray[np.bool_]] = {"exclude": ~np.isin(rows, unwanted) & ~self.hidden[rows]}
        for name, values, wanted in (
            ("category", self.shelf.category, bounds.category),
            ("brand", self.shelf.brand, bounds.brand),
        ):
            if wanted is not None:
                masks[name] = np.char.lower(values[rows]) == wanted.lower()
        if bounds.in_stock is not None:
            masks["stock"] = self.shelf.in_stock[rows] != int(not bounds.in_stock)
        if (bounds.price_min_minor, bounds.price_max_minor) != (None, None):
            price = self.shelf.price_minor[rows]
            low, high = bounds.price_min_minor or 0, bounds.price_max_minor
            masks["price"] = (price > 0) & (price >= low) & ((price <= high) if high is not None else True)
        return masks


def load(paths: Mapping[str, Path], catalogue: Catalogue) -> SearchEngine:
    """The search engine of a release.

    Args:
        paths: artefact name -> file, stored under its sha256 and verified by the caller; of them `encoder`,
            `tokenizer`, `faiss_index` and `keyword_index` are read, and `search_fusion` where it is there; those that
            it was judged with must be among them.
        catalogue: the release's products.

    Raises:
        ArtefactRefused: one is missing, the index was built by another encoder, or the verdict is on other artefacts.
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
    fusion = Fusion.load(paths["search_fusion"]) if "search_fusion" in paths else Fusion()
    for name, sha256 in fusion.judged.items():
        held = paths[name].name if name in paths else "none"
        if held != sha256:
            raise ArtefactRefused(
                f"the fusion was judged with {name} {sha256[:12]}, the release holds {held[:12]}; "
                "let rebuild_index judge the index and assemble the release again"
            )
    faiss.omp_set_num_threads(1)
    vectors = faiss.read_index(str(paths["faiss_index"]))
    encoder = Encoder.load(paths["encoder"], paths["tokenizer"])
    return SearchEngine(keyword, vectors, encoder, Shelf.of(catalogue)).fused_by(fusion)
