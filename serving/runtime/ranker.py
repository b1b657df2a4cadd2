"""The LightGBM ranker as it is served: text in, scores of candidates out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from data_contracts.errors import ArtefactRefused
from feature_repo.ranker_features import FEATURE_NAMES

if TYPE_CHECKING:
    import lightgbm as lgb

Floats = NDArray[np.float32]
_TRAILER = "\nmercato:"
"""Starts the last line of the file: our meta, which LightGBM itself does not read."""


@dataclass(frozen=True, slots=True)
class Ranker:
    """Trees over the feature matrix of one request.

    meta: kind, goal, fit_until, config, feature_names, pipeline (the candidate settings it was trained with).
    """

    kind: ClassVar[str] = "ranker"
    booster: lgb.Booster
    text: str
    meta: Mapping[str, Any]

    def scores(self, features: Floats) -> Floats:
        """(n,) float32 for (n, f) features, higher is better; one thread."""
        return np.asarray(self.booster.predict(features, num_threads=1), np.float32)

    def save(self, path: Path) -> Path:
        """Writes LightGBM text with one meta line at its end, put in place by one replace."""
        aside = path.with_name(path.name + ".part")
        meta = json.dumps(self.meta, sort_keys=True, separators=(",", ":"))
        aside.write_text(f"{self.text}{_TRAILER}{meta}\n")
        aside.replace(path)
        return path

    @classmethod
    def of(cls, text: str, meta: Mapping[str, Any]) -> Self:
        """The ranker of a LightGBM text.

        Raises:
            ArtefactRefused: it was trained on other features, or the text does not parse.
        """
        import lightgbm as lgb  # brings scikit-learn along: seconds that only those who rank should pay

        found = tuple(meta.get("feature_names", ()))
        if found != FEATURE_NAMES:
            differing = sorted(set(found) ^ set(FEATURE_NAMES)) or "their order"
            raise ArtefactRefused(f"found a ranker over other features ({differing}); train it again with this code")
        try:
            return cls(lgb.Booster(model_str=text), text, meta)
        except lgb.basic.LightGBMError as problem:
            raise ArtefactRefused(f"found LightGBM text that does not parse ({problem}), needed a ranker") from problem

    @classmethod
    def load(cls, path: Path) -> Self:
        """The ranker of one file; the caller has verified its hash (a cut file can crash LightGBM)."""
        text, marker, meta = path.read_text().rpartition(_TRAILER)
        if not marker:
            raise ArtefactRefused(f"found no meta line in {path.name}, needed one; train the ranker again")
        return cls.of(text, json.loads(meta))
