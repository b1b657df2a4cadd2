"""LightGBM lambdarank over the candidates of the served pipeline; one ranker per goal."""

from __future__ import annotations

from typing import Final, Literal

import lightgbm as lgb
import numpy as np
from pydantic import BaseModel, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from feature_repo.ranker_features import FEATURE_NAMES
from serving.runtime.config import PipelineConfig
from serving.runtime.ranker import Ranker
from training.dataset import RankerRows, only_novel
from training.errors import NotEnoughData
from training.trees import to_onnx


class RankerConfig(BaseModel, frozen=True, extra="forbid"):
    """Settings of one ranker."""

    goal: Literal["all", "novel"] = "all"
    """Which question it answers; `novel` learns from products never bought only."""
    trees: PositiveInt = 120
    """Boosting rounds."""
    learning_rate: PositiveFloat = 0.06
    """Shrinkage per round."""
    leaves: PositiveInt = 15
    """Leaves per tree."""
    min_data: PositiveInt = 500
    """Rows per leaf, at least."""
    l2: NonNegativeFloat = 20.0
    """Ridge on leaf values."""
    feature_fraction: PositiveFloat = Field(default=0.5, le=1)
    """Share of the features that each tree may choose from, drawn by `seed`."""
    truncation: PositiveInt = 20
    """Places of the list that lambdarank optimises."""
    min_households: PositiveInt = 20
    """Fewer groups are refused."""
    threads: PositiveInt = 2
    """Fixed, because it is part of what makes the bytes reproducible."""
    averaged: PositiveInt = 1
    """Boosters whose scores are averaged; they differ in the features drawn."""
    seed: NonNegativeInt = 0
    """Of the first booster; the others count on from it."""


ALL = RankerConfig()
"""Settings of the ranker for everything; the mean of several is no better beyond chance (docs/quality.md)."""
NOVEL = RankerConfig(goal="novel", trees=100, averaged=5)
"""Settings of the ranker for products never bought; to be trained on NOVEL_WINDOWS label windows."""
NOVEL_WINDOWS: Final = 2
"""Label windows of four weeks that the `novel` ranker learns from, the last ending at `until`.

New products are few and follow the season: from one window it loses to ALS at the origin of week 37 (.044
against .048), from two it wins (.052). Three were better on weeks 34 to 37 (.0650 against .0631) and worse over the
four origins (+.0056 over ALS against +.0067). Join the windows with dataset.concatenate.
"""


def train(config: RankerConfig, rows: RankerRows, pipeline: PipelineConfig | None = None) -> Ranker:
    """The ranker of one goal; byte-reproducible (deterministic, row-wise, fixed threads and seed).

    Args:
        config: settings.
        rows: from training.dataset.build; all negatives kept.
        pipeline: the candidate settings that `rows` were made with.

    Raises:
        NotEnoughData: too few households, or nothing bought.
    """
    rows = only_novel(rows) if config.goal == "novel" else rows
    positives = int(np.count_nonzero(rows.labels))
    if rows.groups.size < config.min_households or positives == 0:
        raise NotEnoughData(
            f"found {rows.groups.size} households and {positives} purchases in the label window, needed "
            f"{config.min_households} and 1; move the window or lower min_households"
        )
    data = lgb.Dataset(
        rows.features,
        rows.labels.astype(np.float32),
        group=rows.groups,
        # Weights of 1 change nothing: without them LightGBM needs less memory.
        weight=rows.weights if (rows.weights != 1).any() else None,
        feature_name=list(FEATURE_NAMES),
        free_raw_data=True,
    )
    several = range(config.averaged) if config.averaged > 1 else ()
    draws = [{"feature_fraction_seed": config.seed + at} for at in several] or [{}]
    boosters = [lgb.train({**_parameters(config), **draw}, data, config.trees) for draw in draws]
    meta = {
        "kind": Ranker.kind,
        "goal": config.goal,
        "fit_until": rows.until.isoformat(),
        "first_label": rows.since.isoformat(),
        "config": config.model_dump(),
        "feature_names": list(FEATURE_NAMES),
        "pipeline": (pipeline or PipelineConfig()).model_dump(),
    }
    return Ranker.of(to_onnx(boosters, meta))


def _parameters(config: RankerConfig) -> dict[str, object]:
    """LightGBM's names for our settings."""
    return {
        "objective": "lambdarank",
        "learning_rate": config.learning_rate,
        "num_leaves": config.leaves,
        "min_data_in_leaf": config.min_data,
        "lambda_l2": config.l2,
        "feature_fraction": config.feature_fraction,
        "lambdarank_truncation_level": config.truncation,
        "num_threads": config.threads,
        "seed": config.seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
