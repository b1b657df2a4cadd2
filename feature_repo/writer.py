"""Snapshots into the lake: one Parquet file per view and T, the same bytes each time."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
from ibis.common.exceptions import IbisError

from data_contracts import partitions
from data_contracts.lake import as_of, snapshot_digest
from data_contracts.shop import load_shop
from feature_repo.errors import NoSnapshot, SnapshotMismatch
from feature_repo.snapshots import SALES_COLUMNS
from feature_repo.views import TIMESTAMP, VIEWS, View, view_digest
from mercato.paths import Lake

LAYER: Final = "features"
_SCALARS: Final = {"String": pa.string(), "Int64": pa.int64(), "Float32": pa.float32()}


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


def write_snapshots(lake: Lake, at: datetime, *, views: Collection[str] = tuple(VIEWS)) -> list[Snapshot]:
    """The snapshots of T = `at`, each computed from `as_of(T, T)`; they come into place together.

    Args:
        lake: the shop's lake.
        at: T, local midnight of the shop; the partition is the business day that begins then.
        views: names of views.

    Raises:
        SnapshotMismatch: T is no midnight of the shop, a table lacks a column, or a key comes twice.
    """
    with partitions.writing(lake) as aside:
        sales = _sales(lake, at) if len(views) > 1 else {}
        return [put(lake, aside, VIEWS[name], compute(lake, VIEWS[name], at, sales), at) for name in views]


def _sales(lake: Lake, at: datetime) -> dict[str, Any]:
    """What every view reads, read once and held in memory: the transactions before T."""
    table = as_of(lake, "transactions", event_before=at, known_before=at)
    columns = [each for each in SALES_COLUMNS if each in table.columns]  # compute() says what is missing
    return {"transactions": ibis.memtable(table.select(*columns).to_pyarrow())}


def put(lake: Lake, aside: partitions.Partitions, view: View, frame: pa.Table, at: datetime) -> Snapshot:
    """The snapshot of T = `at`, written aside; `frame` has the view's `arrow_schema`."""
    shop = load_shop(lake.shop)
    ds = shop.business_day(at)
    if shop.day_start(ds) != at:
        # Two snapshots of one day would share a partition, and the second would replace the first.
        raise SnapshotMismatch(
            f"found the snapshot time {at.isoformat()}, need a midnight in {shop.zone}, e.g. {shop.day_start(ds)}"
        )
    data = partitions.encode(frame)
    manifest = partitions.Manifest(
        table=view.name,
        layer=LAYER,
        ds=ds,
        rows=frame.num_rows,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        contract=f"{view.name}@{view_digest(view)[:12]}",
        inputs={name: snapshot_digest(lake, name, event_before=at, known_before=at) for name in view.reads},
        event_time_min=at.astimezone(UTC),
        event_time_max=at.astimezone(UTC),
        keys_unique=True,
    )
    aside.put(data, manifest)
    return _snapshot(lake, manifest)


def _snapshot(lake: Lake, found: partitions.Manifest) -> Snapshot:
    path = f"{lake.partition(LAYER, found.table, found.ds.isoformat())}/part.parquet"
    if found.event_time_max is None:
        raise SnapshotMismatch(f"the manifest beside {path} states no time: run materialize_features again")
    return Snapshot(found.table, found.event_time_max, found.rows, found.sha256, path)


def compute(lake: Lake, view: View, at: datetime, read: Mapping[str, Any] | None = None) -> pa.Table:
    """The rows of one view at T as an Arrow table in `arrow_schema`, ordered by key; `read`: tables cut before."""
    read = read or {}
    tables = [
        read[name] if name in read else as_of(lake, name, event_before=at, known_before=at) for name in view.reads
    ]
    try:
        expression = view.compute(*tables, at)
    except (AttributeError, IbisError) as error:  # Ibis: 'Table' object has no attribute 'column'
        have = {name: list(table.columns) for name, table in zip(view.reads, tables, strict=True)}
        raise SnapshotMismatch(
            f"cannot compute {view.name}: {error}; found the columns {have}: extract and clean these tables again"
        ) from error
    frame = conform(expression.to_pyarrow(), view, where=f"the computed {view.name}")
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
        raise SnapshotMismatch(f"{where}: {'; '.join(wrong)}. To write it again, run materialize_features")


def _same(found: pa.DataType, needed: pa.DataType) -> bool:
    """Whether two types hold the same values; list items may carry another name, strings another offset width."""
    if pa.types.is_list(needed):
        return (pa.types.is_list(found) or pa.types.is_large_list(found)) and _same(found.value_type, needed.value_type)
    if pa.types.is_string(needed):
        return bool(pa.types.is_string(found) or pa.types.is_large_string(found))
    return bool(found.equals(needed))


def written(lake: Lake, view: str) -> list[Snapshot]:
    """The finished snapshots of a view, oldest first."""
    return sorted((_snapshot(lake, each) for each in partitions.manifests(lake, LAYER, view)), key=lambda s: s.at)


def check_files(lake: Lake, view: View) -> list[Snapshot]:
    """The finished snapshots of a view, after the schema of each file was held against the view.

    DuckDB reads all partitions as one table with the first file's columns: one written before
    the view changed would fail there without naming the day.

    Raises:
        NoSnapshot: there is none yet.
        CorruptFile: a file was cut short.
        SnapshotMismatch: names the day and the columns.
    """
    found = partitions.manifests(lake, LAYER, view.name)
    if not found:
        raise NoSnapshot(f"found no snapshot of {view.name} for {lake.shop}: run materialize_features")
    for each in found:
        at = _snapshot(lake, each).at.isoformat()
        check_columns(pq.read_schema(partitions.part_path(lake, each)), view, where=f"{view.name} at {at}")
    return written(lake, view.name)
