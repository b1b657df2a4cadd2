"""Tables whose lines add up (`sums` in the shop's YAML): one row per key and instant, the total of what is known."""

from collections.abc import Sequence
from typing import Any

import ibis
import pyarrow as pa
from ibis import _

from data_contracts.checks import WARNED
from training.days import in_order

_AT = "_at"


def added_up(rows: pa.Table, sums: Sequence[str], order: Sequence[str]) -> pa.Table:
    """The rows with those that differ at most in `sums` made one, in the same total order."""
    others = [name for name in rows.column_names if name not in (*sums, WARNED)]
    wanted = [*((name, "sum") for name in sums), (WARNED, "max")]
    found = rows.group_by(others, use_threads=False).aggregate(wanted)
    return in_order(found.rename_columns([*others, *sums, WARNED]).select(rows.column_names), order)


def running_totals(con: Any, rows: pa.Table, before: pa.Table, key: Sequence[str], sums: Sequence[str]) -> pa.Table:
    """`rows` with `sums` over all lines of their key that were known by then.

    Args:
        con: where to compute.
        rows: at most one per key and `known_at`.
        before: lines known earlier, with at least the key, `known_at` and `sums`.
        key: columns.
        sums: whole numbers.
    """
    names = [*key, "known_at", *sums]
    mine = rows.select(names).append_column(_AT, pa.array(range(rows.num_rows), pa.int64()))
    others = before.select(names).append_column(_AT, pa.nulls(before.num_rows, pa.int64()))
    lines = ibis.memtable(pa.concat_tables([mine, others]))
    known_by_then = ibis.cumulative_window(group_by=list(key), order_by="known_at")
    totals = {name: lines[name].sum().over(known_by_then).cast("int64") for name in sums}
    found = con.to_pyarrow(lines.mutate(**totals).filter(_[_AT].notnull()).order_by(_AT))
    for name in sums:
        rows = rows.set_column(rows.column_names.index(name), rows.schema.field(name), found[name])
    return rows.combine_chunks()
