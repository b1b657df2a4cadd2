"""JSON read by DuckDB, one object a line or one array of objects: every value arrives as text.

Nested objects become columns with dotted names. A declared column that ends in `*` takes every key that begins so and
is not declared by itself, as one text `what follows: value; ...`.
"""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import product
from operator import add
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from data_contracts.errors import CorruptFile
from training.adapters.duck import column, text, view
from training.adapters.unpacked import opened

_GATHERS = "*"
_HEAD = 64
"""Bytes that tell an array from lines."""


@dataclass(frozen=True, slots=True)
class JsonLines:
    """UTF-8 files with one JSON object a line, or each with one array of objects."""

    paths: tuple[Path, ...]
    declared: dict[str, str]
    """Column -> its type in the shop's YAML."""

    def schema(self) -> pa.Schema:
        """The declared columns (a record may leave any out) and every other value that some record has, as text.

        Raises:
            CorruptFile: a line is no JSON.
        """
        query = f"SELECT DISTINCT json_structure(json) FROM {self._records()}"
        try:
            with duckdb.connect() as con:
                found = [json.loads(row[0]) for row in con.sql(query).fetchall()]
        except duckdb.Error as error:
            raise self._broken(error) from error
        if any(not isinstance(each, dict) for each in found):
            raise CorruptFile(
                f"{self.paths[0].name} has lines that are no JSON objects, such as lists; need one object a line"
            )
        gathered = tuple(_prefix(name) for name in self.declared if name.endswith(_GATHERS))
        names = {
            name: None
            for each in found
            for name in _leaves(each, self.declared)
            if name in self.declared or not name.startswith(gathered)
        }
        return pa.schema([(name, pa.string()) for name in {**dict.fromkeys(self.declared), **names}])

    def whole(self, con: Any) -> Any:
        """All records, the declared columns."""
        single = [name for name in self.declared if not name.endswith(_GATHERS)]
        places = [(name, place) for name in single for place in _places(name)]
        read = {name: [f"found[{i}]" for i, (of, _) in enumerate(places, 1) if of == name] for name in single}
        values = {name: f"coalesce({', '.join(found)})" for name, found in read.items()}
        values |= {name: _gathered(_prefix(name), single) for name in self.declared if name.endswith(_GATHERS)}
        named = ", ".join(f"{values[name]} AS {column(name)}" for name in self.declared)
        return view(
            con,
            f"SELECT {named} FROM (SELECT json, json_extract_string(json, "
            f"[{', '.join(text(at) for _, at in places)}]) AS found FROM {self._records()})",
        )

    def _records(self) -> str:
        """The DuckDB function over the files: an array where the first of them begins with one."""
        files = ", ".join(text(str(path)) for path in self.paths)
        with opened(self.paths[0]) as source:
            array = source.read(_HEAD).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
        return f"read_json_objects([{files}], format = 'array')" if array else f"read_ndjson_objects([{files}])"

    def _broken(self, error: duckdb.Error) -> CorruptFile:
        """The first line that is no JSON; looked for again, because DuckDB counts within its own blocks."""
        for path in self.paths if "ndjson" in self._records() else ():
            with opened(path) as lines:
                for number, line in enumerate(lines, 1):
                    try:
                        json.loads(line if line.strip() else b"{}")
                    except ValueError as why:
                        return CorruptFile(f"line {number:,} of {path.name} is not JSON ({why}); correct the export")
        return CorruptFile(f"{self.paths[0].name} cannot be read: {error}")


def _prefix(name: str) -> str:
    return name.removesuffix(_GATHERS)


def _gathered(prefix: str, single: Collection[str]) -> str:
    """SQL for the keys that begin with `prefix`, as `rest of the key: value; ...` in the keys' order; null for none."""
    apart = ", ".join(text(name) for name in single) or "''"
    keys = f"list_filter(json_keys(json), lambda key: starts_with(key, {text(prefix)}) AND key NOT IN ({apart}))"
    said = f"replace(substr(key, {len(prefix) + 1}), '_', ' ')"
    value = "json_extract_string(json, '/' || replace(replace(key, '~', '~0'), '/', '~1'))"
    return f"nullif(array_to_string(list_transform({keys}, lambda key: {said} || ': ' || {value}), '; '), '')"


def _leaves(structure: dict[str, Any], declared: Collection[str], prefix: str = "") -> Iterator[str]:
    for key, value in structure.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and name not in declared:
            yield from _leaves(value, declared, f"{name}.")
        elif value != "NULL":
            yield name


def _places(name: str) -> Iterator[str]:
    """The JSON pointers that may hold a column: each dot of its name leads into an object, or belongs to a key."""
    parts = name.replace("~", "~0").replace("/", "~1").split(".")
    for dots in product("/.", repeat=len(parts) - 1):
        yield "".join(map(add, ("/", *dots), parts))
