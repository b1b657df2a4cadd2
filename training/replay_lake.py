"""The scratch lake of a replay: clean tables as they were known, copied, so that nothing done to it reaches the lake.

In it `as_of(T, T)` answers what the replay is about, whoever asks:

- K <= D: what was known before K is there, as it is. As of T, what was known before min(T, K) counts.
- K > D (hindsight): what happened before D and was known before K is there, known when it happened. As of T,
  all of it that had happened counts, corrections up to K included.
"""

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import ibis
from ibis import _

from data_contracts.contract import Contract, contract_names, load_contract
from data_contracts.lake import arrow_schema, clean_rows, connect
from data_contracts.partitions import Manifest, describe, encode, manifests, part_path, writing
from data_contracts.shop import load_shop
from mercato.paths import Lake
from training.days import split_by_day
from training.staging import staging

_TICK = timedelta(microseconds=1)
_DAYS = 7
"""Business days brought into memory at once in hindsight."""


def copy_known(source: Lake, scratch: Lake, *, event_before: datetime, known_before: datetime) -> dict[str, list[str]]:
    """Fill `scratch` with what a replay as of D = `event_before`, K = `known_before` may see.

    Returns: table -> the contracts under which its partitions were written, ascending.

    Raises:
        CorruptFile: a clean partition is not the one its manifest names.
    """
    last = load_shop(source.shop).business_day(known_before - _TICK)
    found = {}
    for table in contract_names():
        there = manifests(source, "clean", table, None, last)
        if not there:
            continue
        if known_before > event_before:
            _hindsight(source, scratch, there, event_before, known_before)
        else:
            _copy(source, scratch, there, known_before)
        found[table] = sorted({each.contract for each in there})
    return found


def _copy(source: Lake, scratch: Lake, there: list[Manifest], known_before: datetime) -> None:
    """The partitions as they are; of the day in which K lies, the rows known before it."""
    end = load_shop(source.shop).day_bounds(there[-1].ds)[1]
    with writing(scratch) as out:
        for each in there:
            path = part_path(source, each, verify=True)
            if each is not there[-1] or end <= known_before:
                out.put(Path(path).read_bytes(), each)
                continue
            contract = load_contract(each.table)
            rows = clean_rows(connect(), source, contract, [each]).filter(_.known_at < known_before)
            rows = rows.select(*arrow_schema(contract).names)
            frame = rows.order_by(_order(contract)).to_pyarrow().cast(arrow_schema(contract)).combine_chunks()
            out.put(*_described(frame, each, each.ds, keys_unique=each.keys_unique))


def _hindsight(source: Lake, scratch: Lake, there: list[Manifest], event_before: datetime, known: datetime) -> None:
    """The versions that some `as_of(T, known)` with T <= D answers, known at their own event time."""
    shop, contract = load_shop(source.shop), load_contract(there[0].table)
    columns = arrow_schema(contract).names
    with staging() as (con, _folder), writing(scratch) as out:
        rows = clean_rows(con, source, contract, there, verify=True)
        rows = rows.filter(_.event_time < event_before, _.known_at < known).select(*columns)
        rows = _winners(rows, contract).mutate(known_at=_.event_time)
        rows = con.create_table("rows", rows.select(*columns))
        bounds = rows.aggregate(first=_.event_time.min(), last=_.event_time.max()).to_pyarrow().to_pylist()[0]
        if bounds["first"] is None:
            return
        day, last = (shop.business_day(bounds[name]) for name in ("first", "last"))
        while day <= last:
            days = [day + timedelta(days=n) for n in range(_DAYS)]
            day += timedelta(days=_DAYS)
            since, until = shop.day_start(days[0]), shop.day_start(day)
            some = rows.filter(_.known_at >= since, _.known_at < until).order_by(_order(contract))
            some = some.to_pyarrow().cast(arrow_schema(contract)).combine_chunks()
            for each, part in split_by_day(shop, some, days):
                if part.num_rows:
                    out.put(*_described(part, there[0], each, keys_unique="event_time" in contract.key))


def _winners(rows: Any, contract: Contract) -> Any:
    """Of the versions of a key those that no version with the same or an earlier event time was known after.

    The others are never the answer: whoever sees them sees the later one too. Of what is left, the order by event
    time is the order by `known_at`.
    """
    others = [c.name for c in contract.columns if c.name not in {*contract.key, "known_at", "event_time"}]
    newest = [ibis.desc(name) for name in ["known_at", "event_time", *others]]
    rank = ibis.row_number().over(group_by=list(contract.key), order_by=newest)
    ranked = rows.mutate(_rank=rank)
    earlier = ibis.window(group_by=list(contract.key), order_by=[ranked.event_time, ranked._rank], following=0)  # noqa: SLF001
    return ranked.mutate(_best=ranked._rank.min().over(earlier)).filter(_._rank == _._best).drop("_rank", "_best")  # noqa: SLF001


def _described(frame: Any, like: Manifest, ds: date, *, keys_unique: bool) -> tuple[bytes, Manifest]:
    data = encode(frame)
    known = {"table": like.table, "layer": "clean", "ds": ds, "contract": like.contract, "keys_unique": keys_unique}
    return data, describe(frame, data, inputs={"replay": "rows of clean/ as known"}, **known)


def _order(contract: Contract) -> list[str]:
    """The total order of a clean partition: `known_at`, the key, then every other column."""
    first = ["known_at", *contract.key]
    return [*first, *[column.name for column in contract.columns if column.name not in first]]
