"""Source rows into `raw/`: the source's columns plus `event_time` and `known_at`, one partition per business day."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import duckdb
import ibis
import numpy as np
import pyarrow as pa
import pyarrow.types as pt
from ibis import _

from data_contracts.contract import load_contract
from data_contracts.errors import SchemaMismatch
from data_contracts.lake import connect
from data_contracts.partitions import (
    Manifest,
    OutOfSpace,
    Partitions,
    describe,
    encode,
    manifest,
    manifests,
    part_path,
    writing,
)
from data_contracts.shop import Shop, Table
from mercato.paths import Lake
from training.adapters import Adapter, open_source
from training.errors import SourceChanged
from training.moments import event_time

CHUNK_ROWS = 1_000_000
"""Rows brought into memory at once; a single day may have more."""
_NO_SPACE = ("No space left", "File too large", "Disk quota exceeded")
"""How DuckDB passes on the system's refusal."""
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
    """What an extraction left in `raw/`."""

    table: str
    since: datetime
    until: datetime
    rows: int
    """Rows of the source in the interval."""
    days: int
    """Partitions that hold them."""
    new_rows: int
    """Rows that raw did not have before."""
    source_digest: str


@dataclass(frozen=True, slots=True)
class _Job:
    lake: Lake
    shop: Shop
    table: str
    digest: str
    con: Any

    @property
    def spec(self) -> Table:
        return self.shop.table(self.table)

    @property
    def columns(self) -> list[str]:
        return list(self.spec.columns)

    def raw(self, first: date) -> Any | None:
        """All raw rows from the partition `first` on, or None."""
        there = manifests(self.lake, "raw", self.table, first)
        paths = [part_path(self.lake, each) for each in there]
        return self.con.read_parquet(paths, hive_partitioning=False) if paths else None


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
        OutOfSpace: the disk is full.
    """
    days = shop.whole_days(since, until)
    source = open_source(shop.table(table).source)
    _check_schema(shop, table, source.schema())
    with staging() as con, writing(lake) as out:
        job = _Job(lake, shop, table, source.digest(), con)
        rows = _staged(job, source, since, until)
        if observed_at is not None:
            found, written, new = _add_corrections(job, rows, out, days[0], observed_at)
        else:
            found, written, new = _write_history(job, rows, out)
    return TableReport(table, since, until, found, written, new, job.digest)


@contextmanager
def staging() -> Iterator[Any]:
    """A DuckDB file for the rows of one run: compressed, and pruned by time when a chunk of days is read back."""
    with tempfile.TemporaryDirectory(prefix="mercato-stage-") as folder:
        con = connect(threads=os.cpu_count() or 1, database=f"{folder}/stage.duckdb")
        try:
            yield con
        except duckdb.Error as error:
            if any(words in str(error) for words in _NO_SPACE):
                raise OutOfSpace(f"no space left in {folder}: free some, or set TMPDIR to another disk") from error
            raise
        finally:
            con.disconnect()


def _check_schema(shop: Shop, table: str, found: pa.Schema) -> None:
    """SchemaMismatch unless the source has exactly the columns and types that the shop states."""
    stated = shop.table(table).columns
    wrong = [f"unknown column {name!r} ({found.field(name).type})" for name in found.names if name not in stated]
    wrong += [f"missing column {name!r} ({stated[name]})" for name in stated if name not in found.names]
    wrong += [
        f"column {name!r} is {found.field(name).type}, need {stated[name]}"
        for name in stated
        if name in found.names and not _FITS[stated[name]](found.field(name).type)
    ]
    if wrong:
        raise SchemaMismatch(
            f"the source of {shop.name}.{table}: {'; '.join(wrong)}. Correct the export, or tables.{table}.columns "
            f"in shops/{shop.name}.yaml (and then its mapping)"
        )


def _staged(job: _Job, source: Adapter, since: datetime, until: datetime) -> Any:
    """The source's columns plus `event_time` and `known_at` of the rows known in [since, until).

    SchemaMismatch when a row has no time.
    """
    spec = job.spec
    rows = source.relation(job.con, since, until).select(*job.columns)
    if spec.event_time.lookup:
        other = open_source(job.shop.table(spec.event_time.lookup).source)
        told = other.relation(job.con, *job.shop.window())
        told = told.select(spec.event_time.by, spec.event_time.timestamp).distinct()
        rows = rows.left_join(told, spec.event_time.by).select(*job.columns, spec.event_time.timestamp)
    delay = ibis.interval(seconds=int(spec.known_at.delay.total_seconds()))
    rows = _dated(job, rows).mutate(known_at=_.event_time + delay)
    rows = rows.filter(_.event_time.isnull() | ((_.known_at >= since) & (_.known_at < until)))
    rows = job.con.create_table("staged", rows.select(*job.columns, "event_time", "known_at"))
    undated = rows.filter(_.event_time.isnull())
    count = int(undated.count().to_pyarrow().as_py())
    if count:
        example = undated.select(*job.columns).limit(1).to_pyarrow().to_pylist()[0]
        raise SchemaMismatch(
            f"{count:,} rows of {job.shop.name}.{job.table} have no event time, e.g. {example}; "
            f"correct the source or the `event_time` rule in shops/{job.shop.name}.yaml"
        )
    return rows


def _dated(job: _Job, rows: Any) -> Any:
    """`rows` plus `event_time`; a conversion from local time is done once per distinct value, it is slow per row."""
    rule = job.spec.event_time
    column = rule.week or rule.timestamp
    if not column or (rule.timestamp and rule.zone == "UTC" and not rule.format):
        return rows.mutate(event_time=event_time(rows, job.shop, rule))
    values = rows.select(column).distinct()
    values = values.mutate(event_time=event_time(values, job.shop, rule)).filter(_.event_time.notnull())
    told = job.con.create_table(ibis.util.gen_name("told"), values, temp=True)
    return rows.left_join(told, column).select(*rows.columns, "event_time")


def _write_history(job: _Job, rows: Any, out: Partitions) -> tuple[int, int, int]:
    """(rows, partitions, new rows) of a plain extraction."""
    counts = _rows_per_day(job.shop, rows)
    other_rule = any(
        each.inputs.get("known_at") != _rule(job.spec) for each in manifests(job.lake, "raw", job.table) if each.history
    )
    new = 0
    for chunk in chunks(counts):
        since, until = job.shop.day_start(chunk[0]), job.shop.day_bounds(chunk[-1])[1]
        frame = ordered(rows.filter(_.known_at >= since, _.known_at < until), job.columns)
        for day, part in split_by_day(job.shop, frame, chunk):
            new += _write_day(job, out, day, part, look_everywhere=other_rule)
    return sum(counts.values()), len(counts), new


def _write_day(job: _Job, out: Partitions, day: date, part: pa.Table, *, look_everywhere: bool) -> int:
    """Rows of one day that raw did not have; the partition is written unless it holds them already."""
    data = encode(part)
    fresh = _manifest(job, day, part, data)
    there = manifest(job.lake, "raw", job.table, day.isoformat())
    if there is None and not look_everywhere:
        out.put(data, fresh)
        return int(part.num_rows)
    if there is not None and there.sha256 == fresh.sha256 and there.history:
        out.put(data, there)
        return 0
    return _reconcile(job, out, day, part, there)


def _reconcile(job: _Job, out: Partitions, day: date, part: pa.Table, there: Manifest | None) -> int:
    """Rows of `part` that no raw partition holds, added to a day that was not extracted whole before."""
    unseen = _unseen(job, ibis.memtable(part), job.shop.history.since)
    missing = ordered(unseen, job.columns)
    if missing.num_rows and there is not None and there.history:
        raise SourceChanged(
            f"{job.shop.name}.{job.table} has {missing.num_rows:,} rows on {day} that were not there when the day was "
            f"extracted, e.g. {missing.slice(0, 1).to_pylist()[0]}; extract with observed_at to take them in as late "
            f"corrections, or delete {job.lake.table('raw', job.table)} to load the history anew"
        )
    if missing.num_rows or there is not None:
        _merge(job, out, day, missing, history=True)
    return int(missing.num_rows)


def _add_corrections(job: _Job, rows: Any, out: Partitions, first: date, observed_at: datetime) -> tuple[int, int, int]:
    """(rows looked over, partitions written, new rows): unseen rows go to the day of `observed_at`."""
    found = int(rows.count().to_pyarrow().as_py())
    unseen = _unseen(job, rows, first).mutate(known_at=ibis.literal(observed_at, "timestamp('UTC')"))
    missing = ordered(unseen, job.columns)
    if not missing.num_rows:
        return found, 0, 0
    day = job.shop.business_day(observed_at)
    there = manifest(job.lake, "raw", job.table, day.isoformat())
    _merge(job, out, day, missing, history=there is not None and there.history)
    return found, 1, int(missing.num_rows)


def _unseen(job: _Job, rows: Any, first: date) -> Any:
    """Rows of which raw has none with the same source columns, in any partition from `first` on."""
    raw = job.raw(first)
    if raw is None:
        return rows
    same = rows.select(*job.columns).difference(raw.select(*job.columns))
    matches = [rows[name].identical_to(same[name]) for name in job.columns]
    return rows.semi_join(same, matches)


def _merge(job: _Job, out: Partitions, day: date, more: pa.Table, *, history: bool) -> None:
    """Write a day's partition as what it holds plus `more`."""
    there = manifest(job.lake, "raw", job.table, day.isoformat())
    if there is not None:
        old = job.con.read_parquet(part_path(job.lake, there, verify=True), hive_partitioning=False)
        more = ordered(old.union(ibis.memtable(more)), job.columns)
    data = encode(more)
    out.put(data, _manifest(job, day, more, data).model_copy(update={"history": history}))


def _manifest(job: _Job, day: date, part: pa.Table, data: bytes) -> Manifest:
    inputs = {"source": job.digest, "known_at": _rule(job.spec)}
    return describe(
        part, data, table=job.table, layer="raw", ds=day, contract=load_contract(job.table).label, inputs=inputs
    )


def _rule(spec: Table) -> str:
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


def ordered(rows: Any, columns: list[str]) -> pa.Table:
    """The rows in the one total order of a partition: `known_at`, `event_time`, then every column."""
    return rows.order_by(["known_at", "event_time", *columns]).to_pyarrow().combine_chunks()


def chunks(counts: dict[date, int]) -> Iterator[list[date]]:
    """Consecutive days of at most CHUNK_ROWS rows together, at least one day each."""
    taken: list[date] = []
    total = 0
    for day, n in counts.items():
        if taken and total + n > CHUNK_ROWS:
            yield taken
            taken, total = [], 0
        taken.append(day)
        total += n
    if taken:
        yield taken


def split_by_day(shop: Shop, frame: pa.Table, days: list[date]) -> Iterator[tuple[date, pa.Table]]:
    """(day, its rows) of a frame sorted by `known_at`."""
    known = frame["known_at"].cast(pa.int64()).to_numpy()
    for day in days:
        since, until = (int(each.timestamp()) * 1_000_000 for each in shop.day_bounds(day))
        first, last = np.searchsorted(known, [since, until])
        yield day, frame.slice(first, last - first)
