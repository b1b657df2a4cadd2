"""One customer's features as arrays, built from the row that Feast returned, online or historical."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


def _values(row: Mapping[str, Any], name: str, dtype: type[np.generic]) -> NDArray[Any]:
    """The array feature `name` of the row; empty where it is missing."""
    value = row.get(name)
    if value is None:
        return np.empty(0, dtype)
    return np.asarray(value, dtype)


def _scalar(row: Mapping[str, Any], name: str) -> float:
    """The number under `name`; 0 where it is missing."""
    value = row.get(name)
    return 0.0 if value is None else float(value)


@dataclass(frozen=True, slots=True)
class CustomerFeatures:
    """What the pipeline reads of one customer: purchase history, RFM and category affinity.

    History arrays are (h,), one position per product; category arrays are (c,). Times are epoch
    seconds; decayed counts are purchases as of `snapshot_at`.
    """

    snapshot_at: int
    product_ids: Sequence[str]
    n_purchases: NDArray[np.float32]
    n_30d: NDArray[np.float32]
    n_60d: NDArray[np.float32]
    decayed_90d: NDArray[np.float32]
    decayed_30d: NDArray[np.float32]
    first_at: NDArray[np.int64]
    last_at: NDArray[np.int64]
    interval_days: NDArray[np.float32]
    categories: Sequence[str]
    category_affinity: NDArray[np.float32]
    category_n: NDArray[np.float32]
    category_last_at: NDArray[np.int64]
    n_baskets: float
    n_baskets_60d: float
    n_products: float
    first_basket_at: int
    last_basket_at: int
    baskets_per_week: float
    basket_minor: float

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> CustomerFeatures | None:
        """The customer in one Feast row (lists or arrays, missing as None); None where it has no history.

        Raises:
            ValueError: the history arrays differ in length, so positions cannot be trusted.
        """
        ids = row.get("product_ids")
        if ids is None or len(ids) == 0:
            return None
        ids = [str(i) for i in ids]
        customer = cls(
            snapshot_at=int(_scalar(row, "snapshot_at")),
            product_ids=ids,
            n_purchases=_values(row, "n_purchases", np.float32),
            n_30d=_values(row, "n_30d", np.float32),
            n_60d=_values(row, "n_60d", np.float32),
            decayed_90d=_values(row, "decayed_90d", np.float32),
            decayed_30d=_values(row, "decayed_30d", np.float32),
            first_at=_values(row, "first_at", np.int64),
            last_at=_values(row, "last_at", np.int64),
            interval_days=_values(row, "interval_days", np.float32),
            categories=[str(c) for c in _values(row, "categories", np.object_)],
            category_affinity=_values(row, "category_affinity", np.float32),
            category_n=_values(row, "category_n", np.float32),
            category_last_at=_values(row, "category_last_at", np.int64),
            n_baskets=_scalar(row, "n_baskets"),
            n_baskets_60d=_scalar(row, "n_baskets_60d"),
            n_products=_scalar(row, "n_products"),
            first_basket_at=int(_scalar(row, "first_basket_at")),
            last_basket_at=int(_scalar(row, "last_basket_at")),
            baskets_per_week=_scalar(row, "baskets_per_week"),
            basket_minor=_scalar(row, "basket_minor"),
        )
        customer._check()
        return customer

    def _check(self) -> None:
        """Refuses arrays of unequal length."""
        history = (
            "n_purchases",
            "n_30d",
            "n_60d",
            "decayed_90d",
            "decayed_30d",
            "first_at",
            "last_at",
            "interval_days",
        )
        category = ("category_affinity", "category_n", "category_last_at")
        for key, names in (("product_ids", history), ("categories", category)):
            needed = len(getattr(self, key))
            wrong = {n: len(getattr(self, n)) for n in names if len(getattr(self, n)) != needed}
            if wrong:
                raise ValueError(f"found {wrong} values, needed {needed} ({key}); materialise the customer again")
