"""The catalogue artefact: clean products and the product_stats snapshot joined into arrays."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from feature_repo.snapshots import PRODUCT_COLUMNS
from feature_repo.text import product_name, product_text
from serving.runtime.catalogue import STOCK_UNKNOWN, Catalogue
from training.errors import BadConfig, NotEnoughData
from training.purchases import meta_of

PRODUCT_FIELDS = ("department", "brand", "category", "product_type", "package_size")
"""Columns of clean/products that the catalogue keeps, beside product_id."""


def fit(products: pd.DataFrame, stats: pd.DataFrame, until: datetime) -> Catalogue:
    """The catalogue as of `until`.

    Args:
        products: clean/products, one row per product_id.
        stats: feature_repo.snapshots.product_stats at `until`; products without a row get zeros.
        until: T of the snapshot.

    Raises:
        BadConfig: a product_id occurs twice, or a column is missing.
        NotEnoughData: there is no product.
    """
    if products.empty:
        raise NotEnoughData("found no product, needed at least one; load clean/products")
    if products["product_id"].duplicated().any():
        raise BadConfig("found a product_id twice in products, needed one row each: read them through as_of")
    missing = sorted(set(PRODUCT_COLUMNS) - set(stats.columns))
    if missing:
        raise BadConfig(f"found product_stats without {missing}; take the snapshot again")
    columns = ["product_id", "name", *PRODUCT_FIELDS]
    joined = products[columns].merge(stats[["product_id", *PRODUCT_COLUMNS]], on="product_id", how="left")
    fields = {c: [None if pd.isna(v) else str(v) for v in joined[c]] for c in PRODUCT_FIELDS}
    fields["name"] = [None if pd.isna(v) else str(v) for v in joined["name"]]
    rows = [dict(zip(fields, values, strict=True)) for values in zip(*fields.values(), strict=True)]
    text = {column: [value or "" for value in values] for column, values in fields.items()}
    text["product_id"] = joined["product_id"].astype(str).tolist()
    text["name"] = [product_name(**row) for row in rows]
    text["text"] = [product_text(**row) for row in rows]
    numbers = {
        c: joined[c].fillna(0).to_numpy("int64" if t == "Int64" else "float32") for c, t in PRODUCT_COLUMNS.items()
    }
    numbers["price_minor"] = _prices(numbers["price_minor"], products)
    return Catalogue.of(text, numbers, meta_of("product_features", until, {}), _stock(products))


def _stock(products: pd.DataFrame) -> NDArray[np.int8]:
    """(p,) 1, 0, or STOCK_UNKNOWN where the source does not say."""
    if "in_stock" not in products:
        return np.full(len(products), STOCK_UNKNOWN, np.int8)
    known = products["in_stock"].astype("boolean").astype("Int8").fillna(STOCK_UNKNOWN)
    return np.asarray(known, dtype=np.int8)


def _prices(sold: NDArray[np.int64], products: pd.DataFrame) -> NDArray[np.int64]:
    """(p,) the list price of products, else what one unit cost on average (see `product_stats`), else 0."""
    if "list_price_minor" not in products:
        return sold
    listed = pd.to_numeric(products["list_price_minor"]).fillna(0).to_numpy("int64")
    return np.where(listed > 0, listed, sold)
