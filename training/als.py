"""Implicit ALS (Hu, Koren & Volinsky, ICDM 2008): item factors; the customer's own is solved at request time."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pandas as pd
from implicit.cpu.als import AlternatingLeastSquares
from pydantic import BaseModel, NonNegativeInt, PositiveFloat, PositiveInt
from threadpoolctl import threadpool_limits

from serving.runtime.models import ALSModel
from training.purchases import interactions, meta_of


class ALSConfig(BaseModel, frozen=True, extra="forbid"):
    """Settings of one ALS fit."""

    embedding_size: PositiveInt = 32
    """Factors per product."""
    epochs: PositiveInt = 10
    """Alternations."""
    reg: PositiveFloat = 10.0
    """Ridge on factors."""
    alpha: PositiveFloat = 2.0
    """Confidence per unit of purchase weight, over 1."""
    min_households: PositiveInt = 5
    """Products bought by fewer households have no factor."""
    seed: NonNegativeInt = 0
    """Of the initial factors."""


def fit(config: ALSConfig, purchases: pd.DataFrame, until: datetime) -> ALSModel:
    """Item factors from purchases before `until`; the same bytes each time (one thread, fixed seed).

    Args:
        config: settings.
        purchases: columns of training.purchases.COLUMNS.
        until: end of the data, exclusive.

    Raises:
        NotEnoughData: no product was bought by min_households households before `until`.
    """
    data = interactions(purchases, until, config.min_households)
    confidence = data.matrix.copy()
    confidence.data = (1.0 + config.alpha * confidence.data).astype(np.float32)
    with threadpool_limits(1):
        model = AlternatingLeastSquares(
            factors=config.embedding_size,
            regularization=config.reg,
            iterations=config.epochs,
            num_threads=1,
            random_state=config.seed,
            calculate_training_loss=False,
        )
        model.fit(confidence, show_progress=False)
    factors = np.ascontiguousarray(model.item_factors, np.float32)
    meta = meta_of("als", until, config.model_dump())
    return ALSModel.of(data.item_ids, factors, config.alpha, config.reg, meta)
