"""Repaired rows back through the door they were turned away at: same mapping, same rules, once.

They go to `raw/` as corrections that became known at the moment of readmission, so that cleaning any
interval again keeps them, and what was believed before that moment can still be rebuilt.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_contracts.checks import BROKEN, mark_rows
from data_contracts.contract import load_contract
from data_contracts.lake import connect
from data_contracts.partitions import manifest, manifests, part_path
from data_contracts.shop import Shop
from data_contracts.sources import Files
from mercato.identity import Identity
from mercato.paths import Lake
from training.clean import CONFLICT, clean, references
from training.extract import extract
from training.judging import EXAMPLES, Tally, judge
from training.mapping import SOURCE, Customers, customer_ids, mapped
from training.quarantine import (
    ABOUT,
    CUSTOMER_KEY,
    DAY,
    ROW,
    RULES,
    originals,
    source_schema,
    write_receipt,
)
from training.raw import read_raw
from training.row_files import read_rows, typed

_AT = "_n"
"""Position of a row in its file, carried through the door beside the source's columns."""
_EARLY = date(1970, 1, 1)
CUSTOMER_GONE = "customer_not_found"
"""Reason: nobody in the day's raw rows has this customer_key (any more), so the row belongs to nobody known."""
OUT_OF_TIME = "not_known_yet"
"""Reason: by the source's own rule the row becomes known after today."""


@dataclass(frozen=True, slots=True)
class Readmission:
    """What became of a file of repaired rows; `rows` = `readmitted` + `already_there` + `still_broken`."""

    table: str
    rows: int
    readmitted: int
    already_there: int
    """Rows that raw holds with the same values, or that the file repeats."""
    still_broken: int
    reasons: dict[str, int]
    """Rule -> rows that still break it; a row that breaks two counts under both."""
    examples: list[str]
    known_at: datetime
    """When the corrections count as known."""
    clean_rows: int
    """Rows of that business day in clean/ now."""


@dataclass(frozen=True, slots=True)
class _Job:
    lake: Lake
    shop: Shop
    table: str
    identity: Identity
    at: datetime
    folder: Path
    schema: pa.Schema
    """Source columns."""
    out: dict[int, str]
    """Position of a row that stays out -> names of rules, joined by commas."""

    @property
    def until(self) -> datetime:
        """The local midnight after `at`."""
        return self.shop.day_start(self.shop.business_day(self.at) + timedelta(days=1))

    def door(self, rows: pa.Table, *more: str) -> Shop:
        """The shop, whose table is read from a file of `rows` (with `more` integer columns), every row for itself."""
        file = self.folder / f"rows{len(more)}.parquet"
        pq.write_table(rows, file)
        spec = self.shop.table(self.table)
        text = [each.name for each in rows.schema if pa.types.is_string(each.type)]  # raw keeps text as it was spelled
        columns = {**spec.columns, **dict.fromkeys(text, "string"), **dict.fromkeys(more, "integer")}
        source = Files(kind="files", path=str(file))
        known_at = spec.known_at.model_copy(update={"overlap": timedelta(0)})
        changes = {"source": source, "columns": columns, "changes": None, "known_at": known_at}
        changed = spec.model_copy(update=changes)
        return self.shop.model_copy(update={"tables": {**self.shop.tables, self.table: changed}})


def readmit(  # noqa: PLR0913 - a lake, a shop, a table, people, a file and an instant
    lake: Lake, shop: Shop, table: str, identity: Identity, file: Path, *, at: datetime
) -> Readmission:
    """Put repaired rows back, known at `at`; rows that are there already change nothing.

    Raises:
        SchemaMismatch: the file is not one of rows of this table.
        SourceMissing: nothing of this table was extracted yet.
        TableRuleBroken: the rows together break a rule over the table; nothing was written.
    """
    schema = source_schema(lake, shop, table)
    secret = shop.identity_columns & set(schema.names)
    given = read_rows(file, pa.schema([*ABOUT, *schema]), secret | set(ABOUT.names))
    with tempfile.TemporaryDirectory(prefix="mercato-repaired-") as folder:
        job = _Job(lake, shop, table, identity, at, Path(folder), schema, {})
        _refuse_unsettled(job, given)
        rows, repeats = _distinct(job, _with_customers(job, given))
        good, first = _through_the_door(job, rows) if rows.num_rows else ([], at)
        new = _into_raw(job, rows.filter(_among(rows[_AT], good)), first) if good else 0
    job.out.update({at: job.out[one] for at, one in repeats.items() if one in job.out})
    clean_rows = 0
    if good:  # also when raw had them all: a run that was killed before it cleaned is completed
        day = shop.business_day(at)
        for since, until in _to_clean(job, given.filter(_among(pa.chunked_array([range(given.num_rows)]), good)), new):
            clean(lake, shop, table, identity, since=since, until=until)
        found_clean = manifest(lake, "clean", table, day.isoformat())
        clean_rows = found_clean.rows if found_clean else 0
    reasons = Counter(name for names in job.out.values() for name in names.split(","))
    found = Readmission(
        table=table,
        rows=given.num_rows,
        readmitted=new,
        already_there=len(good) - new + len(repeats.keys() - job.out.keys()),
        still_broken=len(job.out),
        reasons=dict(sorted(reasons.items())),
        examples=_examples(given.drop(list(secret)), job.out),
        known_at=at,
        clean_rows=clean_rows,
    )
    kept = found.readmitted + found.already_there + found.still_broken
    assert found.rows == kept, f"rows lost in {file}: {found}"  # noqa: S101
    return found


def _to_clean(job: _Job, good: pa.Table, new: int) -> list[tuple[datetime, datetime]]:
    """The windows in which rows that hold lie: the day of readmission, and where raw had some before, their own days.

    Where lines add up, later totals hold the own days' too.
    """
    today = job.shop.business_day(job.at)
    there = {each.ds for each in manifests(job.lake, "raw", job.table)}
    own = {date.fromisoformat(day) for day in good[DAY].to_pylist() if day} & there if new < good.num_rows else set()
    if own and job.shop.table(job.table).sums:
        return [(job.shop.day_start(min(own)), job.until)]
    return [job.shop.day_bounds(day) for day in sorted(own | {today})]


def _refuse_unsettled(job: _Job, given: pa.Table) -> None:
    """Rows of a conflict that were not changed stay out: raw holds them already, contradicting each other."""
    fights = [CONFLICT in (rules or "").split(",") for rules in given[RULES].to_pylist()]
    days = {day for day, fight in zip(given[DAY].to_pylist(), fights, strict=True) if day and fight}
    before = originals(job.lake, job.shop, job.table, {date.fromisoformat(day) for day in days})
    names = [name for name in job.schema.names if name not in job.shop.identity_columns]
    for at, (row, fight) in enumerate(zip(given.select([ROW, *names]).to_pylist(), fights, strict=True)):
        if (
            fight
            and (old := before.get(row[ROW]))
            and all(typed([old.get(name)], job.schema.field(name).type, name)[0].as_py() == row[name] for name in names)
        ):
            job.out[at] = CONFLICT


def _with_customers(job: _Job, given: pa.Table) -> pa.Table:
    """`given` plus _AT, the shop's own customer ids filled in where `_customer_key` stands for them."""
    given = given.append_column(_AT, pa.array(range(given.num_rows), pa.int64()))
    column = next((rule.identity for rule in job.shop.table(job.table).mapping.values() if rule.identity), "")
    if not column:
        return given
    days = {date.fromisoformat(day) for day in given[DAY].to_pylist() if day}
    raw = [part_path(job.lake, each) for each in manifests(job.lake, "raw", job.table) if each.ds in days]
    stated = job.shop.table(job.table).columns[column]
    ids = customer_ids(connect(), raw, column, stated) if raw else []
    known = {job.identity.find(job.shop.name, one): one for one in ids}
    values = given[column].to_pylist()
    for at, key in enumerate(given[CUSTOMER_KEY].to_pylist()):
        if key is None or values[at] is not None:
            continue
        if key in known:
            values[at] = known[key]
        else:
            job.out[at] = CUSTOMER_GONE
    kind = given.schema.field(column).type
    return given.set_column(given.schema.get_field_index(column), column, typed(values, kind, column))


def _distinct(job: _Job, rows: pa.Table) -> tuple[pa.Table, dict[int, int]]:
    """(rows that are not out, each once; position of each repeat -> position of the row that it repeats).

    Where lines add up, equal ones that come from different quarantined rows are different lines.
    """
    rows = rows.filter(pa.array([at not in job.out for at in rows[_AT].to_pylist()], pa.bool_()))
    firsts: dict[tuple[Any, ...], int] = {}
    repeats: dict[int, int] = {}
    names = [*job.schema.names, *([ROW] if job.shop.table(job.table).sums else [])]
    contents = zip(*(rows[name].to_pylist() for name in names), strict=True)
    for at, values in zip(rows[_AT].to_pylist(), contents, strict=True):
        if (first := firsts.setdefault(values, at)) != at:
            repeats[at] = first
    return rows.filter(_among(rows[_AT], firsts.values())), repeats


def _through_the_door(job: _Job, rows: pa.Table) -> tuple[list[int], datetime]:
    """(positions of the rows that hold, their first event), after a trial in a lake of their own."""
    door = job.door(rows.select([*job.schema.names, _AT]), _AT)
    trial = Lake(fsspec.filesystem("file"), str(job.folder / "lake"), job.lake.shop)
    since = job.shop.day_start(_EARLY)
    extract(trial, door, job.table, since=since, until=job.until, observed_at=job.at)
    paths = [part_path(trial, each) for each in manifests(trial, "raw", job.table)]
    late = set(rows[_AT].to_pylist())
    if not paths:
        job.out.update(dict.fromkeys(late, OUT_OF_TIME))
        return [], job.at
    contract, con = load_contract(job.table), connect()
    customers = Customers.of(con, job.shop, job.table, job.identity, paths)
    made, rules = mapped(read_raw(con, paths, door.table(job.table).columns), door, contract, customers)
    marked = mark_rows(made, contract, rules)
    found = marked.mutate(_n=marked[SOURCE][_AT]).drop(SOURCE).to_pyarrow()
    named = dict(zip(found[_AT].to_pylist(), found[BROKEN].to_pylist(), strict=True))
    job.out.update(dict.fromkeys(late - named.keys(), OUT_OF_TIME))
    job.out.update({at: names for at, names in named.items() if names})
    if not job.shop.table(job.table).sums:
        job.out.update(_contradictions(found.filter(_among(found[_AT], named.keys() - job.out.keys())), contract.key))
    good = sorted(named.keys() - job.out.keys())
    tally = Tally(raw=len(good))
    nothing = pa.table({BROKEN: pa.array([], pa.string()), "source_row": pa.array([], pa.string())})
    kept = found.filter(_among(found[_AT], good))
    tally.count(contract, kept, nothing, references(job.lake, con, contract))
    judge(contract, tally, 1, None)
    return good, pc.min(kept["event_time"]).as_py() or job.at


def _contradictions(rows: pa.Table, key: tuple[str, ...]) -> dict[int, str]:
    """Position -> CONFLICT of rows that share a key: known at one instant, nobody could say which is right."""
    keys = list(zip(*(rows[name].to_pylist() for name in key), strict=True))
    often = Counter(keys)
    return {n: CONFLICT for n, one in zip(rows[_AT].to_pylist(), keys, strict=True) if often[one] > 1}


def _into_raw(job: _Job, rows: pa.Table, first: datetime) -> int:
    """Rows that raw did not have; a receipt names the quarantined rows that these ones repair."""
    door = job.door(rows.select(job.schema.names))
    since = job.shop.day_start(job.shop.business_day(first))
    new = extract(job.lake, door, job.table, since=since, until=job.until, observed_at=job.at).new_rows
    write_receipt(job.lake, job.table, [row for row in rows[ROW].to_pylist() if row], job.at)
    return new


def _among(column: pa.ChunkedArray, positions: Iterable[int]) -> pa.ChunkedArray:
    return pc.is_in(column, value_set=pa.array(sorted(positions), pa.int64()))


def _examples(rows: pa.Table, out: dict[int, str]) -> list[str]:
    """Some rows that stay out, with their rules."""
    said = rows.drop(ABOUT.names)
    return [f"{out[at]}: {said.slice(at, 1).to_pylist()[0]}" for at in sorted(out)[:EXAMPLES]]
