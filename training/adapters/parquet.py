"""Parquet files as a source; the ones inside an installed Python package."""

from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.errors import CorruptFile, SchemaMismatch, SourceMissing
from data_contracts.sources import PackageParquet
from mercato.paths import sha256_files


@dataclass(frozen=True, slots=True)
class ParquetFiles:
    """One or more Parquet files with the same columns, ascending by path."""

    paths: tuple[Path, ...]
    text: ClassVar[bool] = False

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
        return sha256_files(self.paths)

    def relation(self, con: Any, since: datetime, until: datetime) -> Any:
        """All rows: a file has no index by time."""
        del since, until
        return self.whole(con)

    def whole(self, con: Any) -> Any:
        """All rows of all files."""
        return con.read_parquet([str(path) for path in self.paths], hive_partitioning=False)

    def head(self, con: Any) -> Any:
        """The rows of the first file."""
        return con.read_parquet(str(self.paths[0]), hive_partitioning=False)

    def sample(self, con: Any, rows: int) -> pa.Table:
        """The first rows."""
        return self.head(con).limit(rows).to_pyarrow()


def in_package(source: PackageParquet) -> ParquetFiles:
    """The file that a package brings along; SourceMissing names what to install."""
    try:
        path = Path(str(files(source.package) / source.path))
    except ModuleNotFoundError:
        raise SourceMissing(f"found no package {source.package!r}; run `make .venv`, or install it") from None
    if not path.is_file():
        raise SourceMissing(f"the package {source.package!r} has no file {source.path!r}; check `source.path`")
    return ParquetFiles((path,))


def _schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise CorruptFile(f"{path} is not a whole Parquet file ({error}); fetch it again") from error
