"""Where source rows come from: one adapter per kind, all behind the same interface."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from data_contracts.sources import Files
from data_contracts.tables import Table
from training.adapters import event_log, files, parquet


class Adapter(Protocol):
    """A source that can be read."""

    @property
    def text(self) -> bool:
        """Whether values arrive as text, whatever type is declared: the mapping converts, or quarantines, them."""
        ...

    def schema(self) -> pa.Schema:
        """Columns and types as the source has them; SourceMissing or CorruptFile when it cannot be opened."""
        ...

    def digest(self) -> str:
        """Hex SHA-256 of the source as it is now, or of the question asked where it cannot be hashed."""
        ...

    def relation(self, con: Any, since: datetime, until: datetime) -> Any:
        """An Ibis table of `con` with at least the rows known in [since, until); more is fine, the caller filters."""
        ...

    def sample(self, con: Any, rows: int) -> pa.Table:
        """A few of its rows, without reading the whole where that can be."""
        ...


def _sql(spec: Table, folder: Path) -> Adapter:
    from training.adapters.sql import SqlRows

    return SqlRows(spec.source, spec, folder)  # type: ignore[arg-type]


def _http(spec: Table, folder: Path) -> Adapter:
    from training.adapters.web import HttpRecords

    return HttpRecords(spec.source, spec, folder)  # type: ignore[arg-type]


def _logs(spec: Table, folder: Path) -> Adapter:
    from training.adapters.logs import LogLines

    return LogLines(spec.source, spec, folder)  # type: ignore[arg-type]


_KINDS: dict[str, Callable[[Any, Path], Adapter]] = {
    "package_parquet": lambda spec, _: parquet.in_package(spec.source),
    "files": lambda spec, folder: files.LocalFiles(spec.source, spec, folder),
    "sql": _sql,
    "http": _http,
    "logs": _logs,
    "event_log": lambda spec, _: event_log.own(spec.source),
}


def open_source(spec: Table, folder: Path) -> Adapter:
    """The adapter of a table's source; what it unpacks or fetches goes to `folder`, which must outlive it."""
    return _KINDS[spec.source.kind](spec, folder)


def local_files(spec: Table) -> tuple[Path, ...]:
    """The files behind a source of files as they lie on disk; empty for other kinds."""
    return files.found(spec.source) if isinstance(spec.source, Files) else ()
