"""Parquet files as a source: inside an installed Python package, or anywhere on disk."""

import glob
import hashlib
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.errors import CorruptFile, SchemaMismatch, SourceMissing
from data_contracts.sources import Files, PackageParquet
from mercato.paths import sha256_file


@dataclass(frozen=True, slots=True)
class ParquetFiles:
    """One or more Parquet files with the same columns, ascending by path."""

    paths: tuple[Path, ...]

    def schema(self) -> pa.Schema:
        """The files' columns; CorruptFile when one is cut short, SchemaMismatch when they differ."""
        first, *others = [_schema(path) for path in self.paths]
        for path, other in zip(self.paths[1:], others, strict=True):
            if not other.equals(first):
                raise SchemaMismatch(
                    f"{path.name} has the columns {other.names}, "
                    f"{self.paths[0].name} has {first.names} or other types; "
                    "files of one table need the same columns"
                )
        return first

    def digest(self) -> str:
        """Hex SHA-256 over the files' names and hashes."""
        lines = "".join(f"{path.name} {sha256_file(path)}\n" for path in self.paths)
        return hashlib.sha256(lines.encode()).hexdigest()

    def relation(self, con: Any, since: datetime, until: datetime) -> Any:
        """All rows: a file has no index by time."""
        del since, until
        return con.read_parquet([str(path) for path in self.paths], hive_partitioning=False)


def in_package(source: PackageParquet) -> ParquetFiles:
    """The file that a package brings along; SourceMissing names what to install."""
    try:
        path = Path(str(files(source.package) / source.path))
    except ModuleNotFoundError:
        raise SourceMissing(f"found no package {source.package!r}; run `make .venv`, or install it") from None
    if not path.is_file():
        raise SourceMissing(f"the package {source.package!r} has no file {source.path!r}; check `source.path`")
    return ParquetFiles((path,))


def on_disk(source: Files) -> ParquetFiles:
    """The files that match a path or glob; SourceMissing when none does."""
    found = tuple(sorted(Path(each) for each in glob.glob(source.path, recursive=True)))  # noqa: PTH207 - absolute patterns
    if not found:
        raise SourceMissing(f"no file matches {source.path!r}; check `source.path` in the shop's YAML")
    return ParquetFiles(found)


def _schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise CorruptFile(f"{path} is not a whole Parquet file ({error}); fetch it again") from error
