"""Ranker rows on disk, between the task that builds them and the tasks that learn from them."""

from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import numpy as np

from serving.runtime import npz
from serving.runtime.config import PipelineConfig
from training.dataset import RankerRows

KIND = "ranker_rows"


def save(rows: RankerRows, pipeline: PipelineConfig, path: Path) -> None:
    """Write rows, and the candidate settings that they were made with, to `path`."""
    arrays = {name: value for name, value in asdict(rows).items() if isinstance(value, np.ndarray)}
    meta = {
        "kind": KIND,
        "since": rows.since.isoformat(),
        "until": rows.until.isoformat(),
        "relevant": list(rows.relevant),
        "pipeline": pipeline.model_dump(),
    }
    npz.write(path, arrays, meta, compressed=False)


def load(path: Path) -> tuple[RankerRows, PipelineConfig]:
    """The rows at `path` and their candidate settings."""
    arrays, meta = npz.read(path, KIND)
    first, second = meta["relevant"]
    rows = RankerRows(
        **arrays,
        since=datetime.fromisoformat(meta["since"]),
        until=datetime.fromisoformat(meta["until"]),
        relevant=(int(first), int(second)),
    )
    return rows, PipelineConfig(**meta["pipeline"])
