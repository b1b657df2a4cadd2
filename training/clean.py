"""`raw/` into `clean/`: mapped to the contract, checked, pseudonymised; what breaks a rule goes to `quarantine/`."""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from itertools import groupby
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from ibis import _
from numpy.typing import NDArray

from data_contracts.checks import BROKEN, WARNED, mark_rows
from data_contracts.contract import Contract, load_contract
from data_contracts.errors import SourceMissing
from data_contracts.lake import arrow_schema, clean_rows, connect
from data_contracts.partitions import (
    Manifest,
    Partitions,
    describe,
    encode,
    let_go,
    manifests,
    one_at_a_time,
    part_path,
    writing,
)
from data_contracts.shop import Shop
from mercato.identity import Identity
from mercato.paths import Lake
from training.days import by_known_at, chunks, each_day, in_order, split_by_day
from training.errors import RawLetGo, RowsLost
from training.judging import Past, Tally, alarms, judge
from training.mapping import SOURCE, Customers, mapped
from training.raw import read_raw
from training.sums import added_up, running_totals

CONFLICT = "key_conflict"
"""Rule broken by rows that share key and `known_at` but not content: nobody can say which one is right."""


@dataclass(frozen=True, slots=True)
class CleanReport:
    """What cleaning did; `raw_rows` = `clean_rows` + `quarantined` + `duplicates` + `added_up`."""

    table: str
    since: datetime
    until: datetime
    contract: str
    raw_rows: int
    """As the manifests of raw count them."""
    clean_rows: int
    quarantined: int
    duplicates: int
    """Rows equal to another one in every column."""
    added_up: int
    """Rows that are part of another one now, by the shop's `sums`."""
    days: int
    broken: dict[str, int]
    """Row rule -> rows that it sent to quarantine."""
    warned: dict[str, int]
    """Row rule of severity warning -> rows."""
    measured: dict[str, float]
    """Table rule -> value found."""
    alarms: tuple[str, ...]
    """Table rules of severity warning that do not hold, in words."""


@dataclass(frozen=True, slots=True)
class _Job:
    lake: Lake
    shop: Shop
    contract: Contract
    raw: dict[date, str]
    """The partitions to check; of a table whose lines add up, those of all days before too."""
    con: Any
    customers: Customers
    references: dict[str, pa.Array]
    """Table rule -> values that its column may hold."""
    tally: Tally

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.contract.columns]

    @property
    def order(self) -> list[str]:
        """The one total order of a partition: `known_at`, the key, then every other column."""
        first = ["known_at", *self.contract.key]
        return [*first, *[name for name in self.names if name not in first]]


@one_at_a_time
def clean(  # noqa: PLR0913 - the window has two ends
    lake: Lake,
    shop: Shop,
    table: str,
    identity: Identity,
    *,
    since: datetime,
    until: datetime,
    scheduled: bool = False,
) -> CleanReport:
    """Write the clean and quarantine partitions of the raw ones whose day lies in [since, until).

    The same raw bytes, contract and identity map leave the same bytes. Nothing comes into place
    unless every table rule of severity error holds; those that compare with the recent past are
    judged when the window is a `scheduled` one, because a person may load any days in any order.

    Raises:
        TableRuleBroken: with counts and examples.
        CorruptFile: a raw partition is not the one its manifest names.
        RowsLost: not every row of raw came out; the days are of another zone of the shop, say.
        NoWindow: the window is not whole business days.
        RawLetGo: lines add up, and retention has let go raw days that may hold others of the same keys.
        OutOfSpace: the disk is full.
    """
    days = shop.whole_days(since, until)
    raw = manifests(lake, "raw", table, days[0], days[-1])
    contract = load_contract(table)
    before = []
    if shop.table(table).sums:
        _need_lines(lake, shop, table, raw)
        before = manifests(lake, "raw", table, None, days[0] - timedelta(days=1))
    paths = {each.ds: part_path(lake, each) for each in before}
    paths |= {each.ds: part_path(lake, each, verify=True) for each in raw}
    con = connect(threads=os.cpu_count() or 1)
    customers = Customers.of(con, shop, table, identity, list(paths.values()))
    job = _Job(lake, shop, contract, paths, con, customers, references(lake, con, contract), Tally())
    by_day = {each.ds: each for each in raw}
    past = Past.of(lake, shop, table, since, until) if scheduled else None
    with writing(lake) as out:
        for chunk in _alike(raw, paths):
            good, bad = _checked(job, chunk)
            _put(job, out, "clean", good, [by_day[day] for day in chunk])
            _put(job, out, "quarantine", bad, [by_day[day] for day in chunk])
        found = judge(contract, job.tally, len(days), past)
        _balance(lake, shop, table, raw, job.tally)
    tally = job.tally
    return CleanReport(
        table=table,
        since=since,
        until=until,
        contract=contract.label,
        raw_rows=sum(each.rows for each in raw),
        clean_rows=tally.clean,
        quarantined=tally.quarantined,
        duplicates=tally.duplicates,
        added_up=tally.added_up,
        days=len(raw),
        broken=dict(sorted(tally.broken.items())),
        warned=dict(sorted(tally.warned.items())),
        measured={each.rule.name: each.value for each in found},
        alarms=alarms(found),
    )


def _balance(lake: Lake, shop: Shop, table: str, raw: list[Manifest], tally: Tally) -> None:
    """RowsLost unless what the raw manifests count is what came out."""
    found = sum(each.rows for each in raw)
    kept = tally.clean + tally.quarantined + tally.duplicates + tally.added_up
    if found != kept:
        raise RowsLost(
            f"{shop.name}.{table} has {found:,} raw rows from {raw[0].ds} to {raw[-1].ds}, and {kept:,} came out "
            f"({tally.clean:,} clean, {tally.quarantined:,} bad, {tally.duplicates:,} duplicates, {tally.added_up:,} "
            f"added up); nothing was written. Where the zone {shop.zone!r} is newer than these raw days, their rows "
            f"lie on other days in it: move {lake.table('raw', table)} away and extract its days again"
        )


def _need_lines(lake: Lake, shop: Shop, table: str, raw: list[Manifest]) -> None:
    """RawLetGo when a line of `raw` is of a day that was let go: its total would lack the lines that lay there."""
    gone = let_go(lake, "raw", table)
    if not gone:
        return
    end = shop.day_bounds(gone[-1])[1]
    older = [each.ds for each in raw if each.event_time_min is not None and each.event_time_min < end]
    if older:
        raise RawLetGo(
            f"{shop.name}.{table} adds lines up, {len(older)} raw days, {older[0]} to {older[-1]}, have lines of "
            f"{gone[-1]} or before, and {len(gone)} raw days, {gone[0]} to {gone[-1]}, were let go after "
            "MERCATO_KEEP_RAW_DAYS: totals would lack what lay there; leave the clean days as they are"
        )


def _alike(raw: list[Manifest], paths: dict[date, str]) -> Iterator[list[date]]:
    """Days brought into memory at once: of one schema, so that each is cleaned as it is when it comes alone."""
    for _schema, some in groupby(raw, key=lambda each: pq.read_schema(paths[each.ds])):
        yield from chunks({each.ds: each.rows for each in some})


def _marked(job: _Job, days: Iterable[date]) -> Any:
    """The raw rows of some days in contract columns, with the names of the rules that each breaks."""
    raw = read_raw(job.con, [job.raw[day] for day in days], job.shop.table(job.contract.name).columns)
    rows, source_rules = mapped(raw, job.shop, job.contract, job.customers)
    return mark_rows(rows, job.contract, source_rules)


def _checked(job: _Job, days: list[date]) -> tuple[pa.Table, pa.Table]:
    """(clean rows, rows for quarantine) of some days, both in the total order."""
    marked = _marked(job, days)
    source = (marked[BROKEN] != "").ifelse(marked[SOURCE].cast("json").cast("string"), None)
    sources = marked.select(*job.names, source_row=marked[SOURCE].cast("json").cast("string"))
    marked = marked.mutate(source_row=source).drop(SOURCE)
    order = partial(in_order, columns=[*job.order, BROKEN, "source_row"])
    frame = by_known_at(marked.to_pyarrow())
    frame = pa.concat_tables(each_day(lambda _day, rows: order(rows), list(split_by_day(job.shop, frame, days))))
    frame = frame.combine_chunks()
    good = frame.filter(pc.equal(frame[BROKEN], "")).select([*job.names, WARNED])
    bad = frame.filter(pc.not_equal(frame[BROKEN], "")).select([*job.names, BROKEN, "source_row"])
    sums = job.shop.table(job.contract.name).sums
    if sums:
        lines, good = good.num_rows, added_up(good, sums, job.order)
        job.tally.added_up += lines - good.num_rows
    repeated, conflicting = _same_keys(good, list(job.contract.key))
    bad = pa.concat_tables([bad, _conflicts(good.filter(pa.array(conflicting)), sources)])
    good = good.filter(pa.array(~repeated & ~conflicting))
    if sums and good.num_rows:
        good = running_totals(job.con, good, _before(job, days[0], good), job.contract.key, sums)
    job.tally.raw += frame.num_rows
    job.tally.duplicates += int(repeated.sum())
    expected = [rule.name for rule in job.shop.table(job.contract.name).reject]
    job.tally.count(job.contract, good, bad, job.references, expected)
    return good.select(job.names).cast(arrow_schema(job.contract)), bad.sort_by([("known_at", "ascending")])


def _same_keys(rows: pa.Table, key: list[str]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Masks over rows in the total order: equal to the row before; of a key with several contents at one `known_at`."""
    n = rows.num_rows
    same = np.ones(max(n - 1, 0), dtype=bool)
    for name in dict.fromkeys([*key, "known_at"]):
        if same.any():
            column = rows[name].combine_chunks()
            same &= pc.equal(column.slice(1), column.slice(0, n - 1)).to_numpy(zero_copy_only=False)
    repeated, differs = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
    at = np.flatnonzero(same) + 1
    if not at.size:
        return repeated, differs
    here, before = rows.take(pa.array(at)), rows.take(pa.array(at - 1))
    equal = np.ones(at.size, dtype=bool)
    for name in rows.column_names:
        both_null = pc.and_(pc.is_null(here[name]), pc.is_null(before[name]))
        alike = pc.or_(both_null, pc.fill_null(pc.equal(here[name], before[name]), False))
        equal &= alike.to_numpy()
    repeated[at[equal]] = True
    group = np.cumsum(np.r_[True, ~same])
    differs = np.isin(group, group[at[~equal]]) & ~repeated
    return repeated, differs


def _before(job: _Job, first: date, good: pa.Table) -> pa.Table:
    """The lines that hold of the days before `first`, of the keys in `good`."""
    days = [day for day in job.raw if day < first]
    if not days:
        return good.slice(0, 0)
    marked, key = _marked(job, days), list(job.contract.key)
    found: pa.Table = marked.filter(marked[BROKEN] == "").semi_join(ibis.memtable(good.select(key)), key).to_pyarrow()
    return found


def _conflicts(rows: pa.Table, sources: Any) -> pa.Table:
    """Conflicting rows in the shape of quarantine, each with its source's values.

    A sum of several source rows has the mapped values instead.
    """
    names = [name for name in rows.column_names if name != WARNED]
    values = rows.select(names)
    mapped_text = [json.dumps(each, default=str, sort_keys=True) for each in values.to_pylist()]
    values = values.append_column("_at", pa.array(range(values.num_rows), pa.int64()))
    text: dict[int, str] = {}
    if values.num_rows:
        here = ibis.memtable(values)
        same = [here[name].identical_to(sources[name]) for name in names]
        found = here.inner_join(sources, same).group_by("_at").agg(source_row=_.source_row.min()).to_pyarrow()
        text = dict(zip(found["_at"].to_pylist(), found["source_row"].to_pylist(), strict=True))
    text_of = [text.get(at, mapped_text[at]) for at in range(values.num_rows)]
    values = values.drop("_at").append_column(BROKEN, pa.array([CONFLICT] * values.num_rows, pa.string()))
    return values.append_column("source_row", pa.array(text_of, pa.string()))


def _put(job: _Job, out: Partitions, layer: str, rows: pa.Table, raw: list[Manifest]) -> None:
    """One partition per day; quarantine only where there are rows, or were before."""
    table = job.contract.name
    by_day = {each.ds: each for each in raw}
    parts = list(split_by_day(job.shop, rows, list(by_day)))
    if layer == "quarantine":
        there = set(job.lake.days(layer, table))
        parts = [(day, part) for day, part in parts if part.num_rows or day.isoformat() in there]
    for day, part, data in each_day(lambda day, part: (day, part, encode(part)), parts):
        times = pc.min_max(part["known_at"])
        described = describe(
            part,
            data,
            table=table,
            layer=layer,
            ds=day,
            contract=job.contract.label,
            inputs={"raw": by_day[day].sha256},
            keys_unique=times["min"].as_py() == times["max"].as_py(),
        )
        out.put(data, described)


def references(lake: Lake, con: Any, contract: Contract) -> dict[str, pa.Array]:
    """Table rule -> the values that its column may hold; SourceMissing when that table was not cleaned yet."""
    values = {}
    for rule in contract.table_rules:
        if rule.implementation != "referenceHeld":
            continue
        table, column = rule.arguments.to.split(".")
        there = manifests(lake, "clean", table)
        if not there:
            raise SourceMissing(
                f"{contract.name} refers to {rule.arguments.to}, and {table} is not clean yet: clean it first"
            )
        rows = clean_rows(con, lake, load_contract(table), there)
        values[rule.name] = rows.select(column).distinct().to_pyarrow()[column].combine_chunks()
    return values
