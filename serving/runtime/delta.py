"""Products that changed since the index was built, as a small part of their own: scored like the others. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_repo.search_text import field_texts
from feature_repo.text import product_name
from serving.runtime.catalogue import STOCK_UNKNOWN
from serving.runtime.keyword import KeywordIndex, Postings
from serving.runtime.part import Part
from serving.runtime.shelf import Shelf

Body = Mapping[str, Any]
"""Columns of clean/products; what is missing is unknown."""


def part_of(products: Mapping[str, Body], vectors: NDArray[np.float32], base: Part) -> Part | None:
    """The part of some products; None for none.

    Args:
        products: product id -> its columns.
        vectors: (len(products), d) unit vectors of their texts, in the same order.
        base: the catalogue, whose statistics and settings hold; a product that it knows keeps its popularity.
    """
    import faiss

    if not products:
        return None
    known = base.keyword
    postings, _ = Postings.of([field_texts(body) for body in products.values()], known.config, known.statistics)
    at = np.arange(len(products), dtype=np.int32)
    keyword = KeywordIndex(
        list(products), at, at, postings, known.statistics, known.config, known.encoder_sha256, known.meta
    )
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors, dtype=np.float32))
    return Part(keyword, index, _shelf(products, base.shelf))


def _shelf(products: Mapping[str, Body], base: Shelf) -> Shelf:
    bodies: Sequence[Body] = list(products.values())
    sold = {str(pid): at for at, pid in enumerate(base.product_ids) if str(pid) in products}
    return Shelf(
        product_ids=list(products),
        name=[shown_name(body) for body in bodies],
        category=np.array([body.get("category") or "" for body in bodies], dtype=np.str_),
        brand=np.array([body.get("brand") or "" for body in bodies], dtype=np.str_),
        price_minor=np.array([body.get("list_price_minor") or 0 for body in bodies], dtype=np.int64),
        popularity=np.array([base.popularity[sold[pid]] if pid in sold else 0 for pid in products], dtype=np.float32),
        in_stock=np.array([_stock(body.get("in_stock")) for body in bodies], dtype=np.int8),
    )


def _stock(said: bool | None) -> int:
    return STOCK_UNKNOWN if said is None else int(said)


def shown_name(body: Body) -> str:
    """What a shopper reads."""
    columns = ("name", "product_type", "package_size", "brand", "category", "department")
    return product_name(**{column: body.get(column) for column in columns})
