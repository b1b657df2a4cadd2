"""Who a customer is: a keyed HMAC of the shop's own id looks up a random, permanent `customer_key`.

Nothing after `raw/` holds a shop's own id. Rotating the key rewrites this map only;
forgetting a customer deletes the row, and nothing links the key to a person any more.
"""

import hashlib
import hmac
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from mercato.errors import BadSetting, StoreUnavailable
from mercato.settings import Settings
from mercato.stores.migrations import Steps, open_sqlite

STEPS: Steps = [
    ["CREATE TABLE IF NOT EXISTS identity (lookup BLOB PRIMARY KEY, customer_key TEXT NOT NULL UNIQUE) WITHOUT ROWID"]
]
"""Versions of the identity map; see `mercato.stores.migrations`."""
_KEY_BYTES = 32


def _random_key() -> str:
    return "c" + secrets.token_hex(10)


@dataclass(frozen=True, slots=True)
class Identity:
    """The map of one installation; safe to share between processes, one per thread."""

    connection: sqlite3.Connection
    key: bytes
    new_key: Callable[[], str] = _random_key

    def lookup(self, shop: str, customer_id: str) -> bytes:
        """(32,) bytes: HMAC-SHA256 of the shop's own id."""
        return hmac.digest(self.key, f"{shop}\x1f{customer_id}".encode(), hashlib.sha256)

    def find(self, shop: str, customer_id: str) -> str | None:
        """The `customer_key`, or None for a customer never seen."""
        row = self.connection.execute(
            "SELECT customer_key FROM identity WHERE lookup = ?", (self.lookup(shop, customer_id),)
        ).fetchone()
        return row[0] if row else None

    def keys(self, shop: str, customer_ids: Iterable[str]) -> dict[str, str]:
        """Map of shop id -> `customer_key`, minting a key for each customer never seen before."""
        ids = {cid: self.lookup(shop, cid) for cid in dict.fromkeys(customer_ids)}
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            self.connection.executemany(
                "INSERT OR IGNORE INTO identity VALUES (?, ?)", [(look, self.new_key()) for look in ids.values()]
            )
            self.connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise StoreUnavailable(f"cannot write the identity map: {error}") from error
        return {cid: self._key_of(look) for cid, look in ids.items()}

    def _key_of(self, lookup: bytes) -> str:
        row = self.connection.execute("SELECT customer_key FROM identity WHERE lookup = ?", (lookup,)).fetchone()
        return str(row[0])

    def forget(self, shop: str, customer_id: str) -> bool:
        """Delete the row; True when there was one."""
        done = self.connection.execute("DELETE FROM identity WHERE lookup = ?", (self.lookup(shop, customer_id),))
        return done.rowcount > 0

    def rotate(self, shop: str, customer_ids: Iterable[str], new_key: bytes) -> "Identity":
        """The same map under a new HMAC key; customers not named in `customer_ids` are no longer found."""
        rotated = Identity(self.connection, new_key, self.new_key)
        moves = [(rotated.lookup(shop, cid), self.lookup(shop, cid)) for cid in customer_ids]
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany("UPDATE identity SET lookup = ? WHERE lookup = ?", moves)
        self.connection.execute("COMMIT")
        return rotated


def _load_key(path: Path) -> bytes:
    """The key file's bytes, made once (mode 0600) by whichever process comes first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    aside.touch(mode=0o600)
    aside.write_text(secrets.token_hex(_KEY_BYTES))
    try:
        os.link(aside, path)
    except FileExistsError:
        pass
    finally:
        aside.unlink()
    return bytes.fromhex(path.read_text())


def identity(settings: Settings, *, new_key: Callable[[], str] = _random_key) -> Identity:
    """The identity map that `MERCATO_IDENTITY_URL` and `MERCATO_IDENTITY_KEY` name."""
    given = settings.identity_key.get_secret_value()
    if given:
        if len(given) < _KEY_BYTES:
            raise BadSetting(f"MERCATO_IDENTITY_KEY has {len(given)} characters, need at least {_KEY_BYTES}")
        key = hashlib.sha256(given.encode()).digest()
    else:
        key = _load_key(settings.root / "identity.key")
    return Identity(open_sqlite(settings.identity(), "identity", STEPS), key, new_key)
