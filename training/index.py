"""The nightly search index: words of product texts with their fields, and a FAISS index over the texts' vectors."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import structlog
from numpy.typing import NDArray

from feature_repo.search_text import FIELDS, field_texts, semantic_text
from serving.runtime import npz
from serving.runtime.encoder import Encoder
from serving.runtime.keyword import IndexConfig, KeywordIndex, Postings
from training.errors import IndexNotGood

log = structlog.get_logger()
EXACT_BELOW: Final = 50_000
"""Texts below which every vector is compared."""
QUANTISED_FROM: Final = 2_000_000
"""Texts from which vectors are stored as codes: .5 GB a million, where HNSW takes 1.8."""
_HNSW_LINKS: Final = 32
_HNSW_BUILD: Final = 200
_HNSW_SEARCH: Final = 256
"""Breadth of the search; chosen for recall@100 of 0.98 and more, see docs/search.md."""
_PQ_BYTES: Final = 96
_PQ_PART: Final = 12
"""Of so many parts of the cells one is searched; what queries and texts find so is in docs/search.md."""
_PQ_WIDER: Final = 8
"""Times as many as were asked for are found by their product-quantised codes, which lose the order of near neighbours;
the best of them are told by codes of one byte per number."""
MIN_RECALL: Final = 0.98
"""Share of the exact 100 nearest that an approximate index must find, to its own texts and to the golden queries."""
_RECALL_AT: Final = 100
_RECALL_QUERIES: Final = 200


def semantic_texts(products: pd.DataFrame) -> list[str]:
    """The text to embed for each row of clean/products."""
    return [semantic_text(row) for row in _texts(products)]


def indexed_texts(products: pd.DataFrame) -> list[tuple[str, ...]]:
    """The texts to index by word for each row of clean/products, one per field."""
    return [field_texts(row) for row in _texts(products)]


def full_texts(products: pd.DataFrame) -> list[str]:
    """All words that each row of clean/products is found by, as one text."""
    return [", ".join(text for text in texts if text) for texts in indexed_texts(products)]


def _texts(products: pd.DataFrame) -> Iterator[Mapping[str, str | None]]:
    """Column -> text, row by row; None where it is missing."""
    columns = [name for names in FIELDS.values() for name in names if name in products]
    rows = products[columns].astype(object).where(products[columns].notna(), None)
    for values in rows.itertuples(index=False, name=None):
        yield dict(zip(columns, values, strict=True))


def build_keyword_index(  # noqa: PLR0913
    products: pd.DataFrame,
    vector_texts: list[str],
    config: IndexConfig,
    path: Path,
    *,
    encoder: str,
    until: datetime,
) -> None:
    """Write the keyword index and the products' rows in both indexes to `path` (npz).

    Args:
        products: clean/products, one row per product, in product_id order.
        vector_texts: the texts of the FAISS index, in its row order.
        config: how words are weighed.
        path: file to write.
        encoder: sha256 of the encoder whose vectors the FAISS index holds.
        until: nothing later was read.
    """
    texts = indexed_texts(products)
    docs = sorted(set(texts))
    postings, statistics = Postings.of(docs, config)
    KeywordIndex(
        product_ids=products["product_id"].astype(str).tolist(),
        doc_of_product=_positions(texts, docs),
        text_of_product=_positions(semantic_texts(products), vector_texts),
        postings=postings,
        statistics=statistics,
        config=config,
        encoder_sha256=encoder,
        meta={"fit_until": until.isoformat()},
    ).save(path)


def _positions(values: Sequence[Hashable], known: Sequence[Hashable]) -> NDArray[np.int32]:
    at = {value: position for position, value in enumerate(known)}
    return np.array([at[value] for value in values], dtype=np.int32)


def build_vector_index(
    vectors: NDArray[np.float32], path: Path, *, exact_below: int = EXACT_BELOW, quantised_from: int = QUANTISED_FROM
) -> float:
    """Write an inner-product FAISS index over (n, d) float32 unit vectors; returns its recall@100.

    Exact below `exact_below` texts, HNSW from there, IVF-PQ from `quantised_from` on. Built on one thread, so that
    the same vectors leave the same bytes.

    Raises:
        IndexNotGood: it finds fewer than MIN_RECALL of the exact nearest.
    """
    import faiss

    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        vectors = np.ascontiguousarray(vectors)
        n, d = vectors.shape
        index: Any = faiss.IndexFlatIP(d)
        if n >= quantised_from:
            cells = int(4 * np.sqrt(n))
            coarse = faiss.IndexIVFPQ(index, d, cells, _PQ_BYTES, 8, faiss.METRIC_INNER_PRODUCT)
            coarse.nprobe = max(cells // _PQ_PART, 16)
            fine = faiss.IndexScalarQuantizer(d, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
            index = faiss.IndexRefine(coarse, fine)
            index.k_factor = _PQ_WIDER
            index.train(vectors[:: max(n // (cells * 40), 1)])
        elif n >= exact_below:
            index = faiss.IndexHNSWFlat(d, _HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction, index.hnsw.efSearch = _HNSW_BUILD, _HNSW_SEARCH
        index.add(vectors)
        asked = vectors[:: max(n // _RECALL_QUERIES, 1)][:_RECALL_QUERIES]
        found = recall(index, vectors, asked) if n >= exact_below else 1.0
        if found < MIN_RECALL:
            raise IndexNotGood(
                f"the vector index over {n:,} texts finds {found:.3f} of the exact {_RECALL_AT} nearest, "
                f"needed {MIN_RECALL}; raise the breadth of its search in training/index.py"
            )
        faiss.write_index(index, str(path))
    finally:
        faiss.omp_set_num_threads(threads)
    return found


def recall(index: Any, vectors: NDArray[np.float32], asked: NDArray[np.float32]) -> float:
    """Share of the exact 100 nearest that the index finds, in [0, 1].

    Args:
        index: what is measured.
        vectors: (n, d) what it holds, in its order.
        asked: (q, d) what is looked for.
    """
    k = min(_RECALL_AT, len(vectors))
    exact = asked @ vectors.T
    edge = np.partition(exact, exact.shape[1] - k, axis=1)[:, exact.shape[1] - k]
    _, found = index.search(asked, k)
    hits = [(exact[at, row[row >= 0]] >= edge[at] - 1e-6).sum() for at, row in enumerate(found)]
    return float(np.sum(hits) / (k * len(asked)))


def query_recall(index: Any, asked: NDArray[np.float32]) -> float:
    """`recall` of an index that was written, for (q, d) vectors of queries; below MIN_RECALL the log warns.

    Queries lie elsewhere than texts, and large indexes find less of what is near to them.
    """
    found = recall(index, index.reconstruct_n(0, index.ntotal), asked)
    if found < MIN_RECALL:
        log.warning("index.misses_for_queries", recall_at_100=round(found, 4), wanted=MIN_RECALL, texts=index.ntotal)
    return found


def write_vectors(path: Path, texts: list[str], vectors: NDArray[np.float32], *, encoder: str, until: datetime) -> None:
    """Write product texts and their (n, d) float32 unit vectors; `encoder` is the sha256 of the one that made them."""
    meta = {"kind": "product_vectors", "fit_until": until.isoformat(), "encoder_sha256": encoder, "n": len(texts)}
    npz.write(path, {"texts": npz.pack_text(texts), "vectors": vectors}, meta)


def read_vectors(path: Path) -> tuple[list[str], NDArray[np.float32], str]:
    """Texts, their vectors and the sha256 of their encoder, from a verified file."""
    arrays, meta = npz.read(path, "product_vectors")
    return npz.unpack_text(arrays["texts"], int(meta["n"])), arrays["vectors"], str(meta["encoder_sha256"])


def with_new_texts(
    products: pd.DataFrame, texts: list[str], vectors: NDArray[np.float32], encoder: Callable[[], Encoder]
) -> tuple[list[str], NDArray[np.float32]]:
    """Texts and vectors that cover every product: those of products newer than the vectors are encoded now.

    Args:
        products: clean/products.
        texts: texts that have a vector.
        vectors: (len(texts), d) float32.
        encoder: loads the encoder that made `vectors`; called only when a text is new.
    """
    new = sorted(set(semantic_texts(products)) - set(texts))
    if not new:
        return texts, vectors
    return [*texts, *new], np.concatenate([vectors, encoder().encode_all(new)])
