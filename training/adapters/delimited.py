"""Separated values of any dialect, read by DuckDB: every column arrives as text, as it was spelled."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from data_contracts.errors import CorruptFile, SchemaMismatch
from data_contracts.sources import Csv
from training.adapters.duck import column, text, view
from training.adapters.unpacked import opened

_LINE = re.compile(r"CSV Error on Line: (\d+)")
_FILE = re.compile(r"file = (.+)|[Ff]ile \"([^\"]+)\"")
_INVALID_STATE = "state machine reached an invalid state"
_REASONS = {
    "Expected Number of Columns": "has {found} fields, need {needed}",
    "unterminated quote": "has a quote that is never closed",
    "Invalid unicode": "is not UTF-8; state its encoding as `source.csv.encoding`",
    "Maximum line size": "is longer than 2 MB; is a quote left open before it?",
}


@dataclass(frozen=True, slots=True)
class DelimitedFiles:
    """UTF-8 files of one dialect with the same columns."""

    paths: tuple[Path, ...]
    dialect: Csv
    declared: dict[str, str]
    """Column -> its type in the shop's YAML."""

    def schema(self) -> pa.Schema:
        """The columns of the header, all text.

        Raises:
            CorruptFile: a file is empty, or its header cannot be read.
            SchemaMismatch: files differ, or a name is there twice.
        """
        if not self.dialect.header:
            return pa.schema([(name, pa.string()) for name in self.declared])
        first, *others = [self._header(path) for path in self.paths]
        for path, other in zip(self.paths[1:], others, strict=True):
            if other != first:
                raise SchemaMismatch(
                    f"{path.name} has the columns {other}, {self.paths[0].name} has {first}; "
                    "files of one table need the same columns in the same order"
                )
        twice = sorted({name for name in first if first.count(name) > 1})
        if twice:
            raise SchemaMismatch(f"{self.paths[0].name} has the column {twice[0]!r} twice; name each once")
        return pa.schema([(name, pa.string()) for name in first])

    def whole(self, con: Any) -> Any:
        """All rows; a row with too many or too few fields stops the reading with `broken`."""
        names = self.schema().names
        d = self.dialect
        columns = ", ".join(f"{text(name)}: 'VARCHAR'" for name in names)
        options = [
            f"columns={{{columns}}}",
            f"auto_detect=false, strict_mode=true, header={str(d.header).lower()}, skip={d.skip}",
            f"delim={text(d.delimiter)}, quote={text(d.quote)}, escape={text(d.escape if d.quote else '')}",
            f"nullstr=[{', '.join(map(text, d.nulls))}]",
        ]
        files = ", ".join(text(str(path)) for path in self.paths)
        values = ", ".join(self._value(name) for name in names)
        return view(con, f"SELECT {values} FROM read_csv([{files}], {', '.join(options)})")

    def _header(self, path: Path) -> list[str]:
        d = self.dialect
        quoting: Any = {"quotechar": d.quote} if d.quote else {"quoting": csv.QUOTE_NONE}
        with opened(path) as source, io.TextIOWrapper(source, encoding="utf-8-sig", newline="") as lines:
            try:
                names = named(next(csv.reader(islice(lines, d.skip, None), delimiter=d.delimiter, **quoting), []))
            except (UnicodeDecodeError, csv.Error) as error:
                raise CorruptFile(
                    f"the beginning of {path.name} cannot be read ({error}); check `source.csv.encoding`"
                ) from error
        if not names:
            raise CorruptFile(
                f"{path.name} has no header line; set `source.csv.header: false` if it has none, or fetch it again"
            )
        return names

    def _value(self, name: str) -> str:
        """A number in the dialect's spelling is respelled with a point; what is no number stays as it is."""
        value = column(name)
        d = self.dialect
        if self.declared.get(name) not in {"number", "integer"} or (d.decimal == "." and not d.thousands):
            return value
        point, group = re.escape(d.decimal), re.escape(d.thousands)
        whole = f"(?:[0-9]{{1,3}}(?:{group}[0-9]{{3}})+|[0-9]+)" if group else "[0-9]+"
        spelled = text(f"[-+]?{whole}(?:{point}[0-9]+)?")
        plain = f"replace({value}, {text(d.thousands)}, '')" if group else value
        return (
            f"CASE WHEN regexp_full_match({value}, {spelled}) THEN replace({plain}, {text(d.decimal)}, '.') "
            f"ELSE {value} END AS {value}"
        )


def named(header: Sequence[str]) -> list[str]:
    """The columns of a header; a blank cell is called by its place, as the third one `column_3`."""
    return [cell if cell.strip() else f"column_{place}" for place, cell in enumerate(header, 1)]


def broken(error: duckdb.Error) -> CorruptFile | None:
    """The error that names the file in which DuckDB stopped, and the line if it is known; None for any other error."""
    said = str(error)
    if "GZIP stream" in said:
        return CorruptFile(f"{Path(said.rsplit(' ', 1)[-1]).name} is not a whole .gz; fetch it again")
    file = _FILE.search(said)
    name = Path(file.group(1) or file.group(2)).name if file else "a file"
    line = _LINE.search(said)
    if _INVALID_STATE in said:
        return CorruptFile(
            f"{name} mixes line ends (\\n, \\r\\n), or has a quote inside a value; write it with one kind of line end "
            "(dos2unix does), or correct the dialect in `source.csv`"
        )
    if not line and file and isinstance(error, duckdb.InvalidInputException):
        return CorruptFile(f"{name} cannot be read ({said.splitlines()[0]}); correct the export")
    if not line:
        return None
    reason = next((why for words, why in _REASONS.items() if words in said), "cannot be read")
    counts = re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", said)
    reason = reason.format(found=counts.group(2), needed=counts.group(1)) if counts else reason
    return CorruptFile(
        f"line {int(line.group(1)):,} of {name} {reason}; correct the export, or the dialect in `source.csv`"
    )
