"""Source rows into `raw/`: the source's columns plus `event_time` and `known_at`, one partition per business day."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt
from ibis import _

from data_contracts.contract import load_contract
from data_contracts.errors import SchemaMismatch
from data_contracts.partitions import (
    Manifest,
    Partitions,
    describe,
    encode,
    let_go,
    manifest,
    manifests,
    note_quiet,
    one_at_a_time,
    part_path,
    quiet_days,
    writing,
)
from data_contracts.shop import Shop
from data_contracts.sources import EventLog
from data_contracts.tables import Table
from mercato.paths import Lake
from training.adapters import Adapter, open_source
from training.counting import Counted
from training.days import by_known_at, chunks, each_day, in_order, split_by_day
from training.errors import RawLetGo, RowsLost, SourceChanged
from training.mapping import rejected
from training.moments import UTC_TIME, event_time, later, microseconds, timestamp
from training.raw import TYPES, read_raw
from training.staging import staging

_TICK = timedelta(microseconds=1)
_QUARTER = 900
"""Seconds. Every zone's midnight falls on a quarter of an hour."""
_FITS = {
    "integer": pt.is_integer,
    "number": lambda each: pt.is_floating(each) or pt.is_decimal(each) or pt.is_integer(each),
    "string": lambda each: pt.is_string(each) or pt.is_large_string(each) or pt.is_dictionary(each),
    "timestamp": pt.is_timestamp,
    "boolean": pt.is_boolean,
}


@dataclass(frozen=True, slots=True)
class TableReport:
    """What an extraction left in `raw/`, and what it left out: `read` = `rows` + `repeats` + `other_days`."""

    table: str
    since: datetime
    until: datetime
    rows: int
    """Rows of the source in the interval, with the late ones that became known at its start."""
    days: int
    """Partitions that hold them."""
    new_rows: int
    """Rows that raw did not have before."""
    read: int
    """Rows that the source gave."""
    repeats: int
    """Rows of the interval that change nothing, where the table is one of changes."""
    other_days: int
    """Rows that were known before or after the interval."""
    outside_history: int
    """Rows of other days that were known before the shop's history, or after it and the interval."""
    outside_history_example: str
    """When one of them was known, UTC; empty without any."""
    source_digest: str


@dataclass(frozen=True, slots=True)
class _Job:
    lake: Lake
    shop: Shop
    table: str
    digest: str
    con: Any
    folder: Path
    """Scratch space of this run."""

    @property
    def spec(self) -> Table:
        return self.shop.table(self.table)

    @property
    def columns(self) -> list[str]:
        return list(self.spec.columns)

    @property
    def order(self) -> list[str]:
        """The one total order of a raw partition."""
        return list(dict.fromkeys(["known_at", "event_time", *self.columns]))

    def example(self, rows: pa.Table) -> dict[str, Any]:
        """The first row's source values, without customers' ids."""
        open_columns = [name for name in self.columns if name not in self.shop.identity_columns]
        return dict(rows.select(open_columns).slice(0, 1).to_pylist()[0])


@one_at_a_time
def extract(  # noqa: PLR0913 - the window has two ends
    lake: Lake, shop: Shop, table: str, *, since: datetime, until: datetime, observed_at: datetime | None = None
) -> TableReport:
    """Write the source rows whose `known_at` falls in [since, until) to raw partitions.

    Nothing comes into place unless all of it could be written. The same interval run again leaves
    the same bytes; a row once extracted keeps its first `known_at`.

    Args:
        lake: where to.
        shop: where from.
        table: a table of the shop.
        since: local midnight.
        until: a later local midnight.
        observed_at: look the interval over again; rows that raw does not have arrive now, as
            late corrections known at this instant.

    Raises:
        SourceMissing, CorruptFile, SchemaMismatch: the source cannot be used.
        SourceChanged: an extracted day has other rows now, and `observed_at` was not given.
        NoWindow: the window is not whole business days.
        RowsLost: the rows written and left out are not those that the source gave.
        RawLetGo: retention has let go raw days of the interval, or of the overlap before it.
        OutOfSpace: the disk is full.
    """
    days = shop.whole_days(since, until)
    _need_raw(lake, shop, table, shop.business_day(since - shop.table(table).known_at.overlap), days[-1])
    with staging() as (con, folder), writing(lake) as out:
        source = open_source(shop.table(table), folder)
        wrong = misfits(shop.table(table), source)
        if wrong:
            raise SchemaMismatch(
                f"the source of {shop.name}.{table}: {'; '.join(wrong)}. Correct the export, or tables.{table}.columns "
                f"in shops/{shop.name}.yaml (and then its mapping)"
            )
        job = _Job(lake, shop, table, source.digest(), con, folder)
        rows, counted, other_days = _staged(job, source, since, until)
        if observed_at is not None:
            found, written, new = _add_corrections(job, rows, out, days[0], observed_at)
        else:
            found, written, new = _write_history(job, rows, out)
        if found + counted.repeats + other_days != counted.read:
            raise RowsLost(
                f"the source of {shop.name}.{table} gave {counted.read:,} rows, and {found:,} of the interval, "
                f"{counted.repeats:,} repeats and {other_days:,} of other days were found; nothing was written, run it "
                "again when the source is at rest"
            )
    if observed_at is None:
        there = {each.ds for each in manifests(lake, "raw", table, days[0], days[-1]) if each.history}
        note_quiet(lake, table, [day for day in days if day not in there])
    return TableReport(
        table=table,
        since=since,
        until=until,
        rows=found,
        days=written,
        new_rows=new,
        read=counted.read,
        repeats=counted.repeats,
        other_days=other_days,
        outside_history=counted.outside_history,
        outside_history_example=counted.strange,
        source_digest=job.digest,
    )


def _need_raw(lake: Lake, shop: Shop, table: str, first: date, last: date) -> None:
    """RawLetGo when retention has let go days from `first` to `last`: nobody can tell which rows they had."""
    gone = [day for day in let_go(lake, "raw", table) if first <= day <= last]
    if gone:
        raise RawLetGo(
            f"{shop.name}.{table} needs its raw days {first} to {last} to tell which rows are new, and {len(gone)} of "
            f"them, {gone[0]} to {gone[-1]}, were let go after MERCATO_KEEP_RAW_DAYS; begin later (overlap: "
            f"{shop.table(table).known_at.overlap}), or delete the folders of these days in {lake.table('raw', table)} "
            "to load them as the source has them now, without the known_at that they had"
        )


def misfits(spec: Table, source: Adapter) -> list[str]:
    """What the source has otherwise than the table's `columns` state; a source of text fits any type."""
    stated, found = spec.columns, source.schema()
    wrong = [
        f"column {name!r} has a name that raw/ needs for itself; rename it in the export, or select it as another"
        for name, reads in (("event_time", spec.event_time.timestamp), ("known_at", ""))
        if name in stated and reads != name
    ]
    wrong += [f"unknown column {name!r} ({found.field(name).type})" for name in found.names if name not in stated]
    wrong += [f"missing column {name!r} ({stated[name]})" for name in stated if name not in found.names]
    wrong += [
        f"column {name!r} is {found.field(name).type}, need {stated[name]}"
        for name in stated
        if name in found.names and not source.text and not _FITS[stated[name]](found.field(name).type)
    ]
    return wrong


def _staged(job: _Job, source: Adapter, since: datetime, until: datetime) -> tuple[Any, Counted, int]:
    """(rows known in [since, until), count of all that the source gave, how many of them are of other days).

    The rows have the source's columns plus `event_time` and `known_at`. SchemaMismatch when one has no time.
    """
    spec = job.spec
    overlap = since - spec.known_at.overlap
    rows = source.relation(job.con, job.shop.window()[0] if spec.changes else overlap, until).select(*job.columns)
    if spec.event_time.lookup:
        told = _looked_up(job, until)
        rows = rows.left_join(told, spec.event_time.by).select(*job.columns, spec.event_time.timestamp)
    rows = _known(job, _dated(job, rows))
    rows = rows.mutate(_repeat=_repeats(rows, spec) if spec.changes else ibis.literal(False))
    begin, end = job.shop.window()
    counted = Counted(overlap, until, (begin, max(end, until)))
    rows = counted.keep(job.con, rows, rows["_repeat"])
    rows = job.con.create_table("staged", rows.select(*dict.fromkeys([*job.columns, "event_time", "known_at"])))
    undated = rows.filter(microseconds(_.known_at).isnull())  # an infinite one is none either
    count = _count(undated)
    if count:
        example = job.example(undated.select(*job.columns).limit(1).to_pyarrow())
        raise SchemaMismatch(
            f"{count:,} rows of {job.shop.name}.{job.table} have no event time or none at which they were known, "
            f"e.g. {example}; correct the source or the rules `event_time` and `known_at` in shops/{job.shop.name}.yaml"
        )
    other_days = counted.read - counted.repeats - counted.kept
    if not spec.known_at.overlap:
        return rows, counted, other_days
    early = rows.filter(_.known_at < since)
    late = job.con.create_table("late", _late(job, early, since))
    other_days += _count(early) - _count(late)
    return rows.filter(_.known_at >= since).union(late), counted, other_days


def _count(rows: Any) -> int:
    return int(rows.count().to_pyarrow().as_py())


def _looked_up(job: _Job, until: datetime) -> Any:
    """The time of each value of `by` in the other table; SchemaMismatch when a value has two."""
    rule = job.spec.event_time
    other = open_source(job.shop.table(rule.lookup), job.folder)
    begin, end = job.shop.window()
    rows = other.relation(job.con, begin, max(end, until))
    told = job.con.create_table("looked_up", rows.select(rule.by, rule.timestamp).distinct())
    times = (
        told.filter(told[rule.by].notnull()).group_by(rule.by).agg(n=_.count(), found=told[rule.timestamp].collect())
    )
    twice = times.filter(_.n > 1).order_by(rule.by)
    count = _count(twice)
    if count:
        first = twice.limit(1).to_pyarrow().to_pylist()[0]
        found = ", ".join(sorted(str(each) for each in first["found"]))
        raise SchemaMismatch(
            f"{job.shop.name}.{rule.lookup} has several {rule.timestamp} for {count:,} of its {rule.by}, e.g. "
            f"{found} for {first[rule.by]!r}; {job.table} reads its event time there and needs one: correct "
            f"{rule.lookup}, or `event_time` of {job.table} in shops/{job.shop.name}.yaml"
        )
    return told


def _late(job: _Job, early: Any, since: datetime) -> Any:
    """Rows of the overlap that days which were extracted lack: seen first from `since` on, and so known from then."""
    first, last = job.shop.business_day(since - job.spec.known_at.overlap), job.shop.business_day(since - _TICK)
    extracted = {each.ds for each in manifests(job.lake, "raw", job.table, first, last) if each.history}
    extracted |= {day for day in quiet_days(job.lake, job.table) if first <= day <= last}
    bounds = [job.shop.day_bounds(day) for day in sorted(extracted)]
    inside = [(early.known_at >= start) & (early.known_at < end) for start, end in bounds]
    unseen = _unseen(job, early.filter(ibis.or_(ibis.literal(False), *inside)), first, last)
    return unseen.mutate(known_at=ibis.literal(since, UTC_TIME))


def _known(job: _Job, rows: Any) -> Any:
    """`rows` plus `known_at`."""
    rule = job.spec.known_at
    if rule.column:
        read = partial(timestamp, column=rule.column, zone=rule.zone, form=rule.format)
        return _told(job, rows, rule.column if rule.zone != "UTC" else "", "known_at", read)
    return rows.mutate(known_at=later(rows.event_time, rule.delay))


def _repeats(rows: Any, spec: Table) -> Any:
    """Whether each row changes nothing; what the shop rejects is compared apart, so that it makes no versions."""
    assert spec.changes is not None  # noqa: S101 - asked by the caller
    noise = ibis.or_(ibis.literal(False), *rejected(rows, spec).values())
    before = ibis.window(group_by=[rows[spec.changes.of], noise], order_by=["event_time", *spec.columns])
    same = [rows[name].identical_to(rows[name].lag().over(before)) for name in spec.changes.columns]
    return ibis.and_(*same) & (ibis.row_number().over(before) > 0)


def _dated(job: _Job, rows: Any) -> Any:
    """`rows` plus `event_time`."""
    rule = job.spec.event_time
    read = partial(event_time, shop=job.shop, rule=rule)
    local = rule.week or (rule.timestamp if rule.zone != "UTC" else "")
    return _told(job, rows, local, "event_time", read)


def _told(job: _Job, rows: Any, column: str, name: str, instant: Callable[[Any], Any]) -> Any:
    """`rows` plus `name`; a `column` of local times is converted once per distinct value, it is slow per row."""
    if not column:
        return rows.mutate(**{name: instant(rows)})
    values = rows.select(column).distinct()
    values = values.mutate(_at=instant(values)).filter(_["_at"].notnull())
    told = job.con.create_table(ibis.util.gen_name("told"), values, temp=True)
    return rows.left_join(told, column).select(*rows.columns, "_at").mutate(**{name: _["_at"]}).drop("_at")


def _write_history(job: _Job, rows: Any, out: Partitions) -> tuple[int, int, int]:
    """(rows, partitions, new rows) of a plain extraction."""
    counts = _rows_per_day(job.shop, rows)
    there = manifests(job.lake, "raw", job.table)
    other_rule = any(each.inputs.get("known_at") != _rule(job.spec) for each in there if each.history)
    new, quiet = 0, quiet_days(job.lake, job.table)
    for chunk in chunks(counts):
        since, until = job.shop.day_start(chunk[0]), job.shop.day_bounds(chunk[-1])[1]
        frame = by_known_at(rows.filter(_.known_at >= since, _.known_at < until).to_pyarrow())
        parts = [(day, _not_taken(job, there, day, part)) for day, part in split_by_day(job.shop, frame, chunk)]
        for day, part, data in each_day(partial(_encoded, job), parts):
            new += _write_day(job, out, day, part, data, quiet=day in quiet, look_everywhere=other_rule)
    return sum(counts.values()), len(counts), new


def _not_taken(job: _Job, there: list[Manifest], day: date, part: pa.Table) -> pa.Table:
    """A day that was not extracted yet, without the rows that later days hold already: as late ones or corrections."""
    if any(each.ds == day for each in there):
        return part
    end = job.shop.day_bounds(day)[1]
    # Nothing is known before it happens: a partition of later events only has none of this day's rows.
    later = [each.ds for each in there if each.ds > day and each.event_time_min and each.event_time_min < end]
    return _unseen(job, ibis.memtable(part), min(later), max(later)).to_pyarrow() if later and part.num_rows else part


def _encoded(job: _Job, day: date, rows: pa.Table) -> tuple[date, pa.Table, bytes]:
    part = in_order(rows, job.order)
    return day, part, encode(part)


def _write_day(  # noqa: PLR0913 - a day's rows and their bytes
    job: _Job, out: Partitions, day: date, part: pa.Table, data: bytes, *, quiet: bool, look_everywhere: bool
) -> int:
    """Rows of one day that raw did not have; the partition is written unless it holds them already."""
    fresh = _manifest(job, day, part, data)
    there = manifest(job.lake, "raw", job.table, day.isoformat())
    if there is None and not quiet and not look_everywhere:
        out.put(data, fresh)
        return int(part.num_rows)
    if there is not None and there.sha256 == fresh.sha256 and there.history:
        out.put(data, there)
        return 0
    return _reconcile(job, out, day, part, there, extracted=quiet or (there is not None and there.history))


def _reconcile(  # noqa: PLR0913 - a day's rows, those that are there, and whether these are all
    job: _Job, out: Partitions, day: date, part: pa.Table, there: Manifest | None, *, extracted: bool
) -> int:
    """Rows of `part` that no raw partition holds, added to a day that was not extracted whole before."""
    unseen = _unseen(job, ibis.memtable(part), job.shop.history.since)
    missing = in_order(unseen.to_pyarrow(), job.order)
    # Our own log only grows and tells the time itself: a day first looked at before it was over is completed.
    if missing.num_rows and extracted and not isinstance(job.spec.source, EventLog):
        raise SourceChanged(
            f"{job.shop.name}.{job.table} has {missing.num_rows:,} rows on {day} that were not there when the day was "
            f"extracted, e.g. {job.example(missing)}; run it with --look-again (look_again: true in the DAG's "
            "params) to take them in as known from now on, or state how late rows may come as known_at.overlap in "
            f"shops/{job.shop.name}.yaml"
        )
    if missing.num_rows or there is not None:
        _merge(job, out, day, missing, history=True)
    return int(missing.num_rows)


def _add_corrections(job: _Job, rows: Any, out: Partitions, first: date, observed_at: datetime) -> tuple[int, int, int]:
    """(rows looked over, partitions written, new rows): unseen rows go to the day of `observed_at`."""
    found = _count(rows)
    unseen = _unseen(job, rows, first).mutate(known_at=ibis.literal(observed_at, "timestamp('UTC')"))
    missing = in_order(unseen.to_pyarrow(), job.order)
    day = job.shop.business_day(observed_at)
    there = manifest(job.lake, "raw", job.table, day.isoformat())
    if not missing.num_rows:
        if there is not None:  # a kill may have left it between its files
            out.put(Path(part_path(job.lake, there, verify=True)).read_bytes(), there)
        return found, 0, 0
    _merge(job, out, day, missing, history=there is not None and there.history)
    return found, 1, int(missing.num_rows)


def _unseen(job: _Job, rows: Any, first: date, last: date | None = None) -> Any:
    """Rows of which raw has none with the same source columns, in any partition from `first` on (to `last`).

    Where lines add up, a partition from before a column was declared is asked for the others only: a line that has
    got a value in the new column since is the same line, not one more.
    """
    there = manifests(job.lake, "raw", job.table, first, last)
    held: dict[tuple[str, ...], list[str]] = {}
    for path in (part_path(job.lake, each) for each in there):
        names = set(pq.read_schema(path).names) if job.spec.sums else set(job.columns)
        held.setdefault(tuple(name for name in job.columns if name in names), []).append(path)
    for columns, paths in held.items():
        raw = read_raw(job.con, paths, job.spec.columns)
        kinds = {name: _common(rows[name].type(), raw[name].type(), job.spec.columns[name]) for name in columns}
        values, others = (each.select(**{n: _as(each[n], kind) for n, kind in kinds.items()}) for each in (rows, raw))
        same = values.difference(others)
        matches = [_as(rows[name], kind).identical_to(same[name]) for name, kind in kinds.items()]
        rows = rows.semi_join(same, matches)
    return rows


def _common(new: Any, held: Any, stated: str) -> Any:
    """The type in which values of a column are compared: where it differs, numbers as fractions."""
    return TYPES["number"] if new != held and stated == "number" else new


def _as(value: Any, kind: Any) -> Any:
    return value if value.type() == kind else value.try_cast(kind)


def _merge(job: _Job, out: Partitions, day: date, more: pa.Table, *, history: bool) -> None:
    """Write a day's partition as what it holds plus `more`."""
    there = manifest(job.lake, "raw", job.table, day.isoformat())
    if there is not None:
        old = job.con.read_parquet(part_path(job.lake, there, verify=True), hive_partitioning=False).to_pyarrow()
        more = in_order(pa.concat_tables([old, more], promote_options="permissive"), job.order)
    data = encode(more)
    out.put(data, _manifest(job, day, more, data).model_copy(update={"history": history}))


def _manifest(job: _Job, day: date, part: pa.Table, data: bytes) -> Manifest:
    inputs = {"source": job.digest, "known_at": _rule(job.spec)}
    return describe(
        part, data, table=job.table, layer="raw", ds=day, contract=load_contract(job.table).label, inputs=inputs
    )


def _rule(spec: Table) -> str:
    if spec.known_at.column:
        return f"column {spec.known_at.column}"
    return f"event_time + {int(spec.known_at.delay.total_seconds())} s"


def _rows_per_day(shop: Shop, rows: Any) -> dict[date, int]:
    """Business day of `known_at` -> rows, ascending."""
    quarter = (rows.known_at.epoch_seconds() // _QUARTER).cast("int64")
    counted = rows.group_by(quarter=quarter).agg(n=_.count()).order_by("quarter").to_pyarrow()
    days: dict[date, int] = {}
    for start, n in zip(counted["quarter"].to_pylist(), counted["n"].to_pylist(), strict=True):
        day = shop.business_day(_EPOCH + timedelta(seconds=start * _QUARTER))
        days[day] = days.get(day, 0) + n
    return days


_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
