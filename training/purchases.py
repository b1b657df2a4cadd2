"""Purchases as a sparse household x product matrix: what every retrieval model is fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from serving.runtime.models import Sparse
from training.errors import BadConfig, NotEnoughData

COLUMNS: Final = ("customer_key", "basket_id", "product_id", "event_time")
"""Columns of clean/transactions that retrieval models read."""
HALF_LIFE_DAYS: Final = 90.0
"""Half-life of a purchase's weight, the one of customer_history.decayed_90d."""


@dataclass(frozen=True, slots=True)
class Interactions:
    """Weights of u households over m products, all before `until`.

    Attributes:
        matrix: (u, m) float32 CSR, log(1 + decayed purchases), the weight that serving uses too.
        item_ids: product ids in ascending order.
    """

    matrix: sparse.csr_matrix
    item_ids: Sequence[str]

    @property
    def households(self) -> NDArray[np.int64]:
        """(m,) households that bought each product."""
        return np.asarray(self.matrix.getnnz(axis=0), np.int64)


def before(purchases: pd.DataFrame, until: datetime) -> pd.DataFrame:
    """The rows with event_time < until, one per household, basket and product.

    Raises:
        BadConfig: a column is missing, or `until` has no zone.
        NotEnoughData: no row is left.
    """
    missing = sorted(set(COLUMNS) - set(purchases.columns))
    if missing:
        raise BadConfig(f"found purchases without {missing}, needed {list(COLUMNS)}")
    if until.tzinfo is None:
        raise BadConfig(f"found until={until.isoformat()} without zone, needed one with")
    rows = purchases.loc[purchases["event_time"] < until, list(COLUMNS)]
    rows = rows.drop_duplicates(["customer_key", "basket_id", "product_id"], ignore_index=True)
    if rows.empty:
        raise NotEnoughData(f"found no purchase before {until.isoformat()}; extract earlier data or move `until`")
    return rows


def interactions(purchases: pd.DataFrame, until: datetime, min_households: int) -> Interactions:
    """Purchases before `until` of products that at least `min_households` households bought.

    Raises:
        NotEnoughData: no product reaches that number.
    """
    rows = before(purchases, until).dropna(subset=["customer_key"])
    if rows.empty:
        raise NotEnoughData(f"found no purchase of a known customer before {until.isoformat()}; check the mapping")
    age = (pd.Timestamp(until) - rows["event_time"]).dt.total_seconds().to_numpy() / 86_400.0
    users, user = np.unique(rows["customer_key"].to_numpy(str), return_inverse=True)
    items, item = np.unique(rows["product_id"].to_numpy(str), return_inverse=True)
    micro = np.rint(1e6 * np.exp2(-age / HALF_LIFE_DAYS)).astype(np.int64)
    summed = sparse.coo_matrix((micro, (user, item)), shape=(users.size, items.size)).tocsr()
    summed.sum_duplicates()
    matrix = summed.astype(np.float32)
    matrix.data = np.log1p(summed.data / 1e6).astype(np.float32)
    keep = np.flatnonzero(matrix.getnnz(axis=0) >= min_households)
    if keep.size == 0:
        raise NotEnoughData(f"found no product bought by {min_households} households; lower min_households")
    return Interactions(matrix[:, keep].tocsr(), [str(i) for i in items[keep]])


def to_sparse(matrix: sparse.csr_matrix) -> Sparse:
    """The served form of a CSR matrix, columns ascending within each row."""
    matrix.sort_indices()
    return Sparse(sparse.csr_array(matrix, dtype=np.float32))


def largest_per_row(matrix: sparse.csr_matrix, k: int) -> sparse.csr_matrix:
    """The k largest values of each row, ties to the lower column."""
    kept = []
    for row in range(matrix.shape[0]):
        start, end = matrix.indptr[row], matrix.indptr[row + 1]
        values = matrix.data[start:end]
        best = np.argsort(-values, kind="stable")[:k]
        kept.append(start + np.sort(best))
    at = np.concatenate(kept) if kept else np.empty(0, np.int64)
    indptr = np.r_[0, np.cumsum([len(k_) for k_ in kept])]
    return sparse.csr_matrix((matrix.data[at], matrix.indices[at], indptr), shape=matrix.shape)


def meta_of(kind: str, until: datetime, config: dict[str, object]) -> dict[str, object]:
    """The meta of an artefact."""
    return {"kind": kind, "fit_until": until.isoformat(), "config": config}


__all__ = ["COLUMNS", "Interactions", "before", "interactions", "largest_per_row", "meta_of", "to_sparse"]
