"""A version of a dataset: rows with their split, what was set aside, manifest and report, named by their content."""

import hashlib
import json
import re
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import ibis
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from data_contracts.checks import BROKEN, WARNED, mark_rows
from data_contracts.contract import Contract
from data_contracts.lake import arrow_schema, connect, snapshot_digest
from data_contracts.partitions import encode, manifests, out_of_space
from mercato.paths import Lake, canonical_json, sha256_file
from training.annotation.batches import BATCH
from training.clean import CONFLICT, references
from training.datasets import report
from training.datasets.builder import SPLIT, SPLITS, Builder, Inputs
from training.datasets.splits import check_leakage, with_splits
from training.judging import EXAMPLES, Tally, alarms, judge

AFTER = "after_the_end"
"""Rule of every dataset: a row happened, and was known, before the dataset's end."""


class Part(BaseModel):
    """One split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    since: datetime | None = None
    until: datetime | None = None
    """Its first and last event."""


class DatasetManifest(BaseModel):
    """`manifest.json` of a version; rows read = `rows` + `set_aside` + `duplicates` + `between_splits`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: str
    """`v-` and 16 hex digits: contract, window, content and rule of splitting."""
    contract: str
    split: str
    cuts: list[datetime]
    """When validation and test begin, where split by time."""
    since: datetime
    until: datetime
    inputs: dict[str, str]
    """Clean table, file, or annotated batch -> digest of what was read."""
    read: int
    rows: int
    set_aside: int
    """Rows that broke a row rule; they are in `set_aside.parquet`."""
    duplicates: int
    between_splits: int
    """Rows that happened before a split's end and became known after it."""
    broken: dict[str, int]
    warned: dict[str, int]
    splits: dict[str, Part]
    measured: dict[str, float]
    """Table rule -> value found."""
    alarms: tuple[str, ...]
    leakage: dict[str, str]
    """What was checked -> what was found."""
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class _Sorted:
    good: pd.DataFrame
    bad: pa.Table
    tally: Tally
    duplicates: int


def build(builder: Builder, given: Inputs) -> DatasetManifest:
    """Write a version of a dataset; the same inputs make the same version with the same bytes.

    Raises:
        LeakageFound, TableRuleBroken: with examples; nothing was written.
        SourceMissing: a table that it reads is not clean yet.
    """
    contract = builder.contract
    rows = builder.rows(given).select([column.name for column in contract.columns]).cast(arrow_schema(contract))
    sorted_out = _sorted_out(rows, contract, given)
    split, cuts = with_splits(sorted_out.good, builder, given.shop)
    placed = split[split[SPLIT].notna()]
    leakage = check_leakage(placed, builder, contract, cuts, given.until)
    found = judge(contract, sorted_out.tally, (given.until - given.since).days, None)
    order = ["event_time", *contract.key]
    schema = pa.schema([*arrow_schema(contract), pa.field(SPLIT, pa.string())])
    table = pa.Table.from_pandas(placed.sort_values(order), schema=schema, preserve_index=False)
    table = table.replace_schema_metadata(None)
    data = encode(table)
    sha = hashlib.sha256(data).hexdigest()
    said = {
        "contract": contract.label,
        "since": given.since.isoformat(),
        "until": given.until.isoformat(),
        "sha256": sha,
        "split": builder.split,
        "shares": builder.shares,
    }
    tally = sorted_out.tally
    manifest = DatasetManifest(
        name=builder.name,
        version=f"v-{hashlib.sha256(canonical_json(said)).hexdigest()[:16]}",
        contract=contract.label,
        split=builder.split,
        cuts=cuts,
        since=given.since,
        until=given.until,
        inputs=_inputs(builder, given),
        read=rows.num_rows,
        rows=table.num_rows,
        set_aside=sorted_out.bad.num_rows,
        duplicates=sorted_out.duplicates,
        between_splits=len(split) - len(placed),
        broken=dict(sorted(tally.broken.items())),
        warned=dict(sorted(tally.warned.items())),
        splits={name: _part(placed[placed[SPLIT] == name]) for name in SPLITS},
        measured={each.rule.name: each.value for each in found},
        alarms=alarms(found),
        leakage=leakage,
        sha256=sha,
        bytes=len(data),
    )
    kept = manifest.rows + manifest.set_aside + manifest.duplicates + manifest.between_splits
    assert manifest.read == kept, f"rows lost in {builder.name}: {manifest}"  # noqa: S101
    page = report.page(manifest, contract, table, found, tally)
    _write(given.lake, manifest, data, encode(sorted_out.bad), page)
    return manifest


def versions(lake: Lake, name: str) -> list[DatasetManifest]:
    """Every version of a dataset, by its end; of one end by when they were built, as far as the lake knows."""
    paths = [str(path) for path in lake.fs.glob(lake.path("datasets", name, "v-*", "manifest.json"))]
    found = [(DatasetManifest.model_validate_json(lake.read_bytes(path)), _put(lake, path)) for path in paths]
    return [each for each, _ in sorted(found, key=lambda each: (each[0].until, each[1], each[0].version))]


def of_annotations(made: DatasetManifest) -> bool:
    """Whether it was made of batches of annotations, not of a file or of clean tables."""
    return bool(made.inputs) and all(re.fullmatch(BATCH, name) for name in made.inputs)


def _put(lake: Lake, path: str) -> float:
    """When a file was put in place, in seconds; 0 where the filesystem keeps no time."""
    try:
        return float(lake.fs.modified(path).timestamp())
    except NotImplementedError:
        return 0.0


def folder(lake: Lake, name: str, version: str) -> str:
    """Where the files of a version lie: rows.parquet, set_aside.parquet, manifest.json, report.html."""
    return lake.path("datasets", name, version)


def _sorted_out(rows: pa.Table, contract: Contract, given: Inputs) -> _Sorted:
    """Rows that hold, each key once; rows that do not; repeats removed."""
    con = connect()
    held = con.create_table("held", ibis.memtable(rows))
    late = (held.event_time >= given.until) | (held.known_at >= given.until)
    marked = mark_rows(held, contract, {AFTER: late}).to_pyarrow()
    names = [column.name for column in contract.columns]
    order = dict.fromkeys([*contract.key, "known_at", "event_time", *names])
    frame = marked.sort_by([(name, "ascending") for name in order]).to_pandas()
    holds = frame[BROKEN] == ""
    repeats = holds & frame[holds].duplicated(names, keep="first").reindex(frame.index, fill_value=False)
    alone = holds & ~repeats
    fights = alone & frame[alone].duplicated(list(contract.key), keep=False).reindex(frame.index, fill_value=False)
    frame.loc[fights, BROKEN] = CONFLICT
    good, bad = frame[alone & ~fights], frame[(frame[BROKEN] != "") & ~repeats]
    schema = pa.schema([*arrow_schema(contract), (BROKEN, pa.string())])
    set_aside = pa.Table.from_pandas(bad[[*names, BROKEN]], schema=schema, preserve_index=False)
    set_aside = set_aside.replace_schema_metadata(None)
    tally = Tally(raw=rows.num_rows, duplicates=int(repeats.sum()))
    open_names = [column.name for column in contract.columns if column.classification != "confidential"]
    first = set_aside.select(open_names).slice(0, EXAMPLES).to_pylist()
    texts = pa.array([json.dumps(row, default=str, ensure_ascii=False) for row in first], pa.string())
    shown = pa.chunked_array([texts, pa.nulls(set_aside.num_rows - len(texts), pa.string())])
    schema = pa.schema([*arrow_schema(contract), (WARNED, pa.string())])
    passed = pa.Table.from_pandas(good[[*names, WARNED]], schema=schema, preserve_index=False)
    tally.count(contract, passed, set_aside.append_column("source_row", shown), references(given.lake, con, contract))
    return _Sorted(good[names], set_aside, tally, int(repeats.sum()))


def _inputs(builder: Builder, given: Inputs) -> dict[str, str]:
    if given.file is not None:
        return {given.file.name: sha256_file(given.file)}
    return builder.digests(given) | {
        table: snapshot_digest(given.lake, table, event_before=given.until, known_before=given.until)
        for table in builder.reads
        if manifests(given.lake, "clean", table)
    }


def _part(rows: pd.DataFrame) -> Part:
    if rows.empty:
        return Part(rows=0)
    times = rows["event_time"]
    return Part(rows=len(rows), since=times.min().to_pydatetime(), until=times.max().to_pydatetime())


def _write(lake: Lake, manifest: DatasetManifest, data: bytes, set_aside: bytes, page: str) -> None:
    """All files of a version; the manifest comes into place last and vouches for the others."""
    home = folder(lake, manifest.name, manifest.version)
    files = {
        "manifest.json": (manifest.model_dump_json(indent=1) + "\n").encode(),
        "report.html": page.encode(),
        "set_aside.parquet": set_aside,
        "rows.parquet": data,
    }
    with out_of_space(lake.root), ExitStack() as stack:
        for name, content in files.items():
            stack.enter_context(lake.writing(f"{home}/{name}")).write_bytes(content)


def newest(lake: Lake, name: str, *, until: datetime, version: str = "") -> DatasetManifest | None:
    """The newest version made as of `until` or before (or that version, if it is there), or None."""
    fitting = [each for each in versions(lake, name) if each.until <= until and version in ("", each.version)]
    return fitting[-1] if fitting else None


def rows_of(lake: Lake, made: DatasetManifest) -> pa.Table:
    """The rows of a version, with their split."""
    import pyarrow.parquet as pq

    return pq.read_table(lake.local(f"{folder(lake, made.name, made.version)}/rows.parquet"), partitioning=None)


def newest_rows(lake: Lake, name: str, *, until: datetime, split: str = "") -> Any:
    """The Arrow rows of the newest version made as of `until` or before (of one split), or None."""
    made = newest(lake, name, until=until)
    if made is None:
        return None
    rows = rows_of(lake, made)
    return rows.filter(pc.equal(rows[SPLIT], split)) if split else rows
