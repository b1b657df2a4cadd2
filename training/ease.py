"""EASE (Steck, WWW 2019): a linear item-item model in closed form, kept as its largest weights per item."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, PositiveFloat, PositiveInt
from scipy import sparse
from scipy.linalg import lapack
from threadpoolctl import threadpool_limits

from serving.runtime.models import EASEModel
from training.errors import BadConfig
from training.purchases import Interactions, interactions, meta_of, to_sparse


class EASEConfig(BaseModel, frozen=True, extra="forbid"):
    """Settings of one EASE fit."""

    reg: PositiveFloat = 400.0
    """Ridge on the diagonal of the Gram matrix."""
    items: PositiveInt = 6000
    """Products in the model: those that most households bought."""
    neighbours: PositiveInt = 100
    """Weights kept per product, the largest in absolute value."""
    min_households: PositiveInt = 5
    """Products bought by fewer households are out."""


def fit(config: EASEConfig, purchases: pd.DataFrame, until: datetime) -> EASEModel:
    """The sparse weight matrix from purchases before `until`; one BLAS thread, so the same bytes each time.

    Raises:
        NotEnoughData: no product was bought by min_households households before `until`.
    """
    data = interactions(purchases, until, config.min_households)
    keep = np.sort(np.argsort(-data.households, kind="stable")[: config.items])
    data = Interactions(data.matrix[:, keep].tocsr(), [data.item_ids[i] for i in keep])
    with threadpool_limits(1):
        weights = _weights(data.matrix, config.reg)
    rows = _largest(weights, config.neighbours)
    return EASEModel(data.item_ids, to_sparse(rows), meta_of("ease", until, config.model_dump()))


def _weights(matrix: sparse.csr_matrix, reg: float) -> NDArray[np.float32]:
    """(m, m) float32 with a zero diagonal: weight of item row for the score of item column."""
    gram = np.asfortranarray((matrix.T @ matrix).toarray().astype(np.float32))
    diagonal = np.diag_indices_from(gram)
    gram[diagonal] += np.float32(reg)
    factor, problem = lapack.spotrf(gram, lower=1, overwrite_a=1)
    if problem == 0:
        inverse, problem = lapack.spotri(factor, lower=1, overwrite_c=1)
    if problem != 0:
        raise BadConfig(f"found a Gram matrix that cannot be inverted with reg={reg}; raise reg")
    lower = np.tril(inverse)
    inverse = lower + np.tril(lower, -1).T
    weights = inverse / -inverse[diagonal][None, :]
    weights[diagonal] = 0.0
    return np.asarray(weights, np.float32)


def _largest(weights: NDArray[np.float32], k: int) -> sparse.csr_matrix:
    """Each row's k largest weights in absolute value; the item votes for (column) others, never for itself."""
    m = weights.shape[0]
    k = min(k, m)
    best = np.sort(np.argpartition(-np.abs(weights), k - 1, axis=1)[:, :k], axis=1)
    values = np.take_along_axis(weights, best, axis=1)
    matrix = sparse.csr_matrix((values.ravel(), best.ravel(), np.arange(m + 1) * k), shape=(m, m))
    matrix.eliminate_zeros()
    return matrix
