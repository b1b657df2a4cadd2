"""Golden sets: what a shop's search must find, `data_contracts/golden/<shop>.csv` beside its data card."""

from pathlib import Path
from typing import Final

import pandas as pd

from training.errors import NotEnoughData
from training.search_quality import Judgments

GOLDEN: Final = Path(__file__).resolve().parent.parent / "data_contracts" / "golden"


def has(shop: str, folder: Path = GOLDEN) -> bool:
    """Whether the shop has a golden set."""
    return (folder / f"{shop}.csv").exists()


def read(shop: str, folder: Path = GOLDEN) -> Judgments:
    """The golden set of a shop: columns query, product_id (empty where nothing answers), grade (0 to 4), slice.

    Raises:
        NotEnoughData: the shop has none.
    """
    path = folder / f"{shop}.csv"
    if not path.exists():
        raise NotEnoughData(f"found no golden set of {shop}, needed {path.name} in data_contracts/golden")
    kinds = {"query": str, "product_id": str, "grade": int, "slice": str}
    return Judgments.of(pd.read_csv(path, dtype=kinds, keep_default_na=False))
