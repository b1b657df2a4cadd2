"""A split of texts: near-duplicates stay together, every stratum is shared out alike, later texts are tested."""

import hashlib
from typing import Any

import numpy as np
import pandas as pd

from feature_repo.text import normalise_query
from training.datasets.builder import SPLIT, SPLITS, Builder
from training.errors import TrainingError
from training.near_duplicates import crossing

_EXAMPLES = 3


class LeakageFound(TrainingError):
    """A split lets training see what it will be judged by; nothing was written."""


def by_group(rows: pd.DataFrame, builder: Builder) -> pd.DataFrame:
    """`rows` with SPLIT.

    In each stratum the groups stand in the order of their newest text, those without a time in the order of a hash and
    by themselves; where the middle of a group falls decides its side. A group larger than the share of test is trained
    on, however late: it would fill a test by itself.
    """
    groups = _groups(rows, builder)
    bounds = np.cumsum(builder.shares)[:-1]
    for _, part in groups.groupby([*builder.strata, "timed"], sort=True, dropna=False):
        ordered = part.sort_values(["newest", "place"])
        middle = (ordered["size"].cumsum() - ordered["size"] / 2) / ordered["size"].sum()
        at = np.searchsorted(bounds, middle.to_numpy(), side="right")
        groups.loc[ordered.index, SPLIT] = np.asarray(SPLITS, dtype=object)[np.where(ordered["large"], 0, at)]
    return rows.assign(**{SPLIT: rows[builder.one_side].map(groups[SPLIT]).astype(object)})


def _groups(rows: pd.DataFrame, builder: Builder) -> pd.DataFrame:
    """One row per group: its stratum (the most frequent), size, newest text, place; whether it is timed, and large."""
    text = rows[builder.text].map(place)
    keyed = rows.assign(_place=text)
    grouped = keyed.groupby(builder.one_side, sort=True)
    made = grouped.agg(size=(builder.text, "size"), newest=(builder.order, "max"), place=("_place", "min"))
    strata = keyed.groupby([builder.one_side, *builder.strata], dropna=False).size().rename("_n").reset_index()
    strata = strata.sort_values([*builder.strata]).sort_values("_n", ascending=False, kind="stable")
    made = made.join(strata.drop_duplicates(builder.one_side).set_index(builder.one_side)[list(builder.strata)])
    made["timed"] = made["newest"].notna()
    total = made.groupby([*builder.strata, "timed"], dropna=False)["size"].transform("sum")
    made["large"] = (made["size"] > builder.shares[2] * total) & (made["size"] > 1)
    return made.assign(**{SPLIT: None})


def check_groups(rows: pd.DataFrame, builder: Builder) -> dict[str, str]:
    """What was checked beside groups and texts, and what was found.

    Raises:
        LeakageFound: a text has a near-duplicate on another side, or in a stratum train holds a group younger
            than one of test; groups too large for test aside.
    """
    sides = {split: sorted(rows.loc[rows[SPLIT] == split, builder.text]) for split in SPLITS}
    for left, right in (("train", "test"), ("validation", "test"), ("train", "validation")):
        found = crossing(sides[left], sides[right])
        if found:
            raise LeakageFound(
                f"{builder.name}: {len(found):,} texts of {right} have a near-duplicate in {left}, e.g. "
                f"{found[:_EXAMPLES]}; what is tested would have been learned"
            )
    groups = _groups(rows, builder)
    groups[SPLIT] = rows.groupby(builder.one_side)[SPLIT].first()
    fair = groups[groups["timed"] & ~groups["large"]]
    for stratum, part in fair.groupby(list(builder.strata), sort=True, dropna=False):
        newest, first = (_edge(part, "train", "max"), _edge(part, "test", "min"))
        if newest is not None and first is not None and newest > first:
            raise LeakageFound(
                f"{builder.name}: of {stratum} train holds a text of {newest.isoformat()}, which is younger than one "
                f"of test, {first.isoformat()}; test would not be later"
            )
    large = int(groups["large"].sum())
    return {
        "near-duplicates on one side only": f"{len(groups):,} groups",
        f"{builder.order} of test after train": f"{len(fair):,} groups with a time; {large} large groups are in train",
    }


def _edge(part: pd.DataFrame, split: str, edge: str) -> Any:
    times = part.loc[part[SPLIT] == split, "newest"]
    return None if times.empty else getattr(times, edge)()


def place(text: str) -> float:
    """Where a text lies in [0, 1): the same for every spelling that search and the intent model read alike."""
    return int(hashlib.sha256(normalise_query(text).encode()).hexdigest()[:13], 16) / 16**13
