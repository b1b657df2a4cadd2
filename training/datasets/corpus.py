"""The product corpus: every product known, in words, with what it cost lately."""

from datetime import timedelta
from typing import Any

import pyarrow as pa
from ibis import _

from data_contracts.lake import as_of
from feature_repo.text import product_text
from training.datasets.builder import Builder, Inputs

_LATELY = timedelta(days=28)
_ATTRIBUTES = ("product_type", "package_size", "brand", "category", "department")


def _rows(given: Inputs) -> pa.Table:
    """One row per product, as it was known at `until`."""
    sold = as_of(
        given.lake,
        "transactions",
        event_before=given.until,
        known_before=given.until,
        since=given.until - _LATELY,
    )
    prices = sold.group_by("product_id").agg(price_minor=(_.sales_minor.sum() / _.quantity.sum()).round().cast("int64"))
    products = as_of(given.lake, "products", event_before=given.until, known_before=given.until)
    rows: list[dict[str, Any]] = (
        products.left_join(prices, "product_id").drop("product_id_right").to_pyarrow().to_pylist()
    )
    texts = [product_text(name=row["name"], **{each: row[each] for each in _ATTRIBUTES}) for row in rows]
    columns = [column.name for column in CORPUS.contract.columns if column.name != "text"]
    table = pa.table({name: pa.array([row[name] for row in rows]) for name in columns})
    return table.append_column("text", pa.array(texts, pa.string()))


CORPUS = Builder(
    name="product_corpus",
    reads=("products", "transactions"),
    rows=_rows,
    split="none",
)
