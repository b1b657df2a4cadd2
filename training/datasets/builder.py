"""What a training dataset is made by: one builder each, frozen values in, rows of its contract out."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import pyarrow as pa

from data_contracts.contract import Contract, load_contract
from data_contracts.datasets import DATASETS
from data_contracts.shop import Shop
from mercato.paths import Lake

SPLITS = ("train", "validation", "test")
SPLIT = "split"
"""Column that a version has beside its contract's."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a builder may look at."""

    lake: Lake
    shop: Shop
    since: datetime
    """First event of the dataset."""
    until: datetime
    """Nothing that happened or became known at or after it is read."""
    file: Path | None = None
    """Rows that people made, for the datasets that come from a file."""


def _nothing(_: Inputs) -> dict[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class Builder:
    """One dataset."""

    name: str
    reads: tuple[str, ...]
    """Clean tables that it is made of; empty when it comes from a file."""
    rows: Callable[[Inputs], pa.Table]
    """Its rows in the contract's columns, in any order."""
    split: Literal["time", "text", "groups", "none"]
    """`time`: train happened and was known before validation began. `text`: by a text's hash. `groups`: the values of
    `one_side` in each of the `strata`, later ones by `order` in test. `none`: all is train."""
    shares: tuple[float, float, float] = (1.0, 0.0, 0.0)
    """Of train, validation and test."""
    one_side: str = ""
    """Column whose value may be on one side of the splits only."""
    text: str = ""
    """Column whose normalised text may be on one side only."""
    strata: tuple[str, ...] = ()
    """Columns of which every value is shared out alike."""
    order: str = ""
    """Column with a time, null where it is not known: such rows go by the hash of their text."""
    digests: Callable[[Inputs], dict[str, str]] = _nothing
    """Name -> digest of what it reads beside clean tables and a file."""

    @property
    def contract(self) -> Contract:
        """What its rows promise."""
        return load_contract(self.name, DATASETS)
