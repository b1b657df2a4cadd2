"""Golden files: what was rendered must equal what is committed; `UPDATE_GOLDEN=1 make unit` writes them anew."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def check_golden(path: Path, rendered: str) -> None:
    """Compare `rendered` with the committed file at `path`, or write it when UPDATE_GOLDEN is set."""
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(rendered)
    assert path.exists(), f"{path} is missing: run UPDATE_GOLDEN=1 make unit and read the diff"
    assert rendered == path.read_text(), f"{path.name} is stale: run UPDATE_GOLDEN=1 make unit and read the diff"
