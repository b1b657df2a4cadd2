"""The five-minute job: events that are new in the log into each product's popularity, in time O(new events)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Final

from mercato.settings import Settings
from mercato.stores.events import StoredEvent, last_position, microseconds, read_between
from mercato.stores.popularity import Weighed, popularity_store
from training.errors import SourceChanged

WEIGHTS: Final[Mapping[str, float]] = {"view": 1.0, "click": 2.0, "cart": 5.0, "purchase": 10.0}
"""What an event counts; being shown counts nothing: that was our choice, not the shopper's."""
_BATCH = 20_000
"""Events in one transaction."""


@dataclass(frozen=True, slots=True)
class PopularityReport:
    """What one run did."""

    events: int
    """New events in the log, simulated ones left out."""
    counted: int
    """Of them, those with a weight and a product."""
    newest_age_seconds: float | None
    """Between the newest of them and `until`; None when there was none. Above 300 the log is late, far below 0 its
    clock is ahead."""


def update(settings: Settings, until: datetime) -> PopularityReport:
    """Count the events in the log that are not counted yet: each once, also after a kill.

    The log's positions bound a run, not `until`: an event of a clock that was ahead holds up nobody.

    Raises:
        SourceChanged: the log is shorter than what was counted of it: it was replaced.
    """
    store, url = popularity_store(settings), settings.events()
    done, last = store.progress(), last_position(url)
    if last < done:
        raise SourceChanged(
            f"found {last:,} events in the log and {done:,} counted: the log was replaced, and its events would not "
            "count; see Undo in docs/runbooks/update_popularity.md"
        )
    new = read_between(url, done, last)
    events = counted = 0
    newest: datetime | None = None
    while batch := list(islice(new, _BATCH)):
        counted += store.add(_weighed(batch), upto=batch[-1][0])
        events += len(batch)
        newest = batch[-1][1].known_at
    store.add((), upto=last)  # simulated events are behind us too
    store.brought_forward(microseconds(until))
    return PopularityReport(events, counted, None if newest is None else (until - newest).total_seconds())


def _weighed(batch: list[tuple[int, StoredEvent]]) -> Iterator[Weighed]:
    for seq, event in batch:
        weight = WEIGHTS.get(event.row.type)
        if weight is not None and event.row.product_id is not None:
            yield Weighed(seq, event.row.product_id, weight, event.row.event_time)
