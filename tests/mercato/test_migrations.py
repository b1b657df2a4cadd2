"""Upgrades of our own stores: old data stay readable, one process migrates, a kill or a newer file harms nothing."""

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from mercato.errors import StoreTooNew
from mercato.identity import STEPS as IDENTITY
from mercato.identity import Identity, identity
from mercato.settings import Settings
from mercato.stores import migrations
from mercato.stores.events import STEPS as EVENTS
from mercato.stores.events import read_events
from mercato.stores.impressions import impressions_of
from mercato.stores.migrations import open_sqlite
from mercato.stores.routing import STEPS as ROUTING
from mercato.stores.routing import RoutingStore
from tests.postgres import postgres

ROOT = Path(__file__).parents[2]
AT = datetime(2017, 12, 4, 5, tzinfo=UTC)
MICROSECONDS = 1_512_363_600_000_000
"""AT since 1970."""

BEFORE_VERSIONS = {
    "events": """
CREATE TABLE events (seq INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL UNIQUE, type TEXT NOT NULL,
  customer_key TEXT, session_id TEXT NOT NULL, product_id TEXT, request_id TEXT, position INTEGER, quantity INTEGER,
  price_minor INTEGER, event_time INTEGER NOT NULL, origin TEXT NOT NULL, release_id TEXT, propensity REAL,
  known_at INTEGER NOT NULL);
CREATE INDEX events_known_at ON events (known_at);
INSERT INTO events VALUES (1, 'e1', 'click', 'c1', 's', 'p', NULL, 1, NULL, 199, 1512363600000000, 'real', NULL, NULL,
  1512363600000000);
""",
    "identity": """
CREATE TABLE identity (lookup BLOB PRIMARY KEY, customer_key TEXT NOT NULL UNIQUE) WITHOUT ROWID;
""",
    "impressions": """
CREATE TABLE feature_sets (digest TEXT PRIMARY KEY, names TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE impressions (request_id TEXT NOT NULL, position INTEGER NOT NULL, product_id TEXT NOT NULL,
  score REAL NOT NULL, propensity REAL NOT NULL, surface TEXT NOT NULL, release_id TEXT NOT NULL, arm TEXT NOT NULL,
  customer_key TEXT, session_id TEXT, features BLOB, feature_set TEXT, known_at INTEGER NOT NULL,
  PRIMARY KEY (request_id, position)) WITHOUT ROWID;
CREATE INDEX impressions_known_at ON impressions (known_at);
INSERT INTO feature_sets VALUES ('d', '["n_30d"]');
INSERT INTO impressions VALUES ('q', 1, 'p', 0.5, 1.0, 'recommend', 'r-1', 'champion', 'c1', 's',
  X'00000040', 'd', 1512363600000000);
""",
    "routing": """
CREATE TABLE routing (shop VARCHAR(64) NOT NULL, generation INTEGER NOT NULL, weights TEXT NOT NULL,
  salt VARCHAR(64) NOT NULL, reason TEXT NOT NULL, written_at VARCHAR(40) NOT NULL, PRIMARY KEY (shop, generation));
INSERT INTO routing VALUES ('shop', 1, '{"r-1": 10000}', 's', 'first', '2017-12-04T05:00:00.000000+00:00');
""",
}
"""Each store as the code of commit bffc566 left it, with a row."""

TWO = [*EVENTS, ["ALTER TABLE events ADD COLUMN channel TEXT NOT NULL DEFAULT 'web'", "CREATE TABLE more (x INTEGER)"]]
"""The event log's next version, as a later release might have it."""

MIGRATE = """
import sys, threading
from mercato.stores.migrations import open_sqlite
from tests.mercato.test_migrations import TWO

print("ready", flush=True)
sys.stdin.readline()
open_sqlite(sys.argv[1], "events", TWO)
"""
KILLED = """
import os, signal, sys
from mercato.stores import migrations
from tests.mercato.test_migrations import TWO

plain = migrations._apply
def apply(execute, *rest):
    n = 0
    def stop(sql):
        nonlocal n
        n += 1
        if n == 2:  # between the two statements of the new version
            os.kill(os.getpid(), signal.SIGKILL)
        return execute(sql)
    plain(stop, *rest)
migrations._apply = apply
migrations.open_sqlite(sys.argv[1], "events", TWO)
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with the stores of the version before."""
    for name, script in BEFORE_VERSIONS.items():
        with sqlite3.connect(tmp_path / f"{name}.db") as connection:
            connection.executescript(script)
        connection.close()
    return tmp_path


def url_of(home: Path, store: str = "events") -> str:
    return f"sqlite:///{home / store}.db"


def versions(home: Path, store: str = "events") -> list[tuple[str, int]]:
    with sqlite3.connect(home / f"{store}.db") as connection:
        found = connection.execute("SELECT store, version FROM schema_version").fetchall()
    connection.close()
    return found


def test_stores_of_the_version_before_are_taken_over_with_their_rows(home: Path) -> None:
    """Files written before versions were kept come up to date: every row is read by the code of today."""
    settings = Settings(home=home, identity_key="k" * 32)
    people = Identity(sqlite3.connect(home / "identity.db"), identity(settings).key)
    with people.connection as connection:
        connection.execute("INSERT INTO identity VALUES (?, 'c1')", (people.lookup("shop", "7"),))
    people.connection.close()
    assert identity(settings).find("shop", "7") == "c1"
    (event,) = read_events(settings.events(), known_from=AT, known_before=AT + timedelta(seconds=1))
    assert (event.row.event_id, event.row.price_minor, event.known_at) == ("e1", 199, AT)
    (shown,) = impressions_of(settings, "q")
    assert shown["features"] == {"n_30d": 2.0}
    live = RoutingStore(settings.store()).live("shop")
    assert live is not None
    assert live.weights == {"r-1": 10_000}
    assert all(versions(home, store) == [(store, len(EVENTS) if store == "events" else 1)] for store in BEFORE_VERSIONS)
    assert [each.name for each in home.glob("*.bak")] == ["events.db.v0.bak"], "the others were taken over unchanged"


def test_a_new_version_is_applied_once_and_the_file_before_is_kept(home: Path) -> None:
    """Version 2 reaches a file with rows; what was there before lies beside it, and opening again does nothing."""
    for _ in range(2):
        connection = open_sqlite(url_of(home), "events", TWO)
        assert connection.execute("SELECT event_id, channel FROM events").fetchall() == [("e1", "web")]
        connection.close()
    assert versions(home) == [("events", len(TWO))]
    (saved,) = home.glob("*.bak")
    assert saved.name == "events.db.v0.bak"
    with sqlite3.connect(saved) as before:
        assert "channel" not in [column[1] for column in before.execute("PRAGMA table_info(events)")]
        assert before.execute("SELECT count(*) FROM events").fetchone() == (1,)
    before.close()


def test_a_file_newer_than_the_code_is_refused_untouched(home: Path) -> None:
    """Old code must not write to a schema that it does not know; the message says what to do."""
    open_sqlite(url_of(home), "events", TWO).close()
    before = (home / "events.db").read_bytes()
    with pytest.raises(StoreTooNew, match=r"has schema version 3, this code knows versions up to 2: start the newer"):
        open_sqlite(url_of(home), "events", EVENTS)
    assert (home / "events.db").read_bytes() == before


def test_of_two_processes_at_once_one_migrates(home: Path) -> None:
    """Both open the file at the same moment; ALTER TABLE a second time would fail, so it ran once."""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", MIGRATE, url_of(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
        )
        for _ in range(2)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
    for child in children:
        child.communicate(b"\n", timeout=60)
    assert [child.returncode for child in children] == [0, 0]
    assert versions(home) == [("events", len(TWO))]


def test_a_kill_in_the_middle_leaves_the_version_before(home: Path) -> None:
    """After kill -9 between two statements of a version: nothing of it stays, and the next start applies it whole."""
    done = subprocess.run([sys.executable, "-c", KILLED, url_of(home)], cwd=ROOT, timeout=60, check=False)
    assert done.returncode == -9
    with sqlite3.connect(home / "events.db") as connection:
        assert "channel" not in [column[1] for column in connection.execute("PRAGMA table_info(events)")]
    connection.close()
    open_sqlite(url_of(home), "events", TWO).close()
    assert versions(home) == [("events", len(TWO))]


def test_every_store_gives_a_new_file_its_newest_version(tmp_path: Path) -> None:
    """A new file needs no backup and has every step."""
    for store, steps in (("events", EVENTS), ("identity", IDENTITY), ("events2", TWO)):
        open_sqlite(url_of(tmp_path, store), store, steps).close()
        assert versions(tmp_path, store) == [(store, len(steps))]
    assert not list(tmp_path.glob("*.bak"))
    assert migrations.open_sqlite(url_of(tmp_path), "events", EVENTS).execute("SELECT * FROM events").fetchall() == []


def test_a_path_may_have_any_sign(tmp_path: Path) -> None:
    """The schema and the rows are in one file, wherever the home lies."""
    home = tmp_path / "Läden (100%25, neu) #2 & wer?"
    store = RoutingStore(url_of(home, "routing"))
    store.write("shop", seen=0, weights={"r-1": 10_000}, salt="s", reason="first", at=AT)
    assert versions(home, "routing") == [("routing", len(ROUTING))]
    assert [each.name for each in tmp_path.iterdir()] == [home.name]


def test_a_server_is_migrated_the_same_way() -> None:
    """PostgreSQL: of four that open at once one applies each version, rows stay, and older code is refused."""
    two = [*ROUTING, ["ALTER TABLE routing ADD COLUMN note TEXT NOT NULL DEFAULT 'none'"]]

    def prepare(steps: migrations.Steps) -> None:
        engine = sa.create_engine(url)
        migrations.prepare_engine(engine, "routing", steps)
        engine.dispose()

    with postgres() as url, ThreadPoolExecutor(4) as pool:
        list(pool.map(prepare, [ROUTING] * 4))
        store = RoutingStore(url)
        store.write("shop", seen=0, weights={"r-1": 10_000}, salt="s", reason="first", at=AT)
        list(pool.map(prepare, [two] * 4))
        engine = sa.create_engine(url)
        with engine.connect() as connection:
            rows = connection.execute(sa.text("SELECT reason, note FROM routing")).all()
            version = connection.execute(sa.text("SELECT store, version FROM schema_version")).all()
        assert (rows, version) == ([("first", "none")], [("routing", 2)])
        old = RoutingStore(url)
        with pytest.raises(StoreTooNew, match="schema version 2"):
            old.live("shop")
        for each in (engine, store._engine, old._engine):
            each.dispose()
