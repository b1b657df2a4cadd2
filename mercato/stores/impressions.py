"""What was shown, read back: the gateway writes impressions (`serving.impressions`), others look them up here."""

import json
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from mercato.errors import StoreUnavailable
from mercato.settings import Settings
from mercato.stores import sqlite
from mercato.stores.events import microseconds
from mercato.stores.migrations import Steps, open_sqlite

STEPS: Steps = [
    [
        "CREATE TABLE IF NOT EXISTS feature_sets (digest TEXT PRIMARY KEY, names TEXT NOT NULL) WITHOUT ROWID",
        """
CREATE TABLE IF NOT EXISTS impressions (
  request_id TEXT NOT NULL,
  position INTEGER NOT NULL,
  product_id TEXT NOT NULL,
  score REAL NOT NULL,
  propensity REAL NOT NULL,
  surface TEXT NOT NULL,
  release_id TEXT NOT NULL,
  arm TEXT NOT NULL,
  customer_key TEXT,
  session_id TEXT,
  features BLOB,
  feature_set TEXT,
  known_at INTEGER NOT NULL,
  PRIMARY KEY (request_id, position)
) WITHOUT ROWID
""",
        "CREATE INDEX IF NOT EXISTS impressions_known_at ON impressions (known_at)",
    ]
]
"""Versions of the impression log; see `mercato.stores.migrations`."""
_BATCH = 20_000
"""Rows deleted in one transaction, so that the gateway writes between two; and read at once."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_QUERY = """
SELECT i.*, s.names FROM impressions AS i LEFT JOIN feature_sets AS s ON s.digest = i.feature_set
WHERE request_id = ? ORDER BY position
"""
_SPAN = """
SELECT request_id, position, product_id, score, propensity, surface, release_id, arm, customer_key, session_id,
  CASE WHEN features IS NOT NULL THEN lower(hex(features)) END, feature_set, names, known_at
FROM impressions LEFT JOIN feature_sets ON digest = feature_set
WHERE known_at >= ? AND known_at < ? ORDER BY known_at, request_id, position
"""


def impressions_url(settings: Settings) -> str:
    """URL of the impression log."""
    return settings.sqlite("impressions")


def impressions_of(settings: Settings, request_id: str) -> list[dict[str, Any]]:
    """One row per product of a ranked answer, best first, with the feature values that the ranker read.

    Empty when the request is unknown, or its impressions wait to be written.

    Raises:
        StoreUnavailable: the log cannot be read.
    """
    with _existing(settings) as connection:
        if connection is None:
            return []
        connection.row_factory = sqlite3.Row
        return [_readable(dict(row)) for row in connection.execute(_QUERY, (request_id,))]


def impression_batches(url: str, *, since: datetime, until: datetime) -> Iterator[list[tuple[Any, ...]]]:
    """What was answered in `[since, until)`, in the order of time, many products at once.

    Each: request_id, position, product_id, score, propensity, surface, release_id, arm, customer_key, session_id,
    features (hexadecimal of float32 little-endian), their digest, their names (JSON), and the time (microseconds).

    Raises:
        StoreUnavailable: the log cannot be read.
    """
    connection = open_sqlite(url, "impressions", STEPS, durable=False)
    try:
        found = connection.execute(_SPAN, (microseconds(since), microseconds(until)))
        while batch := found.fetchmany(_BATCH):
            yield batch
    except sqlite3.Error as error:
        raise StoreUnavailable(f"cannot read the impressions: {error}; try again in a moment") from error
    finally:
        connection.close()


def count_before(settings: Settings, at: datetime) -> int:
    """Impressions that were known before `at`."""
    with _existing(settings) as connection:
        if connection is None:
            return 0
        found = connection.execute("SELECT count(*) FROM impressions WHERE known_at < ?", (microseconds(at),))
        return int(found.fetchone()[0])


def delete_before(settings: Settings, at: datetime) -> int:
    """How many impressions known before `at` were deleted, in small transactions; a kill leaves the rest."""
    query = (
        "DELETE FROM impressions WHERE (request_id, position) IN "
        "(SELECT request_id, position FROM impressions WHERE known_at < ? LIMIT ?)"
    )
    total = 0
    with _existing(settings) as connection:
        while connection is not None and (gone := connection.execute(query, (microseconds(at), _BATCH)).rowcount):
            total += gone
    return total


@contextmanager
def _existing(settings: Settings) -> Iterator[sqlite3.Connection | None]:
    """A connection to the log; None while nothing was ever shown."""
    url = impressions_url(settings)
    if not sqlite.path_of(url).exists():
        yield None
        return
    connection = open_sqlite(url, "impressions", STEPS)
    try:
        yield connection
    except sqlite3.Error as error:
        raise StoreUnavailable(f"cannot use the impressions: {error}; try again in a moment") from error
    finally:
        connection.close()


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    blob, names = row.pop("features"), row.pop("names")
    values = struct.unpack(f"<{len(blob) // 4}f", blob) if blob is not None else ()
    known_at = _EPOCH + timedelta(microseconds=row.pop("known_at"))
    features = dict(zip(json.loads(names or "[]"), values, strict=True))
    # NaN (a source that does not know the product) has no JSON; it is left out.
    return {**row, "known_at": known_at.isoformat(), "features": {n: v for n, v in features.items() if v == v}}  # noqa: PLR0124
