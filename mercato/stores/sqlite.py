"""How our embedded SQLite stores are opened: WAL, a busy wait, and fsync where a promise depends on it."""

import sqlite3
from pathlib import Path

from mercato.errors import BadSetting, StoreUnavailable


def path_of(url: str) -> Path:
    """The file behind `sqlite:///PATH` (four slashes when absolute)."""
    path = url.removeprefix("sqlite:///")
    if path in ("", url):
        raise BadSetting(f"found the store URL {url!r}, need sqlite:///PATH (an absolute path has four slashes)")
    return Path(path)


def connect(url: str, *, durable: bool = True) -> sqlite3.Connection:
    """A connection in autocommit mode; `durable` makes every commit wait for the disk.

    Raises:
        StoreUnavailable: the file cannot be opened, is locked, or is damaged.
    """
    path = path_of(url)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'OFF'}")
    except (sqlite3.Error, OSError) as error:
        raise StoreUnavailable(
            f"cannot open the store {path}: {error}; check that the disk is writable and the file whole"
        ) from error
    return connection
