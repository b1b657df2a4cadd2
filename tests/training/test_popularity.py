"""The five-minute job: each event once, work that grows with new events, scores as of all events at once."""

import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mercato.settings import Settings
from mercato.stores.events import EventLog, EventRow, microseconds
from mercato.stores.migrations import open_sqlite
from mercato.stores.popularity import HALF_LIFE_SECONDS, STEPS, popularity_store
from training.errors import SourceChanged
from training.popularity import WEIGHTS, update

NOON = datetime(2017, 12, 5, 17, tzinfo=UTC)
HOUR = timedelta(hours=1)


def row(number: int, kind: str, product: str | None, at: datetime, origin: str = "real") -> EventRow:
    """One event."""
    return EventRow(
        f"e{number}", kind, None, "s", product, None, None, None, None, microseconds(at), origin, None, None
    )


def post(settings: Settings, rows: list[EventRow], now: datetime) -> None:
    """Into the log, durable at `now`."""
    log = EventLog(settings.events(), lambda: now)
    log.append(rows).result(10)
    log.close()


EVENTS = [
    row(1, "purchase", "milk", NOON - 30 * HOUR),
    row(2, "view", "milk", NOON - 2 * HOUR),
    row(3, "cart", "tea", NOON - HOUR),
    row(4, "click", "tea", NOON - 26 * HOUR),
    row(5, "impression", "tea", NOON),
    row(6, "search", None, NOON),
    row(7, "purchase", "soap", NOON, origin="simulated"),
]


def expected(at: datetime) -> dict[str, float]:
    """The definition: the sum of weights, each halved per half-life of its age."""
    total: dict[str, float] = {}
    for each in EVENTS:
        if each.type in WEIGHTS and each.product_id and each.origin != "simulated":
            age = (microseconds(at) - each.event_time) / 1e6
            left = WEIGHTS[each.type] * 2 ** (-age / HALF_LIFE_SECONDS)
            total[each.product_id] = total.get(each.product_id, 0.0) + left
    return total


@pytest.mark.parametrize("cuts", [(7,), (1, 6), (3, 2, 2), (1, 1, 1, 1, 1, 1, 1)])
def test_in_steps_or_at_once_the_scores_are_the_same(tmp_path: Path, cuts: tuple[int, ...]) -> None:
    """Whatever arrives between two runs, late events included: the sum of decayed weights; simulated ones are out."""
    settings, first = Settings(home=tmp_path), 0
    for step, n in enumerate(cuts):
        post(settings, EVENTS[first : first + n], NOON + step * HOUR)
        update(settings, NOON + (step + 1) * HOUR)
        first += n
    at = NOON + 20 * HOUR
    assert popularity_store(settings).scores(microseconds(at)) == pytest.approx(expected(at))


def test_a_run_takes_new_events_only_and_says_how_old_the_newest_is(tmp_path: Path) -> None:
    """A second run counts nothing."""
    settings = Settings(home=tmp_path)
    post(settings, EVENTS[:4], NOON)
    assert popularity_store(settings).until() is None
    report = update(settings, NOON + timedelta(minutes=5))
    assert (report.events, report.counted, report.newest_age_seconds) == (4, 4, 300.0)
    assert update(settings, NOON + timedelta(minutes=10)).events == 0
    assert update(settings, NOON + timedelta(minutes=10)).newest_age_seconds is None
    update(settings, NOON)
    assert popularity_store(settings).until() == microseconds(NOON + timedelta(minutes=10))


def test_a_store_of_the_version_before_goes_on_where_it_was(tmp_path: Path) -> None:
    """Scores and progress stay; up to when it counted is not known before the next run."""
    settings = Settings(home=tmp_path)
    with closing(open_sqlite(settings.popularity(), "popularity", STEPS[:1])) as old:
        old.execute("INSERT INTO progress VALUES (1, 7)")
    store = popularity_store(settings)
    assert (store.progress(), store.until()) == (7, None)
    store.brought_forward(microseconds(NOON))
    assert (store.progress(), store.until()) == (7, microseconds(NOON))


def test_a_clock_that_was_ahead_holds_up_nobody(tmp_path: Path) -> None:
    """An event known six hours ahead, then one of the right time: both count now, and the report tells the lead."""
    settings = Settings(home=tmp_path)
    post(settings, EVENTS[:1], NOON + 6 * HOUR)
    report = update(settings, NOON)
    assert (report.events, report.newest_age_seconds) == (1, -6 * 3600)
    post(settings, EVENTS[1:2], NOON)
    assert update(settings, NOON + HOUR).events == 1


def test_simulated_events_are_passed_once(tmp_path: Path) -> None:
    """A run leaves behind it also what it does not count."""
    settings = Settings(home=tmp_path)
    post(settings, EVENTS, NOON)
    assert update(settings, NOON + HOUR).events == 6
    assert popularity_store(settings).progress() == 7


def test_a_replaced_log_is_told(tmp_path: Path) -> None:
    """Positions begin anew: the run fails and names the runbook; without the old counts it counts the new log."""
    settings = Settings(home=tmp_path)
    post(settings, EVENTS, NOON)
    update(settings, NOON + HOUR)
    for path in tmp_path.glob("events.db*"):
        path.unlink()
    post(settings, EVENTS[:2], NOON)
    with pytest.raises(SourceChanged, match=r"found 2 events in the log and 7 counted.*Undo in docs/runbooks"):
        update(settings, NOON + HOUR)
    (tmp_path / "popularity.db").unlink()
    assert update(settings, NOON + HOUR).events == 2


def test_two_runs_at_once_count_each_event_once(tmp_path: Path) -> None:
    """Two processes over the same log leave the scores of one."""
    settings = Settings(home=tmp_path)
    post(settings, EVENTS, NOON)
    code = (
        "from datetime import datetime; from mercato.settings import Settings; from training.popularity import update;"
        f"update(Settings(home={str(tmp_path)!r}), datetime.fromisoformat({(NOON + HOUR).isoformat()!r}))"
    )
    both = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [each.wait(60) for each in both] == [0, 0]
    at = NOON + 20 * HOUR
    assert popularity_store(settings).scores(microseconds(at)) == pytest.approx(expected(at))
