"""User kNN: anonymous household rows, weighted by inverse household frequency, compared by cosine."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pandas as pd
from pydantic import BaseModel, PositiveInt
from scipy import sparse

from serving.runtime.models import UserKNNModel
from training.purchases import interactions, meta_of, to_sparse


class KNNConfig(BaseModel, frozen=True, extra="forbid"):
    """Settings of the user kNN."""

    k: PositiveInt = 200
    """Households that vote."""
    min_households: PositiveInt = 3
    """Products bought by fewer households are out."""


def fit(config: KNNConfig, purchases: pd.DataFrame, until: datetime) -> UserKNNModel:
    """Both orientations of the household x product matrix from purchases before `until`. No customer key is kept.

    Raises:
        NotEnoughData: no product was bought by min_households households before `until`.
    """
    data = interactions(purchases, until, config.min_households)
    idf = np.log1p(data.matrix.shape[0] / data.households).astype(np.float32)
    by_item = _unit_rows((data.matrix @ sparse.diags(idf)).tocsr())
    votes = data.matrix.copy()
    votes.data = votes.data.astype(np.float32)
    return UserKNNModel(
        item_ids=data.item_ids,
        idf=idf,
        by_household=to_sparse(votes),
        by_item=to_sparse(by_item.T.tocsr()),
        k=config.k,
        meta=meta_of("user_knn", until, config.model_dump()),
    )


def _unit_rows(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """The matrix with rows of length one; empty rows stay empty."""
    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return (sparse.diags(1.0 / np.maximum(norms, 1e-12)) @ matrix).tocsr().astype(np.float32)
