"""The nightly search index: BM25 impacts over product texts and a FAISS index over their vectors."""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy import sparse

from feature_repo.search_text import search_tokens, semantic_text
from feature_repo.text import product_text
from serving.runtime import npz
from serving.runtime.encoder import Encoder
from serving.runtime.search import KeywordIndex

SEMANTIC_FIELDS: Final = ("name", "product_type", "brand", "category", "department")
"""Columns of clean/products that say what a product is."""
TEXT_FIELDS: Final = (*SEMANTIC_FIELDS, "package_size")
"""Columns of clean/products that shoppers search by."""


class IndexConfig(BaseModel):
    """What the search index depends on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    k1: float = Field(default=0.9, gt=0)
    """BM25 saturation of a word's count; product texts are short, so lower than the 1.2 of web pages."""
    b: float = Field(default=0.4, ge=0, le=1)
    """BM25 share of length normalisation."""


def semantic_texts(products: pd.DataFrame) -> list[str]:
    """The text to embed for each row of clean/products."""
    return [semantic_text(**row) for row in _texts(products, SEMANTIC_FIELDS)]


def full_texts(products: pd.DataFrame) -> list[str]:
    """The text to index by word for each row of clean/products."""
    return [product_text(**row) for row in _texts(products, TEXT_FIELDS)]


def _texts(products: pd.DataFrame, columns: tuple[str, ...]) -> Iterator[dict[str, str | None]]:
    """Column -> text, row by row; None where it is missing."""
    rows = products[list(columns)].astype(object).where(products[list(columns)].notna(), None)
    for values in rows.itertuples(index=False, name=None):
        yield dict(zip(columns, values, strict=True))


def bm25_impacts(docs: list[list[str]], vocabulary: list[str], config: IndexConfig) -> sparse.csc_matrix:
    """(n_docs, n_words) float32 BM25 impacts: a query's score is the sum of its words' columns.

    Source: Robertson & Zaragoza, The Probabilistic Relevance Framework, 2009; idf as in Lucene (never negative).
    """
    column = {word: at for at, word in enumerate(vocabulary)}
    lengths = np.array([len(doc) for doc in docs], dtype=np.float64)
    norm = config.k1 * (1 - config.b + config.b * lengths / max(lengths.mean(), 1.0))
    rows, columns, counts = [], [], []
    for at, doc in enumerate(docs):
        for word, count in sorted(Counter(doc).items()):
            rows.append(at)
            columns.append(column[word])
            counts.append(float(count))
    tf = np.array(counts)
    frequency = np.bincount(columns, minlength=len(vocabulary))
    idf = np.log1p((len(docs) - frequency + 0.5) / (frequency + 0.5))
    impact = idf[columns] * tf * (config.k1 + 1) / (tf + norm[rows])
    return sparse.csc_matrix((impact.astype(np.float32), (rows, columns)), shape=(len(docs), len(vocabulary)))


def build_keyword_index(  # noqa: PLR0913
    products: pd.DataFrame, vector_texts: list[str], config: IndexConfig, path: Path, *, encoder: str, until: datetime
) -> None:
    """Write the keyword index and the products' rows in both indexes to `path` (npz).

    Args:
        products: clean/products, one row per product, in product_id order.
        vector_texts: the texts of the FAISS index, in its row order.
        config: BM25 parameters.
        path: file to write.
        encoder: sha256 of the encoder whose vectors the FAISS index holds.
        until: nothing later was read.
    """
    texts = full_texts(products)
    docs = sorted(set(texts))
    tokens = [search_tokens(doc) for doc in docs]
    vocabulary = sorted({word for doc in tokens for word in doc})
    impacts = bm25_impacts(tokens, vocabulary, config)
    meta = {
        "kind": KeywordIndex.kind,
        "fit_until": until.isoformat(),
        "config": config.model_dump(),
        "encoder_sha256": encoder,
        "n_docs": len(docs),
        "n_products": len(products),
        "n_words": len(vocabulary),
    }
    arrays = {
        "product_ids": npz.pack_text(products["product_id"].tolist()),
        "doc_of_product": _positions(texts, docs),
        "text_of_product": _positions(semantic_texts(products), vector_texts),
        "vocabulary": npz.pack_text(vocabulary),
        "data": impacts.data,
        "indices": impacts.indices.astype(np.int32),
        "indptr": impacts.indptr.astype(np.int32),
    }
    npz.write(path, arrays, meta)


def _positions(values: list[str], known: list[str]) -> NDArray[np.int32]:
    at = {value: position for position, value in enumerate(known)}
    return np.array([at[value] for value in values], dtype=np.int32)


def build_vector_index(vectors: NDArray[np.float32], path: Path) -> None:
    """Write an exact inner-product FAISS index over (n, d) float32 unit vectors."""
    import faiss

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors))
    faiss.write_index(index, str(path))


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
