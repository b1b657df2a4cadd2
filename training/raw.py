"""The one reader of `raw/`: its days may have been extracted under other columns and types of the source."""

from collections.abc import Mapping, Sequence
from typing import Any

import ibis
import ibis.expr.datatypes as dt

from data_contracts.tables import SourceType
from training.moments import UTC_TIME

TYPES: Mapping[SourceType, Any] = {
    "string": dt.string,
    "integer": dt.int64,
    "number": dt.float64,
    "boolean": dt.boolean,
    "timestamp": UTC_TIME,
}


def read_raw(con: Any, paths: Sequence[str], columns: Mapping[str, SourceType]) -> Any:
    """The rows of raw partitions: the declared columns, `event_time` and `known_at`, as an Ibis table.

    A partition from before a column was declared has nulls in it; a column that is whole numbers in one partition and
    fractions in another is of fractions.
    """
    rows = con.read_parquet(list(paths), hive_partitioning=False, union_by_name=True)
    later = {name: ibis.null(TYPES[kind]) for name, kind in columns.items() if name not in rows.columns}
    return rows.mutate(**later).select(*dict.fromkeys([*columns, "event_time", "known_at"]))
