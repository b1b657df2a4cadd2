"""Co-purchase: products that share baskets more than their popularity explains, by shrunk cosine."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pandas as pd
from pydantic import BaseModel, NonNegativeFloat, PositiveInt
from scipy import sparse

from serving.runtime.models import CoPurchaseModel
from training.errors import NotEnoughData
from training.purchases import before, largest_per_row, meta_of, to_sparse


class CoPurchaseConfig(BaseModel, frozen=True, extra="forbid"):
    """Settings of co-purchase."""

    lookback_days: PositiveInt = 182
    """Baskets are read this many days before `until`."""
    min_baskets: PositiveInt = 10
    """Products in fewer baskets are out."""
    neighbours: PositiveInt = 50
    """Neighbours kept per product."""
    shrinkage: NonNegativeFloat = 20.0
    """Added to the cosine's denominator, in baskets: rare pairs are trusted less."""


def fit(config: CoPurchaseConfig, purchases: pd.DataFrame, until: datetime) -> CoPurchaseModel:
    """Neighbours of each product from the baskets of [until - lookback_days, until).

    Raises:
        NotEnoughData: no product is in min_baskets baskets of that window.
    """
    rows = before(purchases, until)
    rows = rows.loc[rows["event_time"] >= until - timedelta(days=config.lookback_days)]
    items, item = np.unique(rows["product_id"].to_numpy(str), return_inverse=True)
    _, basket = np.unique(rows["basket_id"].to_numpy(str), return_inverse=True)
    baskets = sparse.csr_matrix((np.ones(len(rows), np.float32), (basket, item)))
    baskets.data[:] = 1.0
    keep = np.flatnonzero(baskets.getnnz(axis=0) >= config.min_baskets)
    if keep.size == 0:
        raise NotEnoughData(
            f"found no product in {config.min_baskets} baskets of {config.lookback_days} days; lower one"
        )
    baskets = baskets[:, keep].tocsr()
    together = (baskets.T @ baskets).tocsr()
    together.sort_indices()
    counts = together.diagonal()
    pairs = together.tocoo()
    scale = np.sqrt(counts[pairs.row] * counts[pairs.col]) + np.float32(config.shrinkage)
    values = np.where(pairs.row == pairs.col, 0.0, pairs.data / scale).astype(np.float32)
    cosine = sparse.csr_matrix((values, (pairs.row, pairs.col)), shape=together.shape)
    cosine.eliminate_zeros()
    cosine.sort_indices()
    nearest = largest_per_row(cosine, config.neighbours)
    meta = meta_of("co_purchase", until, config.model_dump())
    return CoPurchaseModel([str(i) for i in items[keep]], to_sparse(nearest), meta)
