"""The event log: accepted means on the disk, once, whatever happens to the process."""

import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mercato.clock import frozen
from mercato.errors import StoreUnavailable
from mercato.stores.events import Appended, EventLog, EventRow, read_events

AT = datetime(2017, 12, 4, 5, tzinfo=UTC)
ROOT = Path(__file__).parents[2]

WRITER = """
import sys
from mercato.clock import real
from mercato.stores.events import EventLog
from tests.mercato.test_events import row

url, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
log = EventLog(url, real)
for at in range(first, last, 5):
    ids = [f"e{each}" for each in range(at, min(at + 5, last))]
    log.append([row(each) for each in ids]).result(60)
    print(*ids, flush=True)
log.close()
"""


def row(event_id: str, **changes: object) -> EventRow:
    """A click."""
    values: dict[str, object] = {
        "event_id": event_id, "type": "click", "customer_key": "c1", "session_id": "s", "product_id": "p",
        "request_id": None, "position": 1, "quantity": None, "price_minor": 199, "event_time": 1_512_363_600_000_000,
        "origin": "real", "release_id": None, "propensity": None,
    }  # fmt: skip
    return EventRow(**(values | changes))  # type: ignore[arg-type]


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder / 'events.db'}"


@contextmanager
def opened(url: str, at: datetime = AT) -> Iterator[EventLog]:
    log = EventLog(url, frozen(at))
    try:
        yield log
    finally:
        log.close()


def test_a_repeated_event_counts_once(tmp_path: Path) -> None:
    """Of e1, e1, e2 two are accepted and one is a duplicate; sent again, all three are duplicates."""
    with opened(url_of(tmp_path)) as log:
        rows = [row("e1"), row("e1"), row("e2")]
        assert log.append(rows).result(10) == Appended(accepted=2, duplicate=1)
        assert log.append(rows).result(10) == Appended(accepted=0, duplicate=3)


def test_what_was_read_is_what_was_written(tmp_path: Path) -> None:
    """A row comes back as it was, with the time at which it reached us; simulated ones only when asked for."""
    with opened(url_of(tmp_path)) as log:
        log.append([row("e1"), row("e2", origin="simulated", propensity=0.25)]).result(10)
    later = AT + timedelta(microseconds=1)
    (found,) = read_events(url_of(tmp_path), known_from=AT, known_before=later)
    assert (found.row, found.known_at) == (row("e1"), AT)
    assert list(read_events(url_of(tmp_path), known_from=later, known_before=later + timedelta(days=1))) == []
    simulated = read_events(url_of(tmp_path), known_from=AT, known_before=later, origins=["simulated"])
    assert [each.row.propensity for each in simulated] == [0.25]


def test_closing_writes_what_waits(tmp_path: Path) -> None:
    """Requests that wait when the log closes are written before it is closed; later ones are refused."""
    log = EventLog(url_of(tmp_path), frozen(AT))
    pending = [log.append([row(f"e{at}")]) for at in range(100)]
    log.close()
    assert sum(each.result(0).accepted for each in pending) == 100
    with pytest.raises(StoreUnavailable, match="closed"):
        log.append([row("late")])


def test_every_acknowledged_event_survives_kill_9(tmp_path: Path) -> None:
    """Four processes post overlapping events, one is killed: what any of them saw acknowledged is there once."""
    spans = [(0, 400), (200, 600), (400, 800), (0, 800)]
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, url_of(tmp_path), str(first), str(last)],
            stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )
        for first, last in spans
    ]  # fmt: skip
    victim = writers[-1]
    assert victim.stdout is not None
    heard = "".join(victim.stdout.readline() for _ in range(3))
    victim.send_signal(signal.SIGKILL)
    acknowledged = set((heard + victim.communicate()[0]).rpartition("\n")[0].split())
    for writer in writers[:-1]:
        acknowledged |= set(writer.communicate(timeout=120)[0].split())
        assert writer.returncode == 0
    assert victim.returncode == -signal.SIGKILL
    stored = [
        each.row.event_id for each in read_events(url_of(tmp_path), known_from=AT, known_before=AT.replace(year=9999))
    ]
    assert len(stored) == len(set(stored))
    assert acknowledged <= set(stored)
    assert {f"e{at}" for at in range(800)} == set(stored)


def test_a_full_disk_is_no_acknowledgement(tmp_path: Path) -> None:
    """While no file may grow every append fails; afterwards the log goes on, and what was acknowledged is there."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with opened(url_of(tmp_path)) as log:
        assert log.append([row("e0")]).result(10).accepted == 1
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        try:
            outcomes = [
                log.append([row(f"e{n}-{at}" + "x" * 400) for at in range(100)]).exception(30) for n in range(1, 6)
            ]
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert isinstance(outcomes[-1], StoreUnavailable)
        assert "nothing was acknowledged" in str(outcomes[-1])
        assert log.append([row("after")]).result(10).accepted == 1
    stored = {
        each.row.event_id for each in read_events(url_of(tmp_path), known_from=AT, known_before=AT + timedelta(days=1))
    }
    assert {"e0", "after"} <= stored
    accepted = [n for n, outcome in enumerate(outcomes, start=1) if outcome is None]
    assert len(stored) == 2 + 100 * len(accepted)


def test_a_locked_log_is_no_acknowledgement(tmp_path: Path) -> None:
    """While another process holds the lock the append waits, then fails; once it is free the next one is written."""
    with opened(url_of(tmp_path)) as log:
        log.append([row("e0")]).result(10)
        other = sqlite3.connect(tmp_path / "events.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert isinstance(log.append([row("e1")]).exception(30), StoreUnavailable)
        other.execute("COMMIT")
        other.close()
        assert log.append([row("e1")]).result(10).accepted == 1


def test_an_abandoned_request_does_not_stop_the_writer(tmp_path: Path) -> None:
    """A caller that gave up waiting withdraws its rows or not; the writer goes on either way."""
    with opened(url_of(tmp_path)) as log:
        for at in range(200):
            log.append([row(f"e{at}")]).cancel()
        assert log.append([row("last")]).result(10).accepted == 1


def test_an_unusable_row_does_not_stop_the_log(tmp_path: Path) -> None:
    """A row that SQLite cannot hold is refused, and the log answers the next request."""
    with opened(url_of(tmp_path)) as log:
        assert log.append([row("e1", position=2**70)]).exception(10) is not None
        assert log.append([row("e2")]).result(10).accepted == 1
