"""Snapshots into the lake: one Parquet file per view and T, the same bytes each time."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import Final
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.lake import as_of
from feature_repo.errors import NoSnapshot, SnapshotMismatch
from feature_repo.views import TIMESTAMP, VIEWS, View
from mercato.paths import Lake, sha256_file

LAYER: Final = "features"
_SCALARS: Final = {"String": pa.string(), "Int64": pa.int64(), "Float32": pa.float32()}
_ROW_GROUP: Final = 65_536


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One written snapshot."""

    view: str
    at: datetime
    """T: nothing that happened or became known at or after it is inside."""
    rows: int
    sha256: str
    path: str
    """Its file."""


def arrow_type(spelled: str) -> pa.DataType:
    """The Arrow type of a Feast type."""
    if spelled.startswith("Array("):
        return pa.list_(_SCALARS[spelled.removeprefix("Array(").removesuffix(")")])
    return _SCALARS[spelled]


def arrow_schema(view: View) -> pa.Schema:
    """Columns of the view's files: key, features, `event_timestamp` (microseconds, UTC; Feast's DuckDB needs these)."""
    features = [pa.field(name, arrow_type(spelled)) for name, spelled in view.columns.items()]
    return pa.schema([pa.field(view.key, pa.string()), *features, pa.field(TIMESTAMP, pa.timestamp("us", tz="UTC"))])


def write_snapshots(lake: Lake, at: datetime, *, zone: ZoneInfo, views: Iterable[str] = tuple(VIEWS)) -> list[Snapshot]:
    """The snapshots written for T = `at`, each computed from `as_of(T, T)` and put in place whole.

    Args:
        lake: the shop's lake.
        at: T, the first instant of a business day.
        zone: the shop's zone; the partition is the day that begins at T.
        views: names of views.

    Raises:
        SnapshotMismatch: T is not a midnight of the shop, a table lacks a column, or a key comes twice.
    """
    local = at.astimezone(zone)
    if local.time() != time(0):
        raise SnapshotMismatch(f"found the snapshot time {local.isoformat()}, need midnight in {zone.key}: pass a day's start")
    return [_write(lake, VIEWS[name], at.astimezone(UTC), local.date().isoformat()) for name in views]


def _write(lake: Lake, view: View, at: datetime, ds: str) -> Snapshot:
    frame = compute(lake, view, at)
    folder = lake.partition(LAYER, view.name, ds)
    path = f"{folder}/part.parquet"
    with lake.writing(path) as aside:
        pq.write_table(frame, aside, compression="zstd", row_group_size=_ROW_GROUP)
        digest = sha256_file(aside)
    body = {"rows": frame.num_rows, "sha256": digest, TIMESTAMP: at.isoformat(), "contracts": list(view.reads)}
    lake.write_json(f"{folder}/manifest.json", body)
    return Snapshot(view.name, at, frame.num_rows, digest, path)


def compute(lake: Lake, view: View, at: datetime) -> pa.Table:
    """The snapshot of one view at T as an Arrow table in `arrow_schema`, ordered by key."""
    tables = [as_of(lake, name, event_before=at, known_before=at) for name in view.reads]
    try:
        found = view.compute(*tables, at).to_pyarrow()
    except AttributeError as error:  # Ibis: 'Table' object has no attribute 'column'
        have = {name: list(table.columns) for name, table in zip(view.reads, tables, strict=True)}
        raise SnapshotMismatch(
            f"cannot compute {view.name}: {error}; found the columns {have}: extract and clean these tables again"
        ) from error
    frame = conform(found, view, where=f"the computed {view.name}")
    keys = frame.column(view.key)
    if frame.num_rows != len(keys.unique()):
        raise SnapshotMismatch(
            f"found {frame.num_rows} rows for {len(keys.unique())} values of {view.key} in {view.name}, need one each"
        )
    return frame


def conform(table: pa.Table, view: View, *, where: str) -> pa.Table:
    """`table` with exactly the view's columns and types.

    Raises:
        SnapshotMismatch: a column is missing, or its values do not fit the declared type.
    """
    schema = arrow_schema(view)
    check_columns(table.schema, view, where=where)
    try:
        return table.select(schema.names).cast(schema).combine_chunks()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise SnapshotMismatch(f"{where} does not fit its declared types: {error}") from error


def check_columns(found: pa.Schema, view: View, *, where: str) -> None:
    """Nothing, when every column of the view is there with its type.

    Raises:
        SnapshotMismatch: names each column that is missing or of another type.
    """
    wrong = []
    for field in arrow_schema(view):
        position = found.get_field_index(field.name)
        if position < 0:
            wrong.append(f"{field.name} is missing (need {field.type})")
        elif not _same(found.field(position).type, field.type):
            wrong.append(f"{field.name} is {found.field(position).type} (need {field.type})")
    if wrong:
        raise SnapshotMismatch(f"{where}: {'; '.join(wrong)}. Write the snapshot again with materialize_features")


def _same(found: pa.DataType, needed: pa.DataType) -> bool:
    """Whether two types hold the same values; list items may carry another name, strings another offset width."""
    if pa.types.is_list(needed):
        return (pa.types.is_list(found) or pa.types.is_large_list(found)) and _same(found.value_type, needed.value_type)
    if pa.types.is_string(needed):
        return bool(pa.types.is_string(found) or pa.types.is_large_string(found))
    return bool(found.equals(needed))


def written(lake: Lake, view: str) -> list[Snapshot]:
    """The finished snapshots of a view, oldest first."""
    found = []
    for ds in lake.days(LAYER, view):
        folder = lake.partition(LAYER, view, ds)
        body = lake.read_json(f"{folder}/manifest.json")
        at = datetime.fromisoformat(body[TIMESTAMP])
        found.append(Snapshot(view, at, body["rows"], body["sha256"], f"{folder}/part.parquet"))
    return sorted(found, key=lambda snapshot: snapshot.at)


def check_files(lake: Lake, view: View) -> list[Snapshot]:
    """The finished snapshots of a view, after the schema of each file was held against the view.

    DuckDB reads all partitions as one table with the first file's columns: one written before
    the view changed would fail there without naming the day.

    Raises:
        NoSnapshot: there is none yet.
        SnapshotMismatch: names the day and the columns.
    """
    snapshots = written(lake, view.name)
    if not snapshots:
        raise NoSnapshot(f"found no snapshot of {view.name} in {lake.table(LAYER, view.name)}: run materialize_features")
    for snapshot in snapshots:
        check_columns(_footer(lake, snapshot.path), view, where=f"{view.name} at {snapshot.at.isoformat()}")
    return snapshots


def _footer(lake: Lake, path: str) -> pa.Schema:
    try:
        with lake.fs.open(path, "rb") as handle:
            return pq.read_schema(handle)
    except pa.ArrowInvalid as error:
        raise SnapshotMismatch(f"cannot read the snapshot {path}: {error}; write it again with materialize_features") from error
