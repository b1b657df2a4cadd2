"""The ranker as it is served: boosted trees as ONNX in, scores of candidates out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from data_contracts.errors import ArtefactRefused
from feature_repo.ranker_features import FEATURE_NAMES

Floats = NDArray[np.float32]
META: Final = "mercato"
"""Key of our meta (JSON) among the model's own properties."""
INPUT: Final = "features"
"""The model's input: (n, len(FEATURE_NAMES)) float32, NaN where a source does not know the candidate."""


@dataclass(frozen=True, slots=True)
class Ranker:
    """Trees over the feature matrix of one request; thread-safe.

    meta: kind, goal, fit_until, config, feature_names, pipeline (the candidate settings it was trained with).
    """

    kind: ClassVar[str] = "ranker"
    model: bytes
    meta: Mapping[str, Any]
    session: ort.InferenceSession

    def scores(self, features: Floats) -> Floats:
        """(n,) float32 for (n, f) features, higher is better; one thread."""
        (scores,) = self.session.run(None, {INPUT: features})
        return np.asarray(scores, np.float32)[:, 0]

    def save(self, path: Path) -> Path:
        """Writes the ONNX file, put in place by one replace."""
        aside = path.with_name(path.name + ".part")
        aside.write_bytes(self.model)
        aside.replace(path)
        return path

    @classmethod
    def of(cls, model: bytes) -> Self:
        """The ranker of an ONNX model.

        Raises:
            ArtefactRefused: it does not parse, has no meta, or was trained on other features.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as problem:
            # ONNX Runtime's own errors share no base class that it exports.
            raise ArtefactRefused(f"found a model that does not parse ({problem}), needed a ranker") from problem
        stated = session.get_modelmeta().custom_metadata_map.get(META)
        if stated is None:
            raise ArtefactRefused("found an ONNX model without our meta, needed a ranker; train it again")
        meta = json.loads(stated)
        found = tuple(meta.get("feature_names", ()))
        if found != FEATURE_NAMES:
            differing = sorted(set(found) ^ set(FEATURE_NAMES)) or "their order"
            raise ArtefactRefused(f"found a ranker over other features ({differing}); train it again with this code")
        return cls(model, meta, session)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The ranker of one file; the caller has verified its hash."""
        return cls.of(path.read_bytes())
