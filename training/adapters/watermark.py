"""What to ask a database or an API for, so that a window of `known_at` is covered."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from data_contracts.tables import Table

_FOLD = timedelta(hours=2)
"""A clock that is set back shows an hour twice: local bounds are this much wider."""


@dataclass(frozen=True, slots=True)
class Watermark:
    """The column whose values tell when a row is known, and how it is written."""

    column: str
    delay: timedelta
    zone: str
    kind: str
    """`timestamp`, or `string` where only the ISO date at its beginning is compared."""

    def bounds(self, since: datetime, until: datetime, *, aware: bool) -> tuple[datetime | str, datetime | str]:
        """[first, last) in the column's own spelling that covers [since, until) of `known_at`."""
        first, last = since - self.delay, until - self.delay
        if self.kind == "string":
            return f"{first.date() - timedelta(days=1)}", f"{last.date() + timedelta(days=2)}"
        if aware:
            return first, last
        if self.zone == "UTC":
            return first.astimezone(UTC).replace(tzinfo=None), last.astimezone(UTC).replace(tzinfo=None)
        zone = ZoneInfo(self.zone)
        first, last = (each.astimezone(zone).replace(tzinfo=None) for each in (first - _FOLD, last + _FOLD))
        return first, last


def watermark(spec: Table) -> Watermark | None:
    """A table's `known_at.column`, else the timestamp that its delay is added to; None when all must be read."""
    known, event = spec.known_at, spec.event_time
    if known.column:
        column, zone, form, delay = known.column, known.zone, known.format, timedelta(0)
    elif event.timestamp and not event.lookup:
        column, zone, form, delay = event.timestamp, event.zone, event.format, known.delay
    else:
        return None
    kind = spec.columns[column]
    if kind == "timestamp" or (kind == "string" and (not form or form.startswith("%Y-%m-%d"))):
        return Watermark(column, delay, zone, kind)
    return None
