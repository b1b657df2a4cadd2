"""The event log: what shoppers did. A row is acknowledged only after it is on the disk, and counted once.

Each process has one writer thread, which puts all requests that wait at that moment into one transaction
(group commit); several processes write to one file, one transaction at a time.
"""

import queue
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from mercato.clock import Clock, clock
from mercato.errors import StoreUnavailable
from mercato.settings import Settings
from mercato.stores.migrations import Steps, open_sqlite

Origin = Literal["real", "replayed", "simulated"]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_GROUP = 512
"""Requests in one transaction at most."""
_WAITING = 20_000
"""Requests that may wait for the disk; more are refused, since memory is not durable."""
_BATCH = 50_000
"""Rows read at once."""

STEPS: Steps = [
    [
        """
CREATE TABLE IF NOT EXISTS events (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  event_id TEXT NOT NULL UNIQUE,
  type TEXT NOT NULL,
  customer_key TEXT,
  session_id TEXT NOT NULL,
  product_id TEXT,
  request_id TEXT,
  position INTEGER,
  quantity INTEGER,
  price_minor INTEGER,
  event_time INTEGER NOT NULL,
  origin TEXT NOT NULL,
  release_id TEXT,
  propensity REAL,
  known_at INTEGER NOT NULL
)
""",
        "CREATE INDEX IF NOT EXISTS events_known_at ON events (known_at)",
    ],
    ["ALTER TABLE events ADD COLUMN query TEXT"],
]
"""Versions of the event log; see `mercato.stores.migrations`."""


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event as it is kept. Times are microseconds since 1970 UTC, money integer minor units."""

    event_id: str
    type: str
    customer_key: str | None
    session_id: str
    product_id: str | None
    request_id: str | None
    position: int | None
    quantity: int | None
    price_minor: int | None
    event_time: int
    origin: Origin
    release_id: str | None
    """Set by whoever replays or simulates; a real event finds its release through `request_id`."""
    propensity: float | None
    """As `release_id`."""
    query: str | None = None
    """What was searched for."""


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """A row of the log with the time at which it reached us."""

    row: EventRow
    known_at: datetime


@dataclass(frozen=True, slots=True)
class Appended:
    """What became durable of one request."""

    accepted: int
    duplicate: int


_COLUMNS = [field.name for field in fields(EventRow)]
_INSERT = (
    f"INSERT INTO events ({', '.join(_COLUMNS)}, known_at) VALUES ({', '.join('?' * len(_COLUMNS))}, ?) "
    "ON CONFLICT (event_id) DO NOTHING"
)
_Waiting = tuple[Sequence[EventRow], "Future[Appended]"]


def microseconds(at: datetime) -> int:
    """Microseconds since 1970 UTC of a zone-aware time."""
    return (at - _EPOCH) // _MICROSECOND


class EventLog:
    """One process's door to the log at `url`; safe to call from any thread."""

    def __init__(self, url: str, now: Clock) -> None:
        self._url = url
        self._now = now
        self._waiting: queue.Queue[_Waiting | None] = queue.Queue(_WAITING)
        self._closed = False
        self._writer = threading.Thread(target=self._write_groups, name="event-log", daemon=True)
        self._writer.start()

    def append(self, rows: Sequence[EventRow]) -> "Future[Appended]":
        """Done when the rows are on the disk; fails with StoreUnavailable when they may not be.

        A failed call may be repeated with the same `event_id`s: what had been written counts as duplicate.
        """
        done: Future[Appended] = Future()
        if self._closed:
            raise StoreUnavailable("the event log is closed: the process is shutting down; send the events again")
        try:
            self._waiting.put_nowait((rows, done))
        except queue.Full:
            raise StoreUnavailable(
                f"{_WAITING} requests already wait for the event log's disk; send the events again in a moment"
            ) from None
        return done

    def close(self) -> None:
        """Write what waits, then stop; every pending future is settled."""
        if not self._closed:
            self._closed = True
            self._waiting.put(None)
            self._writer.join()

    def _write_groups(self) -> None:
        connection: sqlite3.Connection | None = None
        while (waiting := self._next_group()) is not None:
            # From here a caller that stops waiting cannot withdraw its rows; one that did before is left out.
            group = [each for each in waiting if each[1].set_running_or_notify_cancel()]
            try:
                connection = connection or _open(self._url)
                counts = self._write(connection, [rows for rows, _ in group])
            except Exception as error:  # noqa: BLE001 - a writer that dies would fail every later request
                _discard(connection)
                connection = None
                failure = StoreUnavailable(f"the event log cannot be written: {error}; nothing was acknowledged")
                for _, done in group:
                    done.set_exception(failure)
            else:
                for (_, done), count in zip(group, counts, strict=True):
                    done.set_result(count)
        _discard(connection)

    def _next_group(self) -> list[_Waiting] | None:
        """All that waits now, at least one; None once the log is closed and drained."""
        first = self._waiting.get()
        if first is None:
            return None
        group = [first]
        while len(group) < _GROUP:
            try:
                each = self._waiting.get_nowait()
            except queue.Empty:
                break
            if each is None:
                self._waiting.put(None)
                break
            group.append(each)
        return group

    def _write(self, connection: sqlite3.Connection, requests: list[Sequence[EventRow]]) -> list[Appended]:
        counts = []
        connection.execute("BEGIN IMMEDIATE")
        # Taken under the write lock, so that the order of `known_at` is the order of commits.
        known_at = microseconds(self._now())
        for rows in requests:
            cursor = connection.executemany(_INSERT, [(*astuple(row), known_at) for row in rows])
            counts.append(Appended(accepted=cursor.rowcount, duplicate=len(rows) - cursor.rowcount))
        connection.execute("COMMIT")
        return counts


def _open(url: str) -> sqlite3.Connection:
    connection = open_sqlite(url, "events", STEPS)
    connection.execute("PRAGMA busy_timeout = 3000")
    return connection


def _discard(connection: sqlite3.Connection | None) -> None:
    """Close, which rolls back what was not committed."""
    if connection is not None:
        connection.close()


def read_events(
    url: str, *, known_from: datetime, known_before: datetime, origins: Sequence[Origin] = ("real", "replayed")
) -> Iterator[StoredEvent]:
    """The events that reached us in `[known_from, known_before)`, in the order of their commits."""
    for batch in event_batches(url, known_from=known_from, known_before=known_before, origins=origins):
        for *values, known_at in batch:
            yield StoredEvent(EventRow(*values), _EPOCH + known_at * _MICROSECOND)


def event_batches(
    url: str, *, known_from: datetime, known_before: datetime, origins: Sequence[Origin]
) -> Iterator[list[tuple[Any, ...]]]:
    """The same, many at once: the fields of `EventRow` in their order, then `known_at` (microseconds)."""
    connection = open_sqlite(url, "events", STEPS)
    try:
        marks = ", ".join("?" * len(origins))
        query = (
            f"SELECT {', '.join(_COLUMNS)}, known_at FROM events "
            f"WHERE known_at >= ? AND known_at < ? AND origin IN ({marks}) ORDER BY seq"
        )
        window = microseconds(known_from), microseconds(known_before)
        found = connection.execute(query, (*window, *origins))
        while batch := found.fetchmany(_BATCH):
            yield batch
    finally:
        connection.close()


def last_position(url: str) -> int:
    """Position of the newest commit, 0 for an empty log.

    Positions are taken under the write lock: no commit that was under way gets one at or before it.
    """
    connection = open_sqlite(url, "events", STEPS)
    try:
        row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
    finally:
        connection.close()
    return int(row[0]) if row else 0


def read_between(url: str, after: int, upto: int) -> Iterator[tuple[int, StoredEvent]]:
    """(position in the log, event) of what has a position in `(after, upto]`, in that order; none simulated."""
    connection = open_sqlite(url, "events", STEPS)
    try:
        query = (
            f"SELECT seq, {', '.join(_COLUMNS)}, known_at FROM events "
            "WHERE seq > ? AND seq <= ? AND origin <> 'simulated' ORDER BY seq"
        )
        for found, *values, known_at in connection.execute(query, (after, upto)):
            yield found, StoredEvent(EventRow(*values), _EPOCH + known_at * _MICROSECOND)
    finally:
        connection.close()


def event_log(settings: Settings) -> EventLog:
    """The log that `MERCATO_EVENTS_URL` names."""
    return EventLog(settings.events(), clock(settings))
