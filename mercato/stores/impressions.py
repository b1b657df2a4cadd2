"""What was shown, read back: the gateway writes impressions (`serving.impressions`), others look them up here."""

import json
import sqlite3
import struct
from datetime import UTC, datetime, timedelta
from typing import Any

from mercato.errors import StoreUnavailable
from mercato.settings import Settings
from mercato.stores import sqlite

_QUERY = """
SELECT i.*, s.names FROM impressions AS i LEFT JOIN feature_sets AS s ON s.digest = i.feature_set
WHERE request_id = ? ORDER BY position
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
    url = impressions_url(settings)
    if not sqlite.path_of(url).exists():
        return []
    connection = sqlite.connect(url, durable=False)
    try:
        connection.row_factory = sqlite3.Row
        return [_readable(dict(row)) for row in connection.execute(_QUERY, (request_id,))]
    except sqlite3.Error as error:
        raise StoreUnavailable(f"cannot read the impressions: {error}; try again in a moment") from error
    finally:
        connection.close()


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    blob, names = row.pop("features"), row.pop("names")
    values = struct.unpack(f"<{len(blob) // 4}f", blob) if blob is not None else ()
    known_at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=row.pop("known_at"))
    features = dict(zip(json.loads(names or "[]"), values, strict=True))
    # NaN (a source that does not know the product) has no JSON; it is left out.
    return {**row, "known_at": known_at.isoformat(), "features": {n: v for n, v in features.items() if v == v}}  # noqa: PLR0124
