"""Versions of our own stores: the steps of a store are a tuple, its version is how many of them were applied.

A step is never edited once released; a change is a new step at the end. Step 1 is the schema as it was before
versions were kept, written with IF NOT EXISTS, so that a file of that time is taken over as version 1.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mercato.errors import StoreTooNew, StoreUnavailable
from mercato.stores import sqlite

if TYPE_CHECKING:
    import sqlalchemy as sa

Steps = Sequence[Sequence[str]]
"""SQL statements of each step, oldest first."""

_VERSIONS = "CREATE TABLE IF NOT EXISTS schema_version (store VARCHAR(64) PRIMARY KEY, version INTEGER NOT NULL)"


def open_sqlite(url: str, store: str, steps: Steps, *, durable: bool = True) -> sqlite3.Connection:
    """A connection (see `sqlite.connect`) to a store that has the schema of this code.

    Missing steps are applied in one transaction, by one process at a time, after a copy of the file was put beside
    it as `<file>.v<version>.bak`. A kill leaves the old version or the new one.

    Raises:
        StoreTooNew: newer code has migrated the file; nothing was touched.
        StoreUnavailable: the file cannot be opened, or stays locked.
    """
    connection = sqlite.connect(url, durable=durable)
    try:
        if _version(connection, store) != len(steps):
            _migrate(connection, sqlite.path_of(url), store, steps)
    except sqlite3.Error as error:
        connection.close()
        raise StoreUnavailable(
            f"cannot bring the {store} store at {sqlite.path_of(url)} up to date: {error}"
        ) from error
    except BaseException:
        connection.close()
        raise
    return connection


def engine_of(url: str) -> sa.Engine:
    """The engine of a store at `url`; the folder of an embedded one is made, whatever signs its path has."""
    import sqlalchemy as sa  # a second that only stores behind an engine pay

    at = sa.make_url(url)
    if at.drivername == "sqlite":
        path = sqlite.path_of(url)
        path.parent.mkdir(parents=True, exist_ok=True)
        at = sa.URL.create("sqlite", database=str(path))
    return sa.create_engine(at, pool_pre_ping=True)


def prepare_engine(engine: sa.Engine, store: str, steps: Steps) -> None:
    """Bring the store behind a SQLAlchemy engine to the schema of this code; errors as `open_sqlite`."""
    if engine.dialect.name == "sqlite":
        open_sqlite(f"sqlite:///{engine.url.database}", store, steps).close()
        return
    import sqlalchemy as sa  # a second that only stores behind an engine pay

    with engine.begin() as connection:
        # Two processes at once: the second waits here until the first has committed. Without a backup of ours:
        # the whole migration is one transaction, and a server has backups of its own.
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext(:store))"), {"store": f"mercato.{store}"})
        connection.execute(sa.text(_VERSIONS))
        query = sa.text("SELECT version FROM schema_version WHERE store = :store")
        version = connection.execute(query, {"store": store}).scalar() or 0
        _check(store, engine.url.render_as_string(), version, steps)
        _apply(lambda sql: connection.execute(sa.text(sql)), store, version, steps)


def _version(connection: sqlite3.Connection, store: str) -> int:
    """Steps applied so far; 0 also for a file older than versions."""
    there = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'schema_version'")
    if there.fetchone() is None:
        return 0
    row = connection.execute("SELECT version FROM schema_version WHERE store = ?", (store,)).fetchone()
    return int(row[0]) if row else 0


def _migrate(connection: sqlite3.Connection, path: Path, store: str, steps: Steps) -> None:
    connection.execute("BEGIN IMMEDIATE")  # waits for a process that migrates at this moment
    try:
        version = _version(connection, store)
        _check(store, str(path), version, steps)
        first = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if version < len(steps) and not first and len(steps) > 1:
            _back_up(path, version)
        connection.execute(_VERSIONS)
        _apply(connection.execute, store, version, steps)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _check(store: str, where: str, version: int, steps: Steps) -> None:
    if version > len(steps):
        raise StoreTooNew(
            f"the {store} store at {where} has schema version {version}, this code knows versions up to {len(steps)}: "
            "start the newer code again, or put the backup of this version "
            f"({Path(where).name}.v{len(steps)}.bak) in its place"
        )


def _apply(execute: Callable[[str], object], store: str, version: int, steps: Steps) -> None:
    for step in steps[version:]:
        for statement in step:
            execute(statement)
    if version < len(steps):
        execute(f"DELETE FROM schema_version WHERE store = '{store}'")
        execute(f"INSERT INTO schema_version VALUES ('{store}', {len(steps)})")


def _back_up(path: Path, version: int) -> None:
    """Copy what is committed to `<file>.v<version>.bak`, whole or not at all.

    Through a connection of its own: SQLite does not copy from one that writes. Nobody else can write meanwhile.
    """
    target = path.with_name(f"{path.name}.v{version}.bak")
    aside = path.with_name(f".{target.name}.{os.getpid()}")
    source, copy = sqlite3.connect(path), sqlite3.connect(aside)
    try:
        source.backup(copy)
        copy.close()
        aside.replace(target)
    finally:
        source.close()
        copy.close()
        aside.unlink(missing_ok=True)
