"""How long each step of the data's way took: what the backfill planner estimates from, and which days had no rows."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime

import structlog

from mercato.errors import MercatoError
from mercato.settings import Settings
from mercato.stores.migrations import Steps, open_sqlite

STEPS: Steps = [
    [
        """
CREATE TABLE IF NOT EXISTS steps (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  shop TEXT NOT NULL,
  step TEXT NOT NULL,
  name TEXT NOT NULL,
  since TEXT NOT NULL,
  until TEXT NOT NULL,
  seconds REAL NOT NULL,
  code_revision TEXT NOT NULL
)
""",
        "CREATE INDEX IF NOT EXISTS steps_name ON steps (shop, step, name)",
    ]
]
"""Versions of the step log; see `mercato.stores.migrations`."""
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Step:
    """One finished step over [since, until)."""

    since: datetime
    until: datetime
    seconds: float
    """Wall time."""
    code_revision: str

    @property
    def days(self) -> float:
        """Length of the window."""
        return (self.until - self.since).total_seconds() / 86_400


@contextmanager
def timed(  # noqa: PLR0913 - a step and its window
    settings: Settings, step: str, name: str, since: datetime, until: datetime, *, code_revision: str
) -> Iterator[None]:
    """Note how long the body took, unless it raises; a note that cannot be kept does not undo the work."""
    started = time.perf_counter()
    yield
    row = (settings.shop, step, name, since.isoformat(), until.isoformat(), time.perf_counter() - started)
    try:
        with closing(open_sqlite(settings.sqlite("steps"), "steps", STEPS)) as connection:
            connection.execute(
                "INSERT INTO steps (shop, step, name, since, until, seconds, code_revision) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (*row, code_revision),
            )
    except (MercatoError, OSError, sqlite3.Error) as error:
        log.warning("steps.not_noted", step=step, name=name, reason=str(error))


def finished(settings: Settings, step: str, name: str) -> list[Step]:
    """The finished runs of a step, oldest first."""
    with closing(open_sqlite(settings.sqlite("steps"), "steps", STEPS)) as connection:
        found = connection.execute(
            "SELECT since, until, seconds, code_revision FROM steps WHERE shop = ? AND step = ? AND name = ? "
            "ORDER BY seq",
            (settings.shop, step, name),
        ).fetchall()
    return [Step(datetime.fromisoformat(s), datetime.fromisoformat(u), seconds, code) for s, u, seconds, code in found]
