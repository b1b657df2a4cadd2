"""The only reader of clean tables, `as_of`, and the one policy for DuckDB connections."""

import hashlib
import os
import tempfile
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from functools import cache
from typing import Any

import ibis
import pyarrow as pa
from ibis import _

from data_contracts.contract import Contract, load_contract
from data_contracts.errors import NoWindow, SourceMissing
from data_contracts.partitions import Manifest, manifests, part_path
from data_contracts.shop import Shop, load_shop
from mercato.paths import Lake, canonical_json

_MEMORY = "1500MB"
_TICK = timedelta(microseconds=1)
_ARROW = {
    "string": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "timestamp": pa.timestamp("us", "UTC"),
}


def connect(*, threads: int = 1, spill: str = "") -> Any:
    """A new DuckDB behind Ibis: UTC, at most 1.5 GB in memory, the rest in the folder `spill` (one of its own).

    One thread unless asked: with more, sums of floats change from run to run. More threads are
    for work without float aggregates, such as extract and clean.
    """
    spill = spill or f"{tempfile.gettempdir()}/mercato-duckdb-{os.getpid()}"
    con = ibis.duckdb.connect(threads=threads, memory_limit=_MEMORY, temp_directory=spill)
    con.raw_sql("SET TimeZone = 'UTC'")
    return con


@cache
def _shared() -> Any:
    return connect()


def arrow_schema(contract: Contract) -> pa.Schema:
    """The Arrow schema of a clean table."""
    return pa.schema([pa.field(column.name, _ARROW[column.logicalType]) for column in contract.columns])


def as_of(  # noqa: PLR0913 - lake and table, then names
    lake: Lake,
    table: str,
    *,
    event_before: datetime,
    known_before: datetime,
    since: datetime | None = None,
    connection: Any = None,
) -> Any:
    """The clean rows that were true and known: of each key the version known last, as an Ibis table.

    A table that the shop does not have, such as promotions, has no rows.

    Args:
        lake: the shop's lake.
        table: a table with a contract.
        event_before: D, only versions with `event_time` < D count.
        known_before: K, only versions with `known_at` < K count.
        since: rows whose chosen version has `event_time` >= since.
        connection: Ibis backend; tables of one process can be joined when it is left out.

    Raises:
        CorruptFile: a partition's size differs from its manifest.
        SourceMissing: the table has no partition known before K.
    """
    contract = load_contract(table)
    read = _read(lake, table, known_before, since)
    if not read and table not in _shop(lake.shop).tables:
        return ibis.memtable(arrow_schema(contract).empty_table())
    if not read and not _read(lake, table, known_before, None):
        raise SourceMissing(
            f"found no partition of clean/{table} known before {known_before}; "
            "run extract_sources and clean_tables first"
        )
    con = connection or _shared()
    apart = [each for each in read if _stands_alone(each, read, contract)]
    mixed = [each for each in read if each not in apart]
    known = (_.event_time < event_before) & (_.known_at < known_before)
    parts = []
    if apart or not mixed:
        parts.append(clean_rows(con, lake, contract, apart).filter(known))
    if mixed:
        parts.append(_latest(clean_rows(con, lake, contract, mixed).filter(known), contract))
    rows = parts[0] if len(parts) == 1 else ibis.union(*parts)
    return rows if since is None else rows.filter(_.event_time >= since)


def snapshot(lake: Lake, table: str, *, known_before: datetime, since: datetime | None = None) -> dict[str, str]:
    """Business day -> SHA-256 of each partition that `as_of` reads."""
    return _days_read(_read(lake, table, known_before, since))


def _days_read(read: list[Manifest]) -> dict[str, str]:
    return {each.ds.isoformat(): each.sha256 for each in read}


def snapshot_digest(  # noqa: PLR0913 - as `as_of`
    lake: Lake,
    table: str,
    *,
    event_before: datetime,
    known_before: datetime,
    since: datetime | None = None,
    among: Sequence[Manifest] | None = None,
) -> str:
    """Hex SHA-256 that names the rows of `as_of` with the same arguments: partitions, bounds, contract version.

    `among`: every manifest of the table up to `known_before` or later, for who has read them already.
    """
    stated = {
        "table": load_contract(table).label,
        "event_before": event_before.isoformat(),
        "known_before": known_before.isoformat(),
        "since": since.isoformat() if since else None,
        "partitions": _days_read(_read(lake, table, known_before, since, among)),
    }
    return hashlib.sha256(canonical_json(stated)).hexdigest()


def verify(lake: Lake, table: str, *, layer: str = "clean") -> int:
    """Partitions of a table, every byte checked against its manifest; CorruptFile for the first that differs."""
    found = manifests(lake, layer, table)
    for each in found:
        part_path(lake, each, verify=True)
    return len(found)


@cache
def _shop(name: str) -> Shop:
    return load_shop(name)


def _read(
    lake: Lake, table: str, known_before: datetime, since: datetime | None, among: Sequence[Manifest] | None = None
) -> list[Manifest]:
    """Manifests of the partitions known before K; of those, from the first on that can hold an event since `since`.

    An event may be dated after it was known (a sender's clock runs ahead), so a day before `since` is asked too: a
    later version of what it holds may lie in any day after it.
    """
    for instant in (known_before, since):
        if instant is not None and instant.tzinfo is None:
            raise NoWindow(f"found the naive time {instant}, need one with a zone")
    last = _day(lake, known_before - _TICK)
    found = manifests(lake, "clean", table, None, last) if among is None else among
    known = [each for each in found if each.rows and each.ds <= last]
    if since is None:
        return known
    held = (each.ds for each in known if each.event_time_max is None or each.event_time_max >= since)
    first = min([_day(lake, since), *held])
    return [each for each in known if each.ds >= first]


def _day(lake: Lake, instant: datetime) -> date:
    return _shop(lake.shop).business_day(instant)


def _stands_alone(one: Manifest, others: list[Manifest], contract: Contract) -> bool:
    """Whether no key of this partition can be in another, nor twice in it: then nobody needs to look for versions."""
    if "event_time" not in contract.key or not one.keys_unique:
        return False
    if one.event_time_min is None or one.event_time_max is None:
        return False
    return all(
        other.ds == one.ds
        or other.event_time_max is None
        or other.event_time_min is None
        or other.event_time_max < one.event_time_min
        or other.event_time_min > one.event_time_max
        for other in others
    )


def clean_rows(con: Any, lake: Lake, contract: Contract, read: Sequence[Manifest], *, verify: bool = False) -> Any:
    """Every row of clean partitions, in all columns of the contract in force, as an Ibis table."""
    if not read:
        return ibis.memtable(arrow_schema(contract).empty_table())
    paths = [part_path(lake, each, verify=verify) for each in read]
    rows = con.read_parquet(paths, hive_partitioning=False, union_by_name=True)
    # Partitions from before a column was added: the contract only lets optional ones come.
    later = [column for column in arrow_schema(contract) if column.name not in rows.columns]
    return rows.mutate(**{each.name: ibis.null(ibis.dtype(each.type)) for each in later}) if later else rows


def _latest(rows: Any, contract: Contract) -> Any:
    """Of each key the version with the greatest (known_at, event_time, then every other column)."""
    others = [c.name for c in contract.columns if c.name not in {*contract.key, "known_at", "event_time"}]
    order = [ibis.desc(name) for name in ["known_at", "event_time", *others]]
    ranked = rows.mutate(_version=ibis.row_number().over(group_by=list(contract.key), order_by=order))
    return ranked.filter(_._version == 0).drop("_version")  # noqa: SLF001 - an Ibis column, not an attribute
