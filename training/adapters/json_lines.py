"""JSON lines read by DuckDB: every value arrives as text; nested objects become columns with dotted names."""

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


@dataclass(frozen=True, slots=True)
class JsonLines:
    """UTF-8 files with one JSON object a line."""

    paths: tuple[Path, ...]
    declared: dict[str, str]
    """Column -> its type in the shop's YAML."""

    def schema(self) -> pa.Schema:
        """The declared columns (a record may leave any out) and every other value that some record has, as text.

        Raises:
            CorruptFile: a line is no JSON.
        """
        query = f"SELECT DISTINCT json_structure(json) FROM read_ndjson_objects([{self._files()}])"
        try:
            with duckdb.connect() as con:
                found = [json.loads(row[0]) for row in con.sql(query).fetchall()]
        except duckdb.Error as error:
            raise self._broken(error) from error
        if any(not isinstance(each, dict) for each in found):
            raise CorruptFile(
                f"{self.paths[0].name} has lines that are no JSON objects, such as lists; need one object a line"
            )
        names = {name: None for each in found for name in _leaves(each, self.declared)}
        return pa.schema([(name, pa.string()) for name in {**dict.fromkeys(self.declared), **names}])

    def whole(self, con: Any) -> Any:
        """All records, the declared columns."""
        places = [(name, place) for name in self.declared for place in _places(name)]
        read = {name: [f"found[{i}]" for i, (of, _) in enumerate(places, 1) if of == name] for name in self.declared}
        values = ", ".join(f"coalesce({', '.join(found)}) AS {column(name)}" for name, found in read.items())
        return view(
            con,
            f"SELECT {values} FROM (SELECT json_extract_string(json, [{', '.join(text(at) for _, at in places)}]) "
            f"AS found FROM read_ndjson_objects([{self._files()}]))",
        )

    def _files(self) -> str:
        return ", ".join(text(str(path)) for path in self.paths)

    def _broken(self, error: duckdb.Error) -> CorruptFile:
        """The first line that is no JSON; looked for again, because DuckDB counts within its own blocks."""
        for path in self.paths:
            with opened(path) as lines:
                for number, line in enumerate(lines, 1):
                    try:
                        json.loads(line if line.strip() else b"{}")
                    except ValueError as why:
                        return CorruptFile(f"line {number:,} of {path.name} is not JSON ({why}); correct the export")
        return CorruptFile(f"{self.paths[0].name} cannot be read: {error}")


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
