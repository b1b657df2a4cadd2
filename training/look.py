"""A first look at a file that nobody described: its dialect, and what each column seems to hold."""

import codecs
import csv
import glob
import io
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from data_contracts.errors import CorruptFile
from data_contracts.sources import Csv, Files
from data_contracts.tables import SourceType
from training.adapters.delimited import named
from training.adapters.records import flat
from training.adapters.unpacked import format_of, opened, unpacked

ROWS = 20_000
"""Rows that are looked at."""
_HEAD = 1 << 22
"""Bytes that tell the dialect."""
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_NULLS = ("NULL", "null", "NA", "N/A", "n/a", "NaN", "nan", "None", "\\N")
_WHOLE = re.compile(r"[-+]?(0|[1-9]\d*)")
_POINT = re.compile(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?")
_COMMA = re.compile(r"[-+]?(\d{1,3}(\.\d{3})+|\d+)(,\d+)?")
_DAYS = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d.%m.%y", "%d/%m/%y", "%m/%d/%y", "%Y/%m/%d")
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
FORMATS = tuple(day + clock for day in _DAYS for clock in _CLOCKS)


@dataclass(frozen=True, slots=True)
class Profile:
    """What the first rows say about a column."""

    name: str
    kind: SourceType
    rows: int
    missing: int
    distinct: int
    negative: int
    formats: tuple[str, ...] = ()
    """strptime formats that read every value, where they are text that ISO 8601 does not read."""
    zoned: bool = False
    """Whether its timestamps state their offset."""

    @property
    def unique(self) -> bool:
        """Whether it could be a key."""
        return self.rows > 0 and not self.missing and self.distinct == self.rows


@dataclass(frozen=True, slots=True)
class Look:
    """What a file seems to be."""

    source: Files
    columns: tuple[Profile, ...]

    def column(self, name: str) -> Profile:
        """The profile of a column."""
        return next(each for each in self.columns if each.name == name)


def look(path: str) -> Look:
    """A look at one file: CSV, JSON lines or Parquet; plain, .gz or .zip (its first member of a known format).

    Raises:
        CorruptFile: it holds nothing, or is not what its name says.
    """
    source = Files(kind="files", path=glob.escape(path))
    with tempfile.TemporaryDirectory(prefix="mercato-look-") as folder:
        first = _first(Path(path), Path(folder))
        kind = format_of(first.name) or "csv"
        forced = {} if format_of(first.name) else {"format": "csv"}
        if kind == "parquet":
            return Look(source, tuple(_typed(first)))
        with _sample(first) as (data, whole):
            if kind == "jsonl":
                return Look(source, tuple(_json(data, first.name)))
            dialect, names, rows = _dialect(data, whole, first.name)
    columns = tuple(
        _profile(name, values, dialect) for name, values in zip(names, zip(*rows, strict=True), strict=True)
    )
    return Look(source.model_copy(update={"csv": dialect, **forced}), columns)


def _first(path: Path, folder: Path) -> Path:
    if not path.is_file():
        raise CorruptFile(f"found no file {path}; name one that exists")
    if path.suffix.lower() != ".zip":
        return path
    members = unpacked((path,), folder, encoding="utf-8", member="*")
    return next((each for each in members if format_of(each.name)), members[0])


@contextmanager
def _sample(path: Path) -> Iterator[tuple[bytes, bool]]:
    """(first bytes of a file, whether these are all)."""
    with opened(path) as source:
        data = source.read(_HEAD)
        yield data, not source.read(1)


def _dialect(data: bytes, whole: bool, name: str) -> tuple[Csv, list[str], list[list[str]]]:
    """(dialect, names, rows) of the beginning of a file of separated values."""
    encoding = next((found for mark, found in _MARKS if data.startswith(mark)), "") or _encoding(data)
    text = codecs.getincrementaldecoder(encoding)(errors="ignore").decode(data).lstrip("\ufeff")
    delimiter = max(",;\t|", key=lambda each: _regular(text, each))
    try:
        rows = list(_split(text, delimiter, ROWS + 1))
    except csv.Error as error:
        raise CorruptFile(f"{name} cannot be split ({error}); is a quote opened in it and never closed?") from error
    rows = [row for row in (rows if whole else rows[:-1]) if row]
    if not rows:
        raise CorruptFile(f"{name} holds no rows; name a file with some")
    header = _is_header(rows[0])
    names = named(rows[0] if header else [""] * len(rows[0]))
    rows = [row for row in rows[header:] if len(row) == len(names)]
    if not rows:
        raise CorruptFile(f"{name} holds no rows of {len(names)} values below its header; name a file with some")
    cells = {cell for row in rows[:1000] for cell in row}
    comma = delimiter != "," and any("," in each and _COMMA.fullmatch(each) for each in cells)
    comma = comma and not any("." in each and _POINT.fullmatch(each) and not _COMMA.fullmatch(each) for each in cells)
    nulls = ("", *(each for each in _NULLS if each in cells))
    grouped = comma and any("." in each and _COMMA.fullmatch(each) for each in cells)
    dialect = Csv(
        delimiter=delimiter,
        header=header,
        encoding=encoding,
        decimal="," if comma else ".",
        thousands="." if grouped else "",
        nulls=nulls,
    )
    return dialect, names, rows


def _split(text: str, delimiter: str, rows: int) -> Iterator[list[str]]:
    """The first rows; csv.Error where a value has no end."""
    return islice(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), rows)


def _is_header(row: Sequence[str]) -> bool:
    """Whether a first row names the columns: no numbers, nothing twice; with blanks among them, only words."""
    there = [cell.strip() for cell in row if cell.strip()]
    if len(there) < len(row) and not all(each[0].isalpha() for each in there):
        return False
    return bool(there) and len(set(there)) == len(there) and not any(map(_POINT.fullmatch, there))


def _encoding(data: bytes) -> str:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def _regular(text: str, delimiter: str) -> tuple[float, int]:
    """How alike the rows are when split so: (share of rows as wide as the first, that width), 0 for one column."""
    try:
        rows = [row for row in _split(text, delimiter, 100) if row]
    except csv.Error:
        return 0.0, 0
    width = len(rows[0]) if rows else 0
    return (sum(len(row) == width for row in rows) / len(rows), width) if width > 1 else (0.0, 0)


def _json(data: bytes, name: str) -> Iterator[Profile]:
    """Profiles of JSON lines; the last line may be cut off by the sample."""
    lines = data.decode(errors="replace").splitlines()
    records = []
    for number, line in enumerate(lines[:ROWS], 1):
        try:
            records.append(dict(flat(json.loads(line), ()))) if line.strip() else None
        except (ValueError, AttributeError) as error:
            if number < len(lines):
                raise CorruptFile(f"line {number:,} of {name} is no JSON object ({error}); need one a line") from error
    for key in dict.fromkeys(key for each in records for key in each):
        yield _profile(key, [each.get(key) or "" for each in records], Csv())


def _typed(path: Path) -> Iterator[Profile]:
    """Profiles of a Parquet file, whose columns have types."""
    with path.open("rb") as opened_file:
        yield from _of_parquet(opened_file, path.name)


def _of_parquet(source: IO[bytes], name: str) -> Iterator[Profile]:
    try:
        batch = next(pq.ParquetFile(source).iter_batches(ROWS), None)
    except (pa.ArrowInvalid, OSError) as error:
        raise CorruptFile(f"{name} is not a whole Parquet file ({error}); fetch it again") from error
    if batch is None:
        raise CorruptFile(f"{name} holds no rows; name a file with some")
    for field, values in zip(batch.schema, batch.columns, strict=True):
        there = [each for each in values.to_pylist() if each is not None]
        number = pt.is_integer(field.type) or pt.is_floating(field.type) or pt.is_decimal(field.type)
        yield Profile(
            name=field.name,
            kind=_kind(field.type),
            rows=len(values),
            missing=len(values) - len(there),
            distinct=len(set(map(str, there))),
            negative=sum(each < 0 for each in there) if number else 0,
            zoned=pt.is_timestamp(field.type) and field.type.tz is not None,
        )


def _kind(given: pa.DataType) -> SourceType:
    if pt.is_timestamp(given):
        return "timestamp"
    if pt.is_boolean(given):
        return "boolean"
    if pt.is_integer(given):
        return "integer"
    return "number" if pt.is_floating(given) or pt.is_decimal(given) else "string"


def _profile(name: str, values: Sequence[str], dialect: Csv) -> Profile:
    """The profile of a column of text."""
    there = [each for each in values if each not in dialect.nulls]
    distinct = set(there)
    kind, formats, zoned = _seems(distinct, dialect)
    negative = sum(each.startswith("-") for each in there) if kind in {"integer", "number"} else 0
    return Profile(name, kind, len(values), len(values) - len(there), len(distinct), negative, formats, zoned)


def _seems(values: set[str], dialect: Csv) -> tuple[SourceType, tuple[str, ...], bool]:
    """(type, strptime formats, whether offsets are stated) that fit every value."""
    if not values:
        return "string", (), False
    if all(map(_WHOLE.fullmatch, values)):
        return "integer", (), False
    number = _COMMA if dialect.decimal == "," else _POINT
    if all(map(number.fullmatch, values)) and not any(each.lstrip("+-").startswith("00") for each in values):
        leading = any(re.fullmatch(r"[-+]?0\d+", each) for each in values)
        return ("string" if leading else "number"), (), False
    if values <= {"true", "false", "True", "False", "TRUE", "FALSE"}:
        return "boolean", (), False
    iso = [_iso(each) for each in values]
    if all(iso):
        return "timestamp", (), any(each is not None and each.tzinfo is not None for each in iso)
    formats = tuple(form for form in FORMATS if all(_reads(each, form) for each in values))
    return ("timestamp" if formats else "string"), formats, False


def _iso(text: str) -> datetime | None:
    if not re.match(r"\d{4}-\d\d-\d\d", text):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _reads(text: str, form: str) -> bool:
    try:
        datetime.strptime(text, form)  # noqa: DTZ007 - only whether it fits
    except ValueError:
        return False
    return True
