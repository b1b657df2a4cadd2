"""Search and similar products over one release: keyword and vector retrieval, fused, then filters.

Pure after loading: no clock, no network, no files.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from data_contracts.errors import ArtefactRefused
from serving.runtime.catalogue import Catalogue
from serving.runtime.encoder import Encoder
from serving.runtime.fusion import Found, Fusion
from serving.runtime.keyword import KeywordIndex
from serving.runtime.part import Part
from serving.runtime.shelf import Shelf, facet
from serving.runtime.understanding import Bounds, Understanding

LEAD: Final = 0.5
"""What a boost of the query is worth, in ranges of the fused scores: half of what lies between worst and best."""
SIMILAR_TEXTS: Final = 40
"""Texts looked at for similar products."""

Rows = NDArray[np.int32]
Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One page of results."""

    rows: Rows
    """(<= n,) rows of the release's catalogue, best first; from its end on, products that came after it."""
    product_ids: Sequence[str]
    names: Sequence[str]
    price_minor: Sequence[int]
    scores: Scores
    """Fused score of each row."""
    stages: dict[str, Scores]
    """Score of each row by stage: keyword (BM25), vector (cosine), popularity; NaN where a stage did not find it."""
    total: int
    """Products that match, on all pages."""
    facets: dict[str, dict[str, int]]
    """`category` and `brand` -> value -> matching products, most frequent first."""
    degraded: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Delta:
    """What changed since the release's index was built."""

    part: Part | None
    """The products put since; None when there are none."""
    hidden: NDArray[np.bool_]
    """(n_products,) rows of the release that were put again or removed."""


class SearchEngine:
    """Both indexes of one release, with what changed since."""

    def __init__(self, keyword: KeywordIndex, vectors: Any, encoder: Encoder | None, shelf: Shelf) -> None:
        self.base = Part(keyword, vectors, shelf)
        self.encoder = encoder
        self.shelf = shelf
        self.row = {str(pid): at for at, pid in enumerate(shelf.product_ids)}
        self.fusion = Fusion.of(keyword.meta.get("fusion"))
        self.delta = Delta(None, np.zeros(len(shelf.product_ids), dtype=bool))

    def fused_by(self, fusion: Fusion) -> Self:
        """The same engine with another fusion."""
        other = copy(self)
        other.fusion = fusion
        return other

    def search(
        self,
        query: Understanding,
        *,
        n: int,
        offset: int = 0,
        bounds: Bounds | None = None,
        exclude: Sequence[str] = (),
    ) -> SearchResult:
        """The products that match `query`, best first; an empty page when nothing does.

        Args:
            query: what was understood; its boosts lead, its own bounds are the caller's to apply.
            n: products on the page.
            offset: products before it.
            bounds: filters on results.
            exclude: product ids to leave out.
        """
        degraded: list[str] = []
        delta, vector = self.delta, self._encoded(query.text, degraded)
        pieces = []
        for part, first in self._parts(delta):
            rows, found = part.candidates(query.terms, vector)
            keep = part.shelf.within(rows, bounds or Bounds()) & ~self._unwanted(part, rows, delta, exclude)
            leads = np.zeros(len(rows), dtype=np.float32)
            for name, value in query.boosts.items():
                leads += part.shelf.has(rows, name, value)
            pieces.append((rows[keep] + first, found.only(keep), leads[keep], part.shelf, first))
        rows = np.concatenate([each[0] for each in pieces])
        found = Found.joined([each[1] for each in pieces])
        fused = self.fusion.scores(found)
        lead = np.concatenate([each[2] for each in pieces])
        fused = (fused + LEAD * (np.ptp(fused) if len(fused) else 0.0) * lead).astype(np.float32)
        page = np.lexsort((rows, -fused))[offset : offset + n]
        category, brand = (
            np.concatenate([getattr(shelf, name)[own - first] for own, _, _, shelf, first in pieces])
            for name in ("category", "brand")
        )
        return self._result(
            rows[page],
            fused[page],
            {name: getattr(found, name)[page] for name in ("keyword", "vector", "popularity")},
            delta,
            total=len(rows),
            facets={"category": facet(category), "brand": facet(brand)},
            degraded=degraded,
        )

    def similar(self, row: int, *, n: int) -> SearchResult:
        """The products nearest to the one in `row` by meaning, the popular first among equals."""
        delta = self.delta
        rows, cosine = self.base.nearest(self.base.vector(row), SIMILAR_TEXTS)
        keep = (rows != row) & ~delta.hidden[rows]
        rows, cosine = rows[keep], cosine[keep]
        popularity = self.shelf.popularity[rows]
        page = np.lexsort((rows, -popularity, -np.round(cosine, 4)))[:n]
        stages = {"vector": cosine[page], "popularity": popularity[page]}
        return self._result(rows[page], cosine[page], stages, delta, total=len(rows), facets={}, degraded=[])

    def _parts(self, delta: Delta) -> list[tuple[Part, int]]:
        """Each part, and the row that its first product has in results."""
        return [(self.base, 0), *([(delta.part, len(self.shelf.product_ids))] if delta.part else [])]

    def _unwanted(self, part: Part, rows: Rows, delta: Delta, exclude: Sequence[str]) -> NDArray[np.bool_]:
        ids = part.shelf.product_ids
        out = set(exclude)
        named = np.array([ids[row] in out for row in rows.tolist()], dtype=bool) if out else np.zeros(len(rows), bool)
        return named | delta.hidden[rows] if part is self.base else named

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

    def _result(  # noqa: PLR0913 - named
        self,
        rows: Rows,
        scores: Scores,
        stages: dict[str, Scores],
        delta: Delta,
        *,
        total: int,
        facets: dict[str, dict[str, int]],
        degraded: list[str],
    ) -> SearchResult:
        first = len(self.shelf.product_ids)
        added = delta.part.shelf if delta.part else self.shelf
        places = [(self.shelf, row) if row < first else (added, row - first) for row in rows.tolist()]
        return SearchResult(
            rows=rows,
            product_ids=[str(shelf.product_ids[at]) for shelf, at in places],
            names=[shelf.name[at] for shelf, at in places],
            price_minor=[int(shelf.price_minor[at]) for shelf, at in places],
            scores=scores,
            stages=stages,
            total=total,
            facets=facets,
            degraded=degraded,
        )


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
