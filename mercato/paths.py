"""Where data lie, on a folder or an object store, and how a file gets there whole or not at all."""

import hashlib
import json
import os
import posixpath
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import fsspec
from filelock import FileLock
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from mercato.settings import Settings

_COPIES_SECONDS: Final = 86_400
"""How long a local copy of an object that nobody asks for is kept."""


@dataclass(frozen=True, slots=True)
class Lake:
    """One shop's data: `raw/ clean/ quarantine/ features/ datasets/ artefacts/ releases/` below one URL."""

    fs: AbstractFileSystem
    root: str
    shop: str

    def path(self, *parts: str) -> str:
        """Path of `parts` below this shop's folder."""
        return posixpath.join(self.root, self.shop, *parts)

    def table(self, layer: str, table: str) -> str:
        """Folder of one table, e.g. `table("clean", "transactions")`."""
        return self.path(layer, table)

    def partition(self, layer: str, table: str, ds: str) -> str:
        """Folder of one business day (`YYYY-MM-DD`, of `known_at`) of one table."""
        return self.path(layer, table, f"ds={ds}")

    def aside(self) -> str:
        """Folder of what is being written; a file that stays there was never put in place."""
        return self.path(".aside")

    def days(self, layer: str, table: str, file: str = "part.parquet") -> list[str]:
        """The business days of which `file` is there, ascending."""
        found = self.fs.glob(posixpath.join(self.table(layer, table), "ds=*", file))
        return sorted(posixpath.basename(posixpath.dirname(str(p)))[3:] for p in found)

    def exists(self, path: str) -> bool:
        """Whether `path` is there."""
        return bool(self.fs.exists(path))

    def read_bytes(self, path: str) -> bytes:
        """The whole of `path`."""
        return bytes(self.fs.cat_file(path))

    def read_json(self, path: str) -> Any:
        """`path` parsed as JSON."""
        return json.loads(self.read_bytes(path))

    def write_bytes(self, path: str, data: bytes) -> None:
        """Put `data` at `path` by one rename or one object PUT."""
        with self.writing(path) as aside:
            aside.write_bytes(data)

    def write_json(self, path: str, value: Any) -> None:
        """Put `value` at `path` as JSON with sorted keys."""
        self.write_bytes(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())

    @contextmanager
    def writing(self, path: str) -> Iterator[Path]:
        """A local file to write; at the end it is put at `path` whole, and on an error it is gone.

        A full disk or a kill leaves the old file at `path`, or none.
        """
        if isinstance(self.fs, LocalFileSystem):
            aside = Path(self.aside(), f".{uuid.uuid4().hex}")
            for folder in (aside.parent, Path(path).parent):
                folder.mkdir(parents=True, exist_ok=True)
        else:
            aside = Path(tempfile.gettempdir()) / f"mercato-{uuid.uuid4().hex}"
        try:
            yield aside
            if isinstance(self.fs, LocalFileSystem):
                with aside.open("rb") as written:
                    os.fsync(written.fileno())
                aside.replace(path)
            else:
                self.fs.put_file(str(aside), path)
        finally:
            aside.unlink(missing_ok=True)

    @contextmanager
    def alone(self, table: str) -> Iterator[None]:
        """Time for one process of this machine to change `table` alone; others wait, a kill lets the next one in."""
        root = Path(self.root if isinstance(self.fs, LocalFileSystem) else tempfile.gettempdir())
        name = hashlib.sha256(self.path(table).encode()).hexdigest()[:16]
        lock = root / ".locks" / name
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            yield

    def local(self, path: str) -> Path:
        """A local copy of `path` as it is now (the file itself on a folder)."""
        if isinstance(self.fs, LocalFileSystem):
            return Path(path)
        version = f"{self.fs.unstrip_protocol(path)} {self.fs.ukey(path)}"
        copy = _copies() / hashlib.sha256(version.encode()).hexdigest()
        try:
            os.utime(copy)
        except FileNotFoundError:
            aside = copy.with_name(f"{copy.name}.{uuid.uuid4().hex}")
            self.fs.get_file(path, str(aside))
            aside.replace(copy)
        return copy


def _copies() -> Path:
    """The folder of this user's local copies."""
    folder = Path(tempfile.gettempdir()) / f"mercato-cache-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def lake(settings: Settings, shop: str | None = None) -> Lake:
    """The lake that `MERCATO_DATA_URL` names, for `shop` (default: `MERCATO_SHOP`); old local copies go."""
    # What another process wrote must be seen: an object store's listings are not cached.
    fs, root = fsspec.core.url_to_fs(settings.data_root(), use_listings_cache=False)
    if not isinstance(fs, LocalFileSystem):
        for copy in _copies().iterdir():
            with suppress(FileNotFoundError):  # another process does the same
                if copy.stat().st_mtime < time.time() - _COPIES_SECONDS:
                    copy.unlink()
    return Lake(fs=fs, root=str(root), shop=shop or settings.shop)


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_files(paths: Iterable[Path]) -> str:
    """Hex SHA-256 over the names and hashes of some files, in their order."""
    lines = "".join(f"{path.name} {sha256_file(path)}\n" for path in paths)
    return hashlib.sha256(lines.encode()).hexdigest()


def canonical_json(value: Any) -> bytes:
    """One byte string per JSON value: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
