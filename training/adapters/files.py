"""Files on disk as a source, in whichever format they are."""

import glob
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_contracts.errors import SourceMissing
from data_contracts.sources import Files
from data_contracts.tables import Table
from mercato.paths import sha256_files
from training.adapters.delimited import DelimitedFiles
from training.adapters.environment import expanded
from training.adapters.json_lines import JsonLines
from training.adapters.parquet import ParquetFiles
from training.adapters.unpacked import format_of, readable, unpacked

Read = ParquetFiles | DelimitedFiles | JsonLines


@dataclass(slots=True)
class LocalFiles:
    """The files behind one table; unpacked into `folder` where DuckDB cannot read them as they are."""

    source: Files
    spec: Table
    folder: Path
    _read: Read | None = field(default=None, init=False)

    @property
    def text(self) -> bool:
        """Whether values arrive as text, whatever type is declared."""
        return not isinstance(self.opened(), ParquetFiles)

    def schema(self) -> pa.Schema:
        """Columns and types as the files have them."""
        return self.opened().schema()

    def digest(self) -> str:
        """Hex SHA-256 over the files' names and hashes, as they lie on disk."""
        return sha256_files(found(self.source))

    def relation(self, con: Any, since: datetime, until: datetime) -> Any:
        """All rows: a file has no index by time."""
        del since, until
        return self.opened().whole(con)

    def sample(self, con: Any, rows: int) -> pa.Table:
        """The first rows."""
        opened = self.opened()
        return (opened.head(con) if isinstance(opened, ParquetFiles) else opened.whole(con)).limit(rows).to_pyarrow()

    def opened(self) -> Read:
        """The reader of the files' format."""
        if self._read is None:
            self._read = open_files(self.source, dict(self.spec.columns), self.folder)
        return self._read


def open_files(source: Files, declared: dict[str, str], folder: Path) -> Read:
    """The reader of the files' format; what must be unpacked or transcoded goes to `folder`."""
    dialect = source.csv
    encoding = dialect.encoding if source.format in {"", "csv"} else "utf-8"
    paths = unpacked(found(source), folder, encoding=encoding, member=source.member)
    formats = {source.format or format_of(path.name) for path in paths}
    kind = formats.pop()
    if formats or not kind:
        names = ", ".join(path.name for path in paths[:3])
        raise SourceMissing(
            f"{names} are of no one format that the extension tells; set `source.format` to csv, jsonl or parquet"
        )
    if kind == "parquet":
        return ParquetFiles(paths)
    return JsonLines(paths, declared) if kind == "jsonl" else DelimitedFiles(paths, dialect, declared)


def found(source: Files) -> tuple[Path, ...]:
    """The files that a path or glob matches, ascending; SourceMissing when none does, or one may not be read."""
    paths = matching(source.path)
    if not paths:
        raise SourceMissing(
            f"no file matches {str(Path.cwd() / expanded(source.path))!r}; check `source.path` in the shop's YAML: "
            "a relative one begins where mercato is run"
        )
    return tuple(readable(paths))


def matching(path: str) -> tuple[Path, ...]:
    """The files that a path or glob with `~` and `$VARIABLES` matches now, ascending."""
    names = glob.glob(expanded(path), recursive=True)  # noqa: PTH207 - absolute patterns
    return tuple(sorted(Path(each) for each in names if Path(each).is_file()))
