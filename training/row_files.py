"""Rows in files that people make and mend: CSV, JSON lines or Parquet, read as stated types."""

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from data_contracts.errors import SchemaMismatch


def write_rows(rows: pa.Table, to: Path) -> None:
    """Write rows by the file's ending."""
    to.parent.mkdir(parents=True, exist_ok=True)
    _by_ending(to, _WRITERS)(rows, to)


def read_rows(file: Path, schema: pa.Schema, optional: frozenset[str]) -> pa.Table:
    """The rows of a file: the columns and types of `schema`, null where the file lacks an optional one.

    Args:
        file: .csv, .jsonl or .parquet.
        schema: columns wanted; another one is an error, so that nothing is lost unseen.
        optional: those of them that the file may leave out.

    Raises:
        SchemaMismatch: a column is missing or unknown, or a value cannot be read as its type.
    """
    if not file.is_file():
        raise SchemaMismatch(f"found no file {file}; need one that ends in {', '.join(_READERS)}")
    try:
        columns = _by_ending(file, _READERS)(file)
    except (pa.ArrowInvalid, UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
        raise SchemaMismatch(f"{file.name} cannot be read: {error}") from error
    missing = [name for name in schema.names if name not in columns and name not in optional]
    unknown = [name for name in columns if name not in schema.names]
    if missing or unknown:
        raise SchemaMismatch(
            f"{file.name}: missing columns {missing}, unknown columns {unknown}; "
            f"need {', '.join(name for name in schema.names if name not in optional)}"
        )
    n = len(next(iter(columns.values()), []))
    return pa.table({each.name: typed(columns.get(each.name, [None] * n), each.type, each.name) for each in schema})


def typed(values: list[Any], kind: pa.DataType, name: str) -> pa.Array:
    """The values as one type, read from text where they are text; SchemaMismatch names the column."""
    try:
        try:
            found = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            found = pa.array([None if value is None else str(value) for value in values], pa.string())
        return found.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise SchemaMismatch(f"column {name!r} cannot be read as {kind}: {error}") from error


def _read_csv(file: Path) -> dict[str, list[Any]]:
    with file.open(encoding="utf-8-sig", newline="") as handle:
        reader = csv.DictReader(handle, strict=True)
        rows = list(reader)
    ragged = [at for at, row in enumerate(rows, 2) if None in row or None in row.values()]
    if ragged:
        raise SchemaMismatch(f"{file.name}: row {ragged[0]} has another number of cells than the header")
    return {name: [row[name] or None for row in rows] for name in reader.fieldnames or []}


def _read_jsonl(file: Path) -> dict[str, list[Any]]:
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise SchemaMismatch(f"{file.name}: every line must be a JSON object")
    return {name: [row.get(name) for row in rows] for row in rows for name in row}


def _read_parquet(file: Path) -> dict[str, list[Any]]:
    return dict(pq.read_table(file, partitioning=None).to_pydict())


def _write_jsonl(rows: pa.Table, to: Path) -> None:
    to.write_text("".join(json.dumps(row, default=str, ensure_ascii=False) + "\n" for row in rows.to_pylist()))


_READERS: Mapping[str, Callable[[Path], dict[str, list[Any]]]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
_WRITERS: Mapping[str, Callable[[pa.Table, Path], Any]] = {
    ".csv": pacsv.write_csv,
    ".jsonl": _write_jsonl,
    ".parquet": pq.write_table,
}


def _by_ending(file: Path, known: Mapping[str, Any]) -> Any:
    if file.suffix not in known:
        raise SchemaMismatch(f"found the file {file.name}; need one that ends in {', '.join(known)}")
    return known[file.suffix]
