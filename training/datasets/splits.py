"""Train, validation and test, and the proof that nothing leaks between them."""

import hashlib
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from data_contracts.contract import Contract
from data_contracts.shop import Shop
from feature_repo.text import normalise_query
from training.datasets.builder import SPLIT, SPLITS, Builder
from training.errors import NotEnoughData, TrainingError

_EXAMPLES = 3


class LeakageFound(TrainingError):
    """A split lets training see what it will be judged by; nothing was written."""


def with_splits(rows: pd.DataFrame, builder: Builder, shop: Shop) -> tuple[pd.DataFrame, list[datetime]]:
    """(rows with SPLIT, the instants at which validation and test begin; none unless split by time).

    By time, both instants are local midnights, and a row that happened before one of them and
    became known after it is in no split (null): it was not there to be learned from, and is no test either.

    Raises:
        NotEnoughData: no rows to split by time.
    """
    if builder.split == "time":
        if rows.empty:
            raise NotEnoughData(
                f"{builder.name}: found no row that holds, need some to split by time; are there clean "
                f"{', '.join(builder.reads)} in the window, with known customers?"
            )
        return _by_time(rows, builder.shares, shop)
    if builder.split == "text":
        places = np.array([place(text) for text in rows[builder.text]], dtype=float)
        bounds = np.cumsum(builder.shares)[:-1]
        at = np.searchsorted(bounds, places, side="right")
        return rows.assign(**{SPLIT: np.asarray(SPLITS, dtype=object)[at]}), []
    return rows.assign(**{SPLIT: SPLITS[0]}), []


def _by_time(rows: pd.DataFrame, shares: tuple[float, float, float], shop: Shop) -> tuple[pd.DataFrame, list[datetime]]:
    times = rows["event_time"].sort_values(ignore_index=True)
    cuts: list[datetime] = []
    for share in np.cumsum(shares)[:-1]:
        at = times.iloc[min(int(share * len(times)), len(times) - 1)].to_pydatetime()
        cuts.append(_nearest_midnight(shop, at))
    bounds = _naive(pd.Series(pd.DatetimeIndex(cuts)))
    happened = np.searchsorted(bounds, _naive(rows["event_time"]), side="right")
    known = np.searchsorted(bounds, _naive(rows["known_at"]), side="right")
    named = pd.Series(np.asarray(SPLITS, dtype=object)[happened], index=rows.index)
    return rows.assign(**{SPLIT: named.where(happened == known, None)}), cuts


def _nearest_midnight(shop: Shop, at: datetime) -> datetime:
    start, end = shop.day_bounds(shop.business_day(at))
    return start if at - start <= end - at else end


def _naive(times: pd.Series) -> Any:
    return times.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy("datetime64[us]")


def place(text: str) -> float:
    """Where a text lies in [0, 1): the same for every spelling that search and the intent model read alike."""
    return int(hashlib.sha256(normalise_query(text).encode()).hexdigest()[:13], 16) / 16**13


def check_leakage(
    rows: pd.DataFrame, builder: Builder, contract: Contract, cuts: list[datetime], until: datetime
) -> dict[str, str]:
    """What was checked and what was found, in words.

    Raises:
        LeakageFound: a session, or a text, on two sides; or something known only after its split's end.
    """
    said: dict[str, str] = {}
    if builder.one_side:
        said[f"{builder.one_side} on one side only"] = _one_side(rows, builder.one_side, str)
    if builder.text:
        said[f"{builder.text} on one side only"] = _one_side(rows, builder.text, normalise_query)
    if builder.split != "time":
        return said
    times = [column.name for column in contract.columns if column.logicalType == "timestamp"]
    for split, end in zip(SPLITS, [*cuts, until], strict=True):
        inside = rows[rows[SPLIT] == split]
        for name in times:
            late = inside[inside[name] >= end]
            if len(late):
                raise LeakageFound(
                    f"{builder.name}: {len(late):,} rows of {split} have a {name} at or after the end of that split, "
                    f"{end.isoformat()}, e.g. {_some(late)}; a feature from the future would be learned"
                )
    said["nothing from after its split"] = f"{', '.join(times)} of {len(rows):,} rows lie before their split's end"
    return said


def _one_side(rows: pd.DataFrame, column: str, read: Callable[[str], str]) -> str:
    values = rows[column].map(read)
    sides = rows.groupby(values)[SPLIT].nunique()
    torn = sides[sides > 1]
    if len(torn):
        examples = rows[values.isin(torn.index[:_EXAMPLES])].sort_values([column, SPLIT])
        raise LeakageFound(
            f"{len(torn):,} values of {column} are in more than one split, e.g. {_some(examples, [column, SPLIT])}; "
            "what is tested would have been learned"
        )
    return f"{len(sides):,} values"


def _some(rows: pd.DataFrame, columns: Iterable[str] | None = None) -> list[dict[str, Any]]:
    shown = rows if columns is None else rows[list(columns)]
    return [{str(name): str(value) for name, value in row.items()} for row in shown.head(_EXAMPLES).to_dict("records")]
