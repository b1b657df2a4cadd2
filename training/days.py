"""Rows of many business days: how many are worked on at once, their split by day, and the one order of a day's rows."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_contracts.shop import Shop
from mercato.cores import on_every_core

T = TypeVar("T")

CHUNK_ROWS = 1_000_000
"""Rows brought into memory at once; a single day may have more."""


def chunks(counts: dict[date, int]) -> Iterator[list[date]]:
    """Consecutive days of at most CHUNK_ROWS rows together, at least one day each."""
    taken: list[date] = []
    total = 0
    for day, n in counts.items():
        if taken and total + n > CHUNK_ROWS:
            yield taken
            taken, total = [], 0
        taken.append(day)
        total += n
    if taken:
        yield taken


def by_known_at(frame: pa.Table) -> pa.Table:
    """The rows by ascending `known_at`, as they are when they come so."""
    known = frame["known_at"].cast(pa.int64()).to_numpy()
    if (known[1:] >= known[:-1]).all():
        return frame.combine_chunks()
    return frame.take(pa.array(np.argsort(known, kind="stable"))).combine_chunks()


def split_by_day(shop: Shop, frame: pa.Table, days: list[date]) -> Iterator[tuple[date, pa.Table]]:
    """(day, its rows) of a frame sorted by `known_at`."""
    known = frame["known_at"].cast(pa.int64()).to_numpy()
    for day in days:
        since, until = (int(each.timestamp()) * 1_000_000 for each in shop.day_bounds(day))
        first, last = np.searchsorted(known, [since, until])
        yield day, frame.slice(first, last - first)


def in_order(rows: pa.Table, columns: Iterable[str]) -> pa.Table:
    """The rows by ascending values of `columns`, the first first; nulls last."""
    return rows.take(pc.sort_indices(rows, sort_keys=[(name, "ascending") for name in columns])).combine_chunks()


def each_day(work: Callable[[date, pa.Table], T], days: Sequence[tuple[date, pa.Table]]) -> Iterator[T]:
    """`work` on each day's rows, on every core, in the days' order."""
    return on_every_core(lambda each: work(*each), days)
