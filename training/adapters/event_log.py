"""Our own logs as a source: the events that clients sent, and the ranked answers that were shown."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import ibis
import pyarrow as pa

from data_contracts.sources import EventLog
from mercato.settings import Settings
from mercato.stores import sqlite
from mercato.stores.events import event_batches
from mercato.stores.impressions import impression_batches, impressions_url

_LATEST = timedelta(days=1)
"""Rows are read from so long before the window: more than any delay that `own_logs.yaml` states."""
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
_TIME = pa.timestamp("us", "UTC")
_EVENTS = pa.schema(
    [
        *((name, pa.string()) for name in ("event_id", "type", "customer_key", "session_id", "product_id")),
        ("request_id", pa.string()),
        *((name, pa.int64()) for name in ("position", "quantity", "price_minor")),
        ("happened_at", _TIME),
        *((name, pa.string()) for name in ("origin", "release_id")),
        ("propensity", pa.float64()),
        ("query", pa.string()),
        ("durable_at", _TIME),
    ]
)
"""In the order of `event_batches`."""
_IMPRESSIONS = pa.schema(
    [
        ("request_id", pa.string()),
        ("position", pa.int64()),
        ("product_id", pa.string()),
        *((name, pa.float64()) for name in ("score", "propensity")),
        *((name, pa.string()) for name in ("surface", "release_id", "arm", "customer_key", "session_id")),
        *((name, pa.string()) for name in ("features", "feature_set", "feature_names")),
        ("answered_at", _TIME),
    ]
)
"""In the order of `impression_batches`."""
Batches = Iterator[list[tuple[Any, ...]]]
_KINDS: dict[str, tuple[pa.Schema, Callable[[str, datetime, datetime], Batches]]]


@dataclass(frozen=True, slots=True)
class OwnLog:
    """One log, read by the time at which its rows became durable."""

    log: str
    url: str

    @property
    def text(self) -> bool:
        """The log has types."""
        return False

    def schema(self) -> pa.Schema:
        """The columns of `own_logs.yaml`."""
        return _KINDS[self.log][0]

    def digest(self) -> str:
        """Hex SHA-256 of what is read of the log: it grows, and what is written once stays as it is."""
        return hashlib.sha256(f"{self.log} {self.schema()}".encode()).hexdigest()

    def relation(self, con: Any, since: datetime, until: datetime) -> Any:
        """A table of `con` with the rows that became durable in [since, until), and some before; empty without a log.

        Raises:
            StoreUnavailable: the log cannot be read.
        """
        name = ibis.util.gen_name(self.log)
        table = con.create_table(name, schema=ibis.schema(self.schema()), temp=True)
        for batch in self._batches(since - _LATEST, until):
            con.insert(name, batch)
        return table

    def sample(self, con: Any, rows: int) -> pa.Table:
        """The first rows of the log."""
        del con
        first = next(self._batches(_FIRST, _LAST), None)
        return self.schema().empty_table() if first is None else first.slice(0, rows)

    def _batches(self, since: datetime, until: datetime) -> Iterator[pa.Table]:
        schema, read = _KINDS[self.log]
        if not sqlite.path_of(self.url).exists():
            return  # opening it would make it
        for batch in read(self.url, since, until):
            columns = zip(zip(*batch, strict=True), schema.types, strict=True)
            yield pa.table([pa.array(values, kind) for values, kind in columns], schema=schema)


def own(source: EventLog) -> OwnLog:
    """The log that a source names."""
    if source.url:
        return OwnLog(source.log, source.url)
    settings = Settings()
    return OwnLog(source.log, settings.events() if source.log == "events" else impressions_url(settings))


def _events(url: str, since: datetime, until: datetime) -> Batches:
    return event_batches(url, known_from=since, known_before=until, origins=("real", "replayed", "simulated"))


def _impressions(url: str, since: datetime, until: datetime) -> Batches:
    return impression_batches(url, since=since, until=until)


_KINDS = {"events": (_EVENTS, _events), "impressions": (_IMPRESSIONS, _impressions)}
