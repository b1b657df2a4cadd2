"""Ranker rows on disk, between the task that builds them and the tasks that learn from them."""

from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import numpy as np

from serving.runtime import npz
from training.dataset import RankerRows

KIND = "ranker_rows"


def save(rows: RankerRows, path: Path) -> None:
    """Write rows to `path`."""
    arrays = {name: value for name, value in asdict(rows).items() if isinstance(value, np.ndarray)}
    meta = {
        "kind": KIND,
        "since": rows.since.isoformat(),
        "until": rows.until.isoformat(),
        "relevant": list(rows.relevant),
    }
    npz.write(path, arrays, meta)


def load(path: Path) -> RankerRows:
    """The rows at `path`."""
    arrays, meta = npz.read(path, KIND)
    first, second = meta["relevant"]
    return RankerRows(
        **arrays,
        since=datetime.fromisoformat(meta["since"]),
        until=datetime.fromisoformat(meta["until"]),
        relevant=(int(first), int(second)),
    )
