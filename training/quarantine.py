"""Quarantine for people: what is in it, how its rows get out for repair, and how repaired rows come back, once."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.checks import BROKEN
from data_contracts.errors import SourceMissing
from data_contracts.lake import connect
from data_contracts.partitions import Manifest, manifests, part_path
from data_contracts.shop import Shop
from mercato.paths import Lake
from training.raw import TYPES
from training.row_files import typed, write_rows

ROW, DAY, RULES, CUSTOMER_KEY = "_row", "_day", "_rules", "_customer_key"
ABOUT = pa.schema([(name, pa.string()) for name in (ROW, DAY, RULES, CUSTOMER_KEY)])
"""Columns that say where an exported row comes from; its source's own columns follow."""
_BETWEEN, _ROW_DIGITS = "\x1f", 16
"""Between the day, the customer's key, the source's row and, of equal ones, its number; ROW begins their SHA-256."""
_TICK = timedelta(microseconds=1)


def listing(lake: Lake, shop: Shop, tables: list[str], since: datetime, until: datetime) -> list[dict[str, Any]]:
    """Rows in quarantine per table, day and rule, how many of them were readmitted since, and an example of each.

    A row that breaks two rules counts under both.

    Raises:
        BadShop: the shop has no such table.
    """
    return [row for table in tables for row in _counted(lake, shop, table, since, until)]


def _counted(lake: Lake, shop: Shop, table: str, since: datetime, until: datetime) -> list[dict[str, Any]]:
    """`listing` of one table."""
    shop.table(table)
    days = {part_path(lake, each): each.ds.isoformat() for each in _parts(lake, shop, table, since, until)}
    if not days:
        return []
    files = {"hive_partitioning": False, "union_by_name": True, "filename": True, "file_row_number": True}
    rows = connect().read_parquet(list(days), **files)
    rows = rows.join(ibis.memtable({"filename": list(days), "day": list(days.values())}), "filename")
    key = rows["customer_key"] if "customer_key" in rows.columns else ibis.null("string")
    said = ibis.literal(_BETWEEN).join([rows.day, key.fill_null(str(None)), rows.source_row])
    number = ibis.row_number().over(group_by=said, order_by=rows.file_row_number) + 1
    said += (number > 1).ifelse(_BETWEEN + number.cast("string"), "")
    back = ibis.memtable(pa.table({"row": pa.array(sorted(readmitted(lake, table)), pa.string())}))
    rows = rows.select(
        "day",
        "source_row",
        at=rows.file_row_number,
        rule=rows[BROKEN].split(",").unnest(),
        back=said.hexdigest("sha256").substr(0, _ROW_DIGITS).isin(back.row),
    )
    counts = rows.group_by("day", "rule").agg(
        rows=rows.count(), readmitted=rows.back.cast("int64").sum(), example=rows.source_row.argmin(rows.at)
    )
    counted = counts.mutate(table=ibis.literal(table)).order_by("day", "rule")
    found: list[dict[str, Any]] = (
        counted.select("table", "day", "rule", "rows", "readmitted", "example").to_pyarrow().to_pylist()
    )
    return found


def export(  # noqa: PLR0913 - what and where, then names
    lake: Lake, shop: Shop, table: str, to: Path, *, since: datetime, until: datetime, rule: str = ""
) -> dict[str, Any]:
    """Counts of the rows written to `to` for repair: those of [since, until) that were not readmitted yet.

    Each row has the source's columns without the customer's id, for which `_customer_key` stands, and
    `_row`, `_day` and `_rules`, which say where it comes from and what is wrong with it.

    Args:
        lake: the shop's lake.
        shop: whose source columns.
        table: a table of the shop.
        to: a path that ends in .csv, .jsonl or .parquet.
        since: local midnight of the first day.
        until: local midnight after the last.
        rule: only rows that break this one; all when empty.

    Raises:
        SourceMissing: the table was never extracted.
    """
    schema = source_schema(lake, shop, table)
    open_columns = [name for name in schema.names if name not in shop.identity_columns]
    back = readmitted(lake, table)
    rows: list[dict[str, Any]] = []
    without_source = 0
    for day, found in _days(lake, shop, table, since, until):
        for row in found:
            if row[ROW] in back or (rule and rule not in row[BROKEN].split(",")):
                continue
            source = json.loads(row["source_row"])
            if not set(open_columns) <= source.keys():
                without_source += 1
                continue
            about = {ROW: row[ROW], DAY: day.isoformat(), RULES: row[BROKEN], CUSTOMER_KEY: row.get("customer_key")}
            rows.append({**about, **{name: source[name] for name in open_columns}})
    wanted = [*ABOUT, *(schema.field(name) for name in open_columns)]
    write_rows(
        pa.table({each.name: typed([row[each.name] for row in rows], each.type, each.name) for each in wanted}), to
    )
    return {"table": table, "rows": len(rows), "sums_without_source": without_source, "file": str(to)}


def source_schema(lake: Lake, shop: Shop, table: str) -> pa.Schema:
    """Source columns and their types as the newest raw day with each has them; SourceMissing without any raw day."""
    raw = manifests(lake, "raw", table)
    if not raw:
        raise SourceMissing(f"found nothing in raw/{table}: there is nothing to repair before extract_sources ran")
    found: dict[str, pa.Field] = {}
    columns = shop.table(table).columns
    for each in reversed(raw):
        schema = pq.read_schema(part_path(lake, each))
        found |= {name: schema.field(name) for name in schema.names if name in columns and name not in found}
        if len(found) == len(columns):
            break
    stated = ibis.schema({name: TYPES[kind] for name, kind in columns.items()}).to_pyarrow()
    return pa.schema([found.get(name, stated.field(name)) for name in columns])


def originals(lake: Lake, shop: Shop, table: str, days: set[date]) -> dict[str, dict[str, Any]]:
    """`_row` -> the source's values of every quarantined row of some days."""
    found: dict[str, dict[str, Any]] = {}
    for day in sorted(days):
        since, until = shop.day_bounds(day)
        for _, rows in _days(lake, shop, table, since, until):
            found |= {row[ROW]: json.loads(row["source_row"]) for row in rows}
    return found


def readmitted(lake: Lake, table: str) -> set[str]:
    """`_row` of every quarantined row that was put back, from the receipts."""
    receipts = lake.fs.glob(lake.path("quarantine", table, "readmitted", "*.json"))
    return {row for path in receipts for row in lake.read_json(str(path))["rows"]}


def write_receipt(lake: Lake, table: str, rows: list[str], at: datetime) -> None:
    """Remember which quarantined rows were put back; the first receipt of the same rows stays."""
    if not rows:
        return
    named = sorted(set(rows))
    digest = hashlib.sha256("\n".join(named).encode()).hexdigest()[:16]
    path = lake.path("quarantine", table, "readmitted", f"{digest}.json")
    if not lake.exists(path):
        lake.write_json(path, {"table": table, "known_at": at.isoformat(), "rows": named})


def _days(
    lake: Lake, shop: Shop, table: str, since: datetime, until: datetime
) -> Iterator[tuple[date, list[dict[str, Any]]]]:
    """(day, its quarantined rows with ROW), ascending."""
    for each in _parts(lake, shop, table, since, until):
        rows = pq.read_table(part_path(lake, each), partitioning=None).to_pylist()
        equal: Counter[str] = Counter()
        for row in rows:
            said = _BETWEEN.join([each.ds.isoformat(), str(row.get("customer_key")), row["source_row"]])
            equal[said] += 1
            said += f"{_BETWEEN}{equal[said]}" if equal[said] > 1 else ""
            row[ROW] = hashlib.sha256(said.encode()).hexdigest()[:_ROW_DIGITS]
        yield each.ds, rows


def _parts(lake: Lake, shop: Shop, table: str, since: datetime, until: datetime) -> list[Manifest]:
    return manifests(lake, "quarantine", table, shop.business_day(since), shop.business_day(until - _TICK))
