"""Counts of a source's rows while DuckDB reads them: none is left out unseen, and the source is read once."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from training.moments import microseconds

_NAME = "mercato_keeps"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _keeps(known_at: int, repeat: bool) -> bool:  # type: ignore[empty-body]
    """Whether a row known so many microseconds after 1970 is kept (`Counted.keep`)."""


_keeps_row = ibis.udf.scalar.builtin(_keeps, name=_NAME, signature=((dt.int64, dt.boolean), dt.boolean))


@dataclass(slots=True)
class Counted:
    """How many rows passed, by what became of them; filled while a query runs."""

    since: datetime
    until: datetime
    history: tuple[datetime, datetime]
    """[since, until) in which the shop's rows are expected."""
    read: int = 0
    repeats: int = 0
    """Rows of [since, until) that change nothing."""
    kept: int = 0
    """Rows of [since, until) that change something, and rows without a time."""
    outside_history: int = 0
    strange: str = ""
    """When one of the rows outside the history was known, UTC: the first before it, else the last after it."""
    _lock: Lock = field(default_factory=Lock, init=False)

    def keep(self, con: Any, rows: Any, repeat: Any) -> Any:
        """The `rows` known in [since, until) that are no `repeat`, and those without a time; counted as they pass.

        Args:
            con: Ibis connection to DuckDB, for this count alone.
            rows: with `known_at`.
            repeat: boolean column of `rows`, or a literal.
        """
        con.con.create_function(
            _NAME, self._count, ["BIGINT", "BOOLEAN"], "BOOLEAN",
            type="arrow", null_handling="special", side_effects=True,
        )  # fmt: skip
        return rows.filter(_keeps_row(microseconds(rows.known_at), repeat))

    def _count(self, known_at: pa.ChunkedArray, repeat: pa.ChunkedArray) -> pa.Array:
        undated = known_at.is_null().to_numpy()
        known = known_at.fill_null(0).to_numpy()
        inside = ~undated & _within(known, self.since, self.until)
        again = inside & repeat.to_numpy()
        kept = undated | (inside & ~again)
        strange = known[~undated & ~_within(known, *self.history)]
        with self._lock:
            self.read += known.size
            self.repeats += int(again.sum())
            self.kept += int(kept.sum())
            if strange.size:
                self.outside_history += strange.size
                self._show(strange.min(), strange.max())
        return pa.array(kept)

    def _show(self, first: np.int64, last: np.int64) -> None:
        """Keep the stranger of an example and what was found now."""
        begin = str(np.datetime64(_microseconds(self.history[0]), "us"))
        found = [str(np.datetime64(int(each), "us")) for each in (first, last)]
        early = [each for each in (*found, self.strange) if each and each < begin]
        self.strange = min(early) if early else max(found[1], self.strange)


def _within(known: NDArray[np.int64], since: datetime, until: datetime) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (known >= _microseconds(since)) & (known < _microseconds(until))
    return inside


def _microseconds(instant: datetime) -> int:
    return (instant - _EPOCH) // timedelta(microseconds=1)
