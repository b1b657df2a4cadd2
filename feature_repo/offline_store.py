# ruff: noqa: ARG002, ARG004, PLR0913, PLR0917 - the signatures are Feast's
"""Feast's offline store as we run it: DuckDB's, with a point-in-time join of our own.

Feast's join compares every snapshot of a key with every row and sorts what is left; a snapshot table is so regular
(one row per key and T) that a table of keys by times says which row is in force.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from feature_repo.errors import SnapshotMismatch
from feature_repo.light_feast import DuckDBOfflineStore, DuckDBOfflineStoreConfig, RetrievalJob
from feature_repo.views import TIMESTAMP
from mercato.cores import on_every_core

Integers = NDArray[np.int64]
_DAY = timedelta(days=1)


class SnapshotOfflineStoreConfig(DuckDBOfflineStoreConfig):  # type: ignore[misc]
    """Settings of DuckDB's store."""

    type: str = "feature_repo.offline_store.SnapshotOfflineStore"


class SnapshotOfflineStore(DuckDBOfflineStore):  # type: ignore[misc]
    """DuckDB's store; historical features come from `in_force`."""

    @staticmethod
    def get_historical_features(
        config: Any,
        feature_views: list[Any],
        feature_refs: list[str],
        entity_df: Any,
        registry: Any,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
    ) -> RetrievalJob:
        """The rows of `entity_df` in their order, with the features of each view.

        Raises:
            SnapshotMismatch: `entity_df` is a query, or a view has several join keys or a column for when rows were
                created: none of ours has.
        """
        if not isinstance(entity_df, pd.DataFrame) or any(
            len(each.join_keys) != 1 or each.batch_source.created_timestamp_column for each in feature_views
        ):
            raise SnapshotMismatch(
                "found a query, a view of several keys or one with created timestamps; need a frame of rows and views "
                "of snapshots, as feature_repo/views.py declares them"
            )
        wanted: dict[str, list[str]] = {}
        for ref in feature_refs:
            view, _, feature = ref.partition(":")
            wanted.setdefault(view, []).append(feature)
        found = {str(name): pa.array(entity_df[name].array, from_pandas=True) for name in entity_df.columns}
        for view in feature_views:
            name, key = view.projection.name_to_use(), view.join_keys[0]
            joined = _joined(view, key, wanted[name], found[key], entity_df[TIMESTAMP])
            prefix = f"{name}__" if full_feature_names else ""
            found |= {prefix + feature: joined[feature] for feature in wanted[name]}
        return _Joined(pa.table(found), full_feature_names)


def _joined(view: Any, key: str, features: list[str], keys: pa.Array, times_asked: pd.Series) -> pa.Table:
    """The features of one view in force for each key at its time; only partitions that are in force are read whole."""
    at = times_asked.dt.tz_convert("UTC").astype("datetime64[us, UTC]")
    ttl = view.ttl or None
    # What a materialisation wrote a moment ago must be seen: an object store's listings are not cached.
    fs, pattern = fsspec.core.url_to_fs(view.batch_source.path, use_listings_cache=False)
    files = sorted(str(each) for each in fs.glob(pattern))
    if len(at):
        files = list(_within(files, at.min() - ttl if ttl else None, at.max())) or files[:1]
    heads = [_read(fs, each, [key, TIMESTAMP]) for each in files]
    ends = np.cumsum([each.num_rows for each in heads])
    head = pa.concat_tables(heads)
    times = head[TIMESTAMP].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy()
    place = in_force(head[key], times, keys, at.astype("int64").to_numpy(), ttl)
    file = np.searchsorted(ends, place, side="right")
    used = np.unique(file[place >= 0]).tolist() or [0]
    snapshots = pa.concat_tables([_read(fs, files[each], features) for each in used])
    left_out = np.zeros(len(files), np.int64)  # rows of earlier files that were not read
    for before, each in enumerate(used):
        read = sum(heads[other].num_rows for other in used[:before])
        left_out[each] = ends[each] - heads[each].num_rows - read
    place = np.where(place < 0, -1, place - left_out[np.minimum(file, len(files) - 1)])
    taken = on_every_core(lambda feature: _taken(snapshots[feature], place), features)
    return pa.table(dict(zip(features, taken, strict=True)))


def _taken(column: pa.ChunkedArray, place: Integers) -> pa.Array:
    """(n,) the values in those rows, null where the row is -1."""
    if pa.types.is_primitive(column.type) and not column.null_count:  # NumPy gathers several times as fast
        return pa.array(column.to_numpy()[place], column.type, mask=place < 0)
    return column.combine_chunks().take(pa.array(place, mask=place < 0))


def in_force(keys: pa.ChunkedArray, times: Integers, wanted: pa.Array, at: Integers, ttl: timedelta | None) -> Integers:
    """(n,) row of the snapshot in force for each (key, time) asked for, -1 where none is.

    That is the newest of its key at or before the time, unless it is older than `ttl`.

    Args:
        keys: (m,) strings, each once per time.
        times: (m,) T of each snapshot row, microseconds.
        wanted: (n,) strings, dictionary-encoded or not.
        at: (n,) microseconds.
        ttl: a snapshot exactly so old still counts; None: any does.
    """
    if not len(times):
        return np.full(len(at), -1, np.int64)
    known = keys.combine_chunks().dictionary_encode()
    moments, moment = np.unique(times, return_inverse=True)
    newest = np.full((len(known.dictionary), len(moments)), -1, np.int64)  # (keys, moments) row in force
    newest[known.indices.to_numpy(), moment] = np.arange(len(times))
    for later in range(1, len(moments)):
        absent = newest[:, later] < 0
        newest[absent, later] = newest[absent, later - 1]
    if not pa.types.is_dictionary(wanted.type):
        wanted = wanted.dictionary_encode()
    codes = pc.fill_null(pc.index_in(wanted.dictionary.cast(pa.string()), value_set=known.dictionary), -1).to_numpy()
    code = np.append(codes, -1)[pc.fill_null(wanted.indices, -1).to_numpy()]
    asked = np.searchsorted(moments, at, side="right") - 1
    found = np.where((code >= 0) & (asked >= 0), newest[code, asked], -1)
    if ttl is not None:
        found[at - times[found] > ttl // timedelta(microseconds=1)] = -1
    return found


def _read(fs: Any, file: str, columns: list[str]) -> pa.Table:
    return pq.read_table(file, columns=columns, filesystem=fs, partitioning=None)


def _within(files: Iterable[str], since: Any, until: Any) -> Iterable[str]:
    """Those of partitions `ds=DAY`; a day begins at most one day away from its midnight in UTC."""
    for file in files:
        day = pd.Timestamp(file.rsplit("ds=", 1)[1].split("/", 1)[0], tz="UTC")
        if (since is None or day >= since - _DAY) and (until is None or day <= until + _DAY):
            yield file


class _Joined(RetrievalJob):  # type: ignore[misc]
    """The answer, already there."""

    def __init__(self, table: pa.Table, full_feature_names: bool) -> None:
        super().__init__()
        self._table = table
        self._full_feature_names = full_feature_names

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        found: pd.DataFrame = self._table.to_pandas()
        return found

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self._table

    @property
    def full_feature_names(self) -> bool:
        """Whether features are called `view__feature`."""
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[Any]:
        """None: features are computed in snapshots."""
        return []

    @property
    def metadata(self) -> None:
        """None is kept."""

    def persist(self, storage: Any, allow_overwrite: bool = False, timeout: int | None = None) -> None:
        """Refused: datasets are written by training/datasets."""
        raise SnapshotMismatch("found a join to persist; need a dataset: run the DAG build_datasets")
