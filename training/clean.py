"""`raw/` into `clean/`: mapped to the contract, checked, pseudonymised; what breaks a rule goes to `quarantine/`."""

import json
import os
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_contracts.checks import BROKEN, WARNED, Measured, mark_rows
from data_contracts.contract import Contract, TableRule, load_contract
from data_contracts.errors import SourceMissing, TableRuleBroken
from data_contracts.lake import arrow_schema, connect
from data_contracts.partitions import Manifest, Partitions, describe, encode, manifests, part_path, writing
from data_contracts.shop import Shop
from mercato.identity import Identity
from mercato.paths import Lake
from training.extract import chunks, split_by_day
from training.mapping import SOURCE, Customers, mapped

_EXAMPLES = 3
CONFLICT = "key_conflict"
"""Rule broken by rows that share key and `known_at` but not content: nobody can say which one is right."""


@dataclass(frozen=True, slots=True)
class CleanReport:
    """What cleaning did; `raw_rows` = `clean_rows` + `quarantined` + `duplicates`."""

    table: str
    since: datetime
    until: datetime
    contract: str
    raw_rows: int
    clean_rows: int
    quarantined: int
    duplicates: int
    """Rows equal to another one in every column."""
    days: int
    broken: dict[str, int]
    """Row rule -> rows that it sent to quarantine."""
    warned: dict[str, int]
    """Row rule of severity warning -> rows."""
    measured: dict[str, float]
    """Table rule -> value found."""


@dataclass(slots=True)
class _Tally:
    """Counts of one run, filled chunk by chunk."""

    raw: int = 0
    clean: int = 0
    quarantined: int = 0
    duplicates: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    warned: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    """Some broken rows, with their rules."""
    strangers: Counter[str] = field(default_factory=Counter)
    """Table rule -> clean rows whose reference is not held."""


@dataclass(frozen=True, slots=True)
class _Job:
    lake: Lake
    shop: Shop
    contract: Contract
    con: Any
    customers: Customers
    references: dict[str, pa.Array]
    """Table rule -> values that its column may hold."""
    tally: _Tally

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.contract.columns]

    @property
    def order(self) -> list[str]:
        """The one total order of a partition: `known_at`, the key, then every other column."""
        first = ["known_at", *self.contract.key]
        return [*first, *[name for name in self.names if name not in first]]


def clean(  # noqa: PLR0913 - the window has two ends
    lake: Lake, shop: Shop, table: str, identity: Identity, *, since: datetime, until: datetime
) -> CleanReport:
    """Write the clean and quarantine partitions of the raw ones whose day lies in [since, until).

    The same raw bytes, contract and identity map leave the same bytes. Nothing comes into place
    unless every table rule of severity error holds.

    Raises:
        TableRuleBroken: with counts and examples.
        CorruptFile: a raw partition is not the one its manifest names.
        NoWindow: the window is not whole business days.
        OutOfSpace: the disk is full.
    """
    days = shop.whole_days(since, until)
    raw = manifests(lake, "raw", table, days[0], days[-1])
    contract = load_contract(table)
    paths = {each.ds: part_path(lake, each, verify=True) for each in raw}
    con = connect(threads=os.cpu_count() or 1)
    customers = Customers.of(con, shop, table, identity, list(paths.values()))
    job = _Job(lake, shop, contract, con, customers, _references(lake, con, contract), _Tally())
    by_day = {each.ds: each for each in raw}
    with writing(lake) as out:
        for chunk in chunks({each.ds: each.rows for each in raw}):
            good, bad = _checked(job, [paths[day] for day in chunk])
            _put(job, out, "clean", good, [by_day[day] for day in chunk])
            _put(job, out, "quarantine", bad, [by_day[day] for day in chunk])
        found = _judge(job, len(days))
    tally = job.tally
    assert tally.raw == tally.clean + tally.quarantined + tally.duplicates, f"rows lost in {table}: {tally}"  # noqa: S101
    return CleanReport(
        table=table,
        since=since,
        until=until,
        contract=contract.label,
        raw_rows=tally.raw,
        clean_rows=tally.clean,
        quarantined=tally.quarantined,
        duplicates=tally.duplicates,
        days=len(raw),
        broken=dict(sorted(tally.broken.items())),
        warned=dict(sorted(tally.warned.items())),
        measured={each.rule.name: each.value for each in found},
    )


def _checked(job: _Job, paths: list[str]) -> tuple[pa.Table, pa.Table]:
    """(clean rows, rows for quarantine) of some raw partitions, both in the total order."""
    raw = job.con.read_parquet(paths, hive_partitioning=False)
    rows, unreadable = mapped(raw, job.shop, job.contract, job.customers)
    marked = mark_rows(rows, job.contract, unreadable)
    source = (marked[BROKEN] != "").ifelse(marked[SOURCE].cast("json").cast("string"), None)
    marked = marked.mutate(source_row=source).drop(SOURCE)
    frame = marked.order_by([*job.order, BROKEN, "source_row"]).to_pyarrow().combine_chunks()
    good = frame.filter(pc.equal(frame[BROKEN], "")).select([*job.names, WARNED])
    bad = frame.filter(pc.not_equal(frame[BROKEN], "")).select([*job.names, BROKEN, "source_row"])
    repeated, conflicting = _same_keys(good, list(job.contract.key))
    bad = pa.concat_tables([bad, _conflicts(good.filter(pa.array(conflicting)), job.names)])
    good = good.filter(pa.array(~repeated & ~conflicting))
    _count(job, frame.num_rows, int(repeated.sum()), good, bad)
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


def _conflicts(rows: pa.Table, names: list[str]) -> pa.Table:
    """Conflicting rows in the shape of quarantine; their source row is the mapped one."""
    values = rows.select(names)
    text = [json.dumps(each, default=str, sort_keys=True) for each in values.to_pylist()]
    values = values.append_column(BROKEN, pa.array([CONFLICT] * values.num_rows, pa.string()))
    return values.append_column("source_row", pa.array(text, pa.string()))


def _count(job: _Job, raw: int, duplicates: int, good: pa.Table, bad: pa.Table) -> None:
    tally = job.tally
    tally.raw += raw
    tally.duplicates += duplicates
    tally.clean += good.num_rows
    tally.quarantined += bad.num_rows
    for names, counter in ((bad[BROKEN], tally.broken), (good[WARNED], tally.warned)):
        for found in names.value_counts().to_pylist():
            for name in filter(None, found["values"].split(",")):
                counter[name] += found["counts"]
    room = _EXAMPLES - len(tally.examples)
    for row in bad.slice(0, max(room, 0)).select([BROKEN, "source_row"]).to_pylist():
        tally.examples.append(f"{row[BROKEN]}: {row['source_row']}")
    for rule in job.contract.table_rules:
        if rule.implementation == "referenceHeld":
            held = pc.is_in(good[rule.arguments.column], value_set=job.references[rule.name])
            tally.strangers[rule.name] += good.num_rows - (pc.sum(held).as_py() or 0)


def _put(job: _Job, out: Partitions, layer: str, rows: pa.Table, raw: list[Manifest]) -> None:
    """One partition per day; quarantine only where there are rows, or were before."""
    table = job.contract.name
    by_day = {each.ds: each for each in raw}
    for day, part in split_by_day(job.shop, rows, list(by_day)):
        known = f"{job.lake.partition(layer, table, day.isoformat())}/part.parquet"
        if layer == "quarantine" and not part.num_rows and not job.lake.exists(known):
            continue
        data = encode(part)
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


def _references(lake: Lake, con: Any, contract: Contract) -> dict[str, pa.Array]:
    """Table rule -> the values that its column may hold; SourceMissing when that table was not cleaned yet."""
    values = {}
    for rule in contract.table_rules:
        if rule.implementation != "referenceHeld":
            continue
        table, column = rule.arguments.to.split(".")
        paths = [part_path(lake, each) for each in manifests(lake, "clean", table)]
        if not paths:
            raise SourceMissing(
                f"{contract.name} refers to {rule.arguments.to}, and {table} is not clean yet: clean it first"
            )
        rows = con.read_parquet(paths, hive_partitioning=False)
        values[rule.name] = rows.select(column).distinct().to_pyarrow()[column].combine_chunks()
    return values


def _judge(job: _Job, days: int) -> list[Measured]:
    """What each table rule found; TableRuleBroken when one of severity error does not hold."""
    found = [each for rule in job.contract.table_rules if (each := _measure(job.tally, rule, days))]
    broken = [str(each) for each in found if not each.holds and each.rule.severity == "error"]
    if broken:
        rules = ", ".join(f"{name} {count:,}" for name, count in job.tally.broken.most_common())
        raise TableRuleBroken(
            f"{job.contract.label}: {'; '.join(broken)}. {job.tally.raw:,} raw rows, {job.tally.clean:,} clean, "
            f"{job.tally.quarantined:,} bad ({rules or 'no row rule broken'}), {job.tally.duplicates:,} duplicates. "
            f"Examples: {job.tally.examples or 'none'}. Nothing was written; correct the source or the mapping"
        )
    return found


def _measure(tally: _Tally, rule: TableRule, days: int) -> Measured | None:
    """The value of a table rule, or None when the run is too small to judge."""
    given = rule.arguments
    if days < given.perDays or tally.raw < given.fromRows:
        return None
    if rule.measures == "rowCount":
        value = tally.raw * given.perDays / days if given.perDays else float(tally.raw)
    elif not tally.raw:
        return None
    elif rule.measures == "duplicateValues":
        value = 100 * tally.duplicates / tally.raw
    elif rule.measures == "quarantined":
        value = 100 * tally.quarantined / tally.raw
    else:
        value = 100 - 100 * tally.strangers[rule.name] / max(tally.clean, 1)
    return Measured(rule, round(value, 4), rule.holds(value))
