"""What shoppers turn to right now: one decayed score a product, brought forward event by event.

A score is kept as of its product's last event, so that an update touches the products of new events only;
whoever reads brings all scores to one instant.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from mercato.settings import Settings
from mercato.stores.migrations import Steps, open_sqlite

STEPS: Steps = [
    [
        """
CREATE TABLE IF NOT EXISTS popularity
(product_id TEXT PRIMARY KEY, score REAL NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID
""",
        "CREATE TABLE IF NOT EXISTS progress (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL)",
    ],
    ["ALTER TABLE progress ADD COLUMN until INTEGER NOT NULL DEFAULT 0"],
]
"""Versions of the store; see `mercato.stores.migrations`."""
_SECOND = 1_000_000
"""Microseconds."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """One event that counts: position in the log, product, weight, when it happened (microseconds, UTC)."""

    seq: int
    product_id: str
    weight: float
    at: int


class PopularityStore:
    """The scores at `url`; each call opens and closes its own connection."""

    def __init__(self, url: str, half_life_seconds: float) -> None:
        self._url = url
        self._half_life = half_life_seconds * _SECOND

    def progress(self) -> int:
        """Position in the event log up to which events are counted, 0 at first."""
        connection = open_sqlite(self._url, "popularity", STEPS)
        try:
            row = connection.execute("SELECT seq FROM progress").fetchone()
        finally:
            connection.close()
        return int(row[0]) if row else 0

    def add(self, events: Iterable[Weighed], upto: int) -> int:
        """How many events were counted, all in one transaction; those up to `progress()` are left out.

        Args:
            events: in the order of the log.
            upto: position that was read up to, counted events or not.
        """
        connection = open_sqlite(self._url, "popularity", STEPS)
        n = 0
        try:
            connection.execute("BEGIN IMMEDIATE")
            row = connection.execute("SELECT seq FROM progress").fetchone()
            counted = int(row[0]) if row else 0
            for event in events:
                if event.seq > counted:
                    self._add_one(connection, event)
                    n += 1
            connection.execute(
                "INSERT INTO progress (one, seq) VALUES (1, ?) ON CONFLICT (one) DO UPDATE SET seq = excluded.seq",
                (max(upto, counted),),
            )
            connection.execute("COMMIT")
        finally:
            connection.close()
        return n

    def brought_forward(self, until: int) -> None:
        """Note that a run counted all events before an instant (microseconds, UTC)."""
        connection = open_sqlite(self._url, "popularity", STEPS)
        try:
            connection.execute(
                "INSERT INTO progress (one, seq, until) VALUES (1, 0, ?) "
                "ON CONFLICT (one) DO UPDATE SET until = max(until, excluded.until)",
                (until,),
            )
        finally:
            connection.close()

    def until(self) -> int | None:
        """The instant (microseconds, UTC) up to which the newest run counted; None before the first one."""
        connection = open_sqlite(self._url, "popularity", STEPS)
        try:
            row = connection.execute("SELECT until FROM progress").fetchone()
        finally:
            connection.close()
        return int(row[0]) or None if row else None

    def _add_one(self, connection: sqlite3.Connection, event: Weighed) -> None:
        execute = connection.execute
        row = execute("SELECT score, at FROM popularity WHERE product_id = ?", (event.product_id,)).fetchone()
        score, at = (row[0], row[1]) if row else (0.0, event.at)
        now = max(at, event.at)
        score = score * self._left(now - at) + event.weight * self._left(now - event.at)
        execute("INSERT OR REPLACE INTO popularity VALUES (?, ?, ?)", (event.product_id, score, now))

    def _left(self, microseconds: int) -> float:
        return float(2.0 ** (-microseconds / self._half_life))

    def scores(self, at: int) -> dict[str, float]:
        """product_id -> score at an instant (microseconds, UTC), highest first; ties by product_id."""
        connection = open_sqlite(self._url, "popularity", STEPS)
        try:
            rows = connection.execute("SELECT product_id, score, at FROM popularity").fetchall()
        finally:
            connection.close()
        now = {product: score * self._left(max(at - then, 0)) for product, score, then in rows}
        return dict(sorted(now.items(), key=lambda each: (-each[1], each[0])))


HALF_LIFE_SECONDS = 24 * 3600.0
"""Of an event's weight: yesterday's counts half."""


def popularity_store(settings: Settings) -> PopularityStore:
    """The store that `MERCATO_POPULARITY_URL` names."""
    return PopularityStore(settings.popularity(), HALF_LIFE_SECONDS)
