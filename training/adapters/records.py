"""JSON records as rows of text: nested objects become columns with dotted names, lists stay JSON."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.errors import SchemaMismatch

_BATCH = 20_000
"""Records held in memory at once."""


def flat(record: Mapping[str, Any], declared: Collection[str], prefix: str = "") -> Iterator[tuple[str, str | None]]:
    """(dotted name, text) of every value in a record; an object that is itself declared stays whole, as JSON."""
    for key, value in record.items():
        name = _whole(f"{prefix}{key}")
        if isinstance(value, Mapping) and name not in declared:
            yield from flat(value, declared, f"{name}.")
        else:
            yield name, _text(value)


def stage(records: Iterable[Mapping[str, Any]], declared: Collection[str], path: Path, where: str) -> Path:
    """Write the records to the Parquet file `path`, a text column for each declared name, and return it.

    Raises:
        SchemaMismatch: a record has a value that is not declared.
    """
    schema = pa.schema([(name, pa.string()) for name in declared])
    rows = iter(records)
    with pq.ParquetWriter(path, schema, compression="snappy") as out:
        while batch := list(islice(rows, _BATCH)):
            found = [dict(flat(record, declared)) for record in batch]
            for name, value in chain.from_iterable(each.items() for each in found):
                if name not in schema.names and value is not None:
                    raise SchemaMismatch(
                        f"{where} has the unknown value {name!r}; add it to `columns` in the shop's YAML, or correct "
                        "the source"
                    )
            out.write_table(pa.Table.from_pylist(found, schema))
    return path


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return _whole(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True))


def _whole(text: str) -> str:
    """JSON may hold half of a character, which no file can: `?` stands for it."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
