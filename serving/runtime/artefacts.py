"""What one release ranks with: loaded from verified files, or built in memory for a draft."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from data_contracts.errors import ArtefactRefused
from serving.runtime.catalogue import Catalogue
from serving.runtime.config import PipelineConfig
from serving.runtime.models import MODELS, ItemModel
from serving.runtime.ranker import Ranker

Rows = NDArray[np.int64]

RANKERS = {"all": "ranker_all", "novel": "ranker_novel"}
"""Goal of a request -> name of its ranker's artefact."""
NAMES = (*MODELS, "product_features", *RANKERS.values())
"""Every artefact that rank() can use; only product_features is required."""


@dataclass(frozen=True, slots=True)
class BoundModel:
    """A retrieval model with its items mapped to rows of one catalogue.

    Attributes:
        items: items that the catalogue knows, ascending.
        rows: (m,) catalogue row of each item, -1 where the catalogue does not know it.
        positions: (p,) item of each catalogue row, -1 where the model does not know it.
    """

    model: ItemModel
    items: Rows
    rows: Rows
    positions: Rows

    @classmethod
    def of(cls, model: ItemModel, catalogue: Catalogue) -> Self:
        """The model bound to the catalogue."""
        rows = catalogue.rows_of(model.item_ids)
        items = np.flatnonzero(rows >= 0)
        positions = np.full(len(catalogue.product_ids), -1, np.int64)
        positions[rows[items]] = items
        return cls(model, items, rows, positions)


@dataclass(frozen=True, slots=True)
class Artefacts:
    """The models of a release or draft, bound to its catalogue; any model may be missing."""

    catalogue: Catalogue
    models: Mapping[str, BoundModel]
    rankers: Mapping[str, Ranker] = field(default_factory=dict)
    config: PipelineConfig = field(default_factory=PipelineConfig)

    @classmethod
    def of(
        cls,
        catalogue: Catalogue,
        models: Mapping[str, ItemModel],
        rankers: Mapping[str, Ranker] | None = None,
        config: PipelineConfig | None = None,
    ) -> Self:
        """Artefacts in memory: retrieval models by name (als, ease …), rankers by goal (all, novel).

        Without `config` the rankers' own candidate settings hold, else the defaults.

        Raises:
            ArtefactRefused: the rankers were trained with different candidate settings.
        """
        rankers = dict(rankers or {})
        bound = {name: BoundModel.of(models[name], catalogue) for name in MODELS if name in models}
        return cls(catalogue, bound, rankers, config or _config_of(rankers))

    def fit_until(self) -> dict[str, datetime]:
        """Artefact name -> the end (exclusive) of the data it was fitted on."""
        metas = {name: bound.model.meta for name, bound in self.models.items()}
        metas["product_features"] = self.catalogue.meta
        return {name: datetime.fromisoformat(meta["fit_until"]) for name, meta in metas.items()}


def _config_of(rankers: Mapping[str, Ranker]) -> PipelineConfig:
    """The candidate settings that all rankers share."""
    found = {PipelineConfig(**ranker.meta["pipeline"]) for ranker in rankers.values()}
    if len(found) > 1:
        raise ArtefactRefused("found rankers trained with different candidate settings; train both with one config")
    return found.pop() if found else PipelineConfig()


def load(paths: Mapping[str, Path]) -> Artefacts:
    """The artefacts of a release.

    Args:
        paths: artefact name (see NAMES; others are ignored) -> file, whose hash the caller has verified.

    Raises:
        ArtefactRefused: product_features is missing, or a file is not what its name says.
    """
    if "product_features" not in paths:
        raise ArtefactRefused(f"found artefacts {sorted(paths)}, needed product_features among them")
    models: dict[str, ItemModel] = {name: cls.load(paths[name]) for name, cls in MODELS.items() if name in paths}
    rankers = {goal: Ranker.load(paths[name]) for goal, name in RANKERS.items() if name in paths}
    return Artefacts.of(Catalogue.load(paths["product_features"]), models, rankers)
