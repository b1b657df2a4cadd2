"""Source columns into contract columns, as a shop's YAML says; no shop has code of its own."""

from dataclasses import dataclass
from typing import Any, Self

import ibis
import pyarrow as pa
from ibis import _

from data_contracts.checks import UNREADABLE
from data_contracts.contract import Column, Contract
from data_contracts.shop import Shop
from data_contracts.tables import Mapped, SourceType, Table
from mercato.identity import Identity
from training.moments import UTC_TIME, timestamp, week_start
from training.raw import read_raw

SOURCE = "_source"
"""Struct of the source's columns without customers' ids, carried beside the mapped ones until rules are checked."""
_IBIS = {"string": "string", "integer": "int64", "number": "float64", "boolean": "boolean", "timestamp": UTC_TIME}
_EXACT = 2.0**53
"""Floats from here on hold no single units any more."""
_ROUNDING = 1e-3
"""Largest part of a minor unit that counts as float noise."""


@dataclass(frozen=True, slots=True)
class Customers:
    """Shop's customer id -> `customer_key`, for the ids that a run needs."""

    keys: Any
    """Ibis table (`_id`, `_key`), or None when the table holds no customers."""
    column: str = ""
    """Source column with the shop's own ids."""
    stated: SourceType = "string"
    """Its type in the shop's YAML."""

    @classmethod
    def of(cls, con: Any, shop: Shop, table: str, identity: Identity, raw_paths: list[str]) -> Self:
        """The keys of all customers in `raw_paths`, minted where they are new."""
        columns = [rule.identity for rule in shop.table(table).mapping.values() if rule.identity]
        if not columns or not raw_paths:
            return cls(None)
        stated = shop.table(table).columns[columns[0]]
        ids = customer_ids(con, raw_paths, columns[0], stated)
        found = identity.keys(shop.name, ids)
        frame = pa.table(
            {"_id": pa.array(ids, pa.string()), "_key": pa.array([found[each] for each in ids], pa.string())}
        )
        return cls(ibis.memtable(frame), columns[0], stated)


def customer_ids(con: Any, raw_paths: list[str], column: str, stated: SourceType) -> list[str]:
    """The shop's own ids of all customers in some raw files, sorted; `stated`: the column's type in the shop's YAML."""
    raw = read_raw(con, raw_paths, {column: stated})
    found = raw.select(_id=_id_text(raw[column], stated)).filter(_._id.notnull()).distinct()  # noqa: SLF001 - an Ibis column
    return sorted(found.to_pyarrow()["_id"].to_pylist())


def _id_text(value: Any, stated: SourceType) -> Any:
    """An id as text; a whole number without its decimal point, which only says that ids were missing beside it.

    So is a number that a source of text spells `17850.0`, where the column is stated to hold numbers.
    """
    if value.type().is_floating():
        whole = value.try_cast("int64")
        spelled = (whole.cast("float64") == value).ifelse(whole.cast("string"), value.cast("string"))
        return spelled.nullif("nan")
    if value.type().is_decimal() or (stated == "number" and value.type().is_string()):
        return value.cast("string").re_replace(r"^([+-]?\d+)\.0+$", r"\1")
    return value.cast("string")


def mapped(raw: Any, shop: Shop, contract: Contract, customers: Customers) -> tuple[Any, dict[str, Any]]:
    """(rows in contract columns plus SOURCE, name of a rule of the source -> boolean: the row breaks it).

    The source's rules are the shop's own, and `<column>_unreadable` for values that could not be converted.
    """
    rules = shop.table(contract.name).mapping
    secret = shop.identity_columns
    if customers.keys is not None:
        raw = raw.mutate(_id=_id_text(raw[customers.column], customers.stated))
        raw = raw.left_join(customers.keys, "_id")
    made = {column.name: _made(raw, shop, column, rules.get(column.name)) for column in contract.columns}
    open_columns = {name: raw[name] for name in shop.table(contract.name).columns if name not in secret}
    rows = raw.select(**made, **{SOURCE: ibis.struct(open_columns)})
    unreadable = {
        f"{name}{UNREADABLE}": rows[name].isnull() & rows[SOURCE][rule.reads].notnull()
        for name, rule in rules.items()
        if rule.reads in open_columns and _can_fail(raw[rule.reads].type(), rule, contract.column(name))
    }
    return rows, {**rejected(rows[SOURCE], shop.table(contract.name)), **unreadable}


def rejected(source: Any, spec: Table) -> dict[str, Any]:
    """Name of a rule of the shop -> boolean: the row is none of this table's. `source`: rows, or a struct of them."""
    found = {}
    for rule in spec.reject:
        value = source[rule.column]
        if rule.missing:
            broken = value.isnull()
        elif rule.matches:
            broken = value.cast("string").re_search(f"^(?:{rule.matches})$")
        else:
            broken = value.try_cast("float64") < rule.below
        found[rule.name] = broken.fill_null(False)
    return found


def _made(raw: Any, shop: Shop, column: Column, rule: Mapped | None) -> Any:
    kind = _IBIS[column.logicalType]
    if rule is None:
        return raw[column.name].cast(kind) if column.name in ("event_time", "known_at") else ibis.null(kind)
    if rule.constant:
        return ibis.literal(rule.constant).cast(kind)
    if rule.identity:
        return raw["_key"]
    if rule.money:
        amount = raw[rule.money].try_cast("float64")
        amount = amount * raw[rule.times].try_cast("float64") if rule.times else amount
        return _whole(amount, 10**shop.minor_digits)
    return _moment(raw, shop, rule) if rule.timestamp or rule.week else _cast(raw[rule.column], column, kind)


def _moment(raw: Any, shop: Shop, rule: Mapped) -> Any:
    if rule.week:
        return week_start(raw, rule.week, shop)
    return timestamp(raw, rule.timestamp, zone=rule.zone, form=rule.format)


def _cast(value: Any, column: Column, kind: Any) -> Any:
    if column.logicalType == "integer" and (_fractional(value.type()) or value.type().is_string()):
        return _whole(value, 1)
    return value.try_cast(kind) if value.type().is_string() and kind != "string" else value.cast(kind)


def _whole(value: Any, scale: int) -> Any:
    """`value * scale` as int64; null where that is no whole number."""
    scaled = value.try_cast("float64") * float(scale)
    exact = (scaled.isnan() | (scaled.abs() >= _EXACT)).ifelse(ibis.null("float64"), scaled)
    whole = exact.round().cast("int64")
    return ((exact - whole).abs() < _ROUNDING).ifelse(whole, ibis.null("int64"))


def _can_fail(source: Any, rule: Mapped, column: Column) -> bool:
    if rule.money or rule.format:
        return True
    wanted = column.logicalType
    return bool((source.is_string() and wanted != "string") or (_fractional(source) and wanted == "integer"))


def _fractional(kind: Any) -> bool:
    return bool(kind.is_floating() or kind.is_decimal())
