"""The one place that says which window a run works on: half-open `[since, until)`, UTC-aware, never from the clock.

In this order: the run's params, the data interval of a scheduled or backfill run, a partition key
(a business day of the shop), the asset events that started the run. Without any of them the run fails.
A manual run has no data interval of its own: Airflow would infer one from the clock, so it is not read.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from data_contracts.errors import NoWindow
from data_contracts.shop import Shop

_TIMED_RUNS = frozenset({"scheduled", "backfill"})
_NEXT_STEP = 'trigger it with since and until, e.g. {"since": "2017-12-03T05:00:00Z", "until": "2017-12-04T05:00:00Z"}'


@dataclass(frozen=True, slots=True)
class Window:
    """`[since, until)`, both UTC."""

    since: datetime
    until: datetime

    def __post_init__(self) -> None:
        if self.since.tzinfo is None or self.until.tzinfo is None:
            raise NoWindow(f"found the naive window {self.since}..{self.until}; write the offset, e.g. ...T05:00:00Z")
        if not self.since < self.until:
            raise NoWindow(f"found since {self.since.isoformat()} not before until {self.until.isoformat()}")


@dataclass(frozen=True, slots=True)
class Run:
    """What a run says about its time."""

    run_type: str
    params: Mapping[str, Any] = field(default_factory=dict)
    interval: tuple[datetime, datetime] | None = None
    partition_key: str | None = None
    events: tuple[Mapping[str, Any], ...] = ()
    """`extra` of each asset event that started the run."""


def window_of(run: Run, shop: Shop) -> Window:
    """The run's window; NoWindow when it carries none."""
    since, until = (_instant(run.params.get(name), name) for name in ("since", "until"))
    if since and until:
        return Window(since, until)
    if since or until:
        raise NoWindow(f"found only {'since' if since else 'until'} of the window; {_NEXT_STEP}")
    timed = _timed(run, shop)
    if timed:
        return timed
    spans = [
        Window(start, end)
        for event in _news(run.events)
        if (start := _instant(event.get("since"), "since")) and (end := _instant(event["until"], "until"))
    ]
    if spans:
        return max(spans, key=lambda span: (span.until, span.since))
    raise NoWindow(f"this {run.run_type} run carries no window; {_NEXT_STEP}")


def until_of(run: Run, shop: Shop) -> datetime:
    """The end of the run's window, for what is computed as of one instant; here `until` alone is enough."""
    until = _instant(run.params.get("until"), "until")
    if until:
        return until
    timed = _timed(run, shop)
    if timed:
        return timed.until
    ends = [end for event in _news(run.events) if (end := _instant(event["until"], "until"))]
    if ends:
        return max(ends)
    raise NoWindow(f"this {run.run_type} run carries no window; {_NEXT_STEP}")


def only_backfills(run: Run) -> bool:
    """Whether asset events started the run and each came from a backfill: history was rebuilt, nothing is new."""
    return bool(run.events) and not _news(run.events) and not run.params.get("until")


def _timed(run: Run, shop: Shop) -> Window | None:
    if run.run_type in _TIMED_RUNS and run.interval:
        return Window(_plain(run.interval[0]), _plain(run.interval[1]))
    return _business_day(run.partition_key, shop) if run.partition_key else None


def _news(events: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [event for event in events if event.get("until") and not event.get("backfill")]


def _business_day(key: str, shop: Shop) -> Window:
    try:
        return Window(*shop.day_bounds(date.fromisoformat(key)))
    except ValueError as error:
        raise NoWindow(f"found the partition key {key!r}, need a business day like 2017-12-03") from error


def _instant(value: object, name: str) -> datetime | None:
    if value is None or value == "":
        return None
    try:
        found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError as error:
        raise NoWindow(f"found {name}={value!r}, need a time like 2017-12-04T05:00:00Z") from error
    if found.tzinfo is None:
        raise NoWindow(f"found {name}={value!r} without an offset; write it, e.g. 2017-12-04T05:00:00Z")
    return _plain(found)


def _plain(at: datetime) -> datetime:
    """UTC; no longer Airflow's own kind, which loses its zone when a timedelta is taken from it."""
    return datetime.fromisoformat(at.isoformat()).astimezone(UTC)
