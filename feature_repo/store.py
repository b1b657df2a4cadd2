"""The feature store of one shop: register, materialise, join point-in-time."""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import structlog

from feature_repo import writer
from feature_repo.config import data_root, repo_config
from feature_repo.definitions import everything
from feature_repo.errors import NoSnapshot, SnapshotMismatch
from feature_repo.light_feast import FeatureStore, get_online_store_from_config
from feature_repo.online import entity_key
from feature_repo.views import TIMESTAMP, VIEWS, View, service_columns
from mercato import paths
from mercato.paths import Lake
from mercato.settings import Settings
from mercato.stores import sqlite

log = structlog.get_logger()
_READ_BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class Materialized:
    """What a materialisation put online of one view."""

    view: str
    rows: int
    at: datetime
    """T of the snapshot."""


def apply(settings: Settings) -> None:
    """Register entities, views and services, and make the online tables. Safe to repeat."""
    for url in (settings.feast_registry(), settings.online()):
        if url.startswith("sqlite:"):
            # WAL: readers keep the last committed rows while a materialisation writes, and after it was killed.
            sqlite.connect(url).close()
    with _quiet():
        FeatureStore(config=repo_config(settings)).apply(everything(settings.shop, data_root(settings)))


def materialize(settings: Settings, since: datetime, until: datetime, *, go_back: bool = False) -> list[Materialized]:
    """The newest snapshots with `since` <= T <= `until`, now online and read back.

    A view that is online up to a later time than `until` is left as it is and not in the answer: a
    backfill must not give customers their old features back. With `go_back` it gets them.

    Raises:
        NoSnapshot: none was written for the window.
        SnapshotMismatch: a file does not fit its view, or rows did not arrive.
    """
    lake = paths.lake(settings)
    store = FeatureStore(config=repo_config(settings))
    chosen = {}
    for view in (view for view in VIEWS.values() if view.online):
        newest = _newest(writer.check_files(lake, view), since, until, view)
        ahead = max((end for _, end in store.get_feature_view(view.name).materialization_intervals), default=until)
        if ahead > until and not go_back:
            log.warning("features.online_is_newer", view=view.name, until=until.isoformat(), online=ahead.isoformat())
        else:
            chosen[view.name] = newest
    if chosen:
        with _quiet():
            store.materialize(since, until, feature_views=list(chosen))
    return [_read_back(lake, store, VIEWS[name], snapshot) for name, snapshot in chosen.items()]


def _newest(written: list[writer.Snapshot], since: datetime, until: datetime, view: View) -> writer.Snapshot:
    inside = [snapshot for snapshot in written if since <= snapshot.at <= until]
    if not inside:
        raise NoSnapshot(
            f"found no snapshot of {view.name} from {since.isoformat()} to {until.isoformat()}, "
            f"the newest is of {written[-1].at.isoformat()}: write one with materialize_features"
        )
    return inside[-1]


def _read_back(lake: Lake, store: FeatureStore, view: View, snapshot: writer.Snapshot) -> Materialized:
    """Counts the rows that arrived: the parts under Feast have dropped some in silence."""
    with lake.fs.open(snapshot.path, "rb") as handle:
        keys = pq.read_table(handle, columns=[view.key]).column(0).to_pylist()
    online = get_online_store_from_config(store.config.online_store)
    feast_view = store.get_feature_view(view.name)
    arrived = 0
    for start in range(0, len(keys), _READ_BATCH):
        batch = [entity_key(view.key, key) for key in keys[start : start + _READ_BATCH]]
        arrived += sum(at == snapshot.at for at, _ in online.online_read(store.config, feast_view, batch, None))
    if arrived != len(keys):
        raise SnapshotMismatch(
            f"{arrived} of {len(keys)} rows of {view.name} at {snapshot.at.isoformat()} arrived online: "
            "run materialize_features again; if it stays so, look at the online store's disk or eviction policy"
        )
    return Materialized(view.name, arrived, snapshot.at)


def historical(settings: Settings, entity_df: pd.DataFrame, service: str) -> pd.DataFrame:
    """The features of `service` as they were at each row's `event_timestamp`, in the order of `entity_df`.

    Args:
        settings: where the snapshots and the registry are.
        entity_df: `event_timestamp` (zone-aware) and `customer_key` or `product_id` or both. Its keys decide which
            views of the service are joined, so that histories are not copied once per product.
        service: name of a feature service.

    Returns: the columns of `entity_df`, then the features; None or NaN where no snapshot is young enough.

    Raises:
        NoSnapshot: a view has no snapshot at all.
        SnapshotMismatch: a column of `entity_df` or of a snapshot is missing or of the wrong type, or rows were lost.
    """
    views = [VIEWS[name] for name in service_columns(service) if VIEWS[name].key in entity_df.columns]
    entities = _entities(entity_df, service, bool(views))
    lake = paths.lake(settings)
    for view in views:
        writer.check_files(lake, view)
    columns = service_columns(service)
    wanted = [f"{view.name}:{feature}" for view in views for feature in columns[view.name]]
    with _quiet():
        job = FeatureStore(config=repo_config(settings)).get_historical_features(entities, wanted)
        found = job.to_arrow()
    if len(found) != len(entity_df):
        raise SnapshotMismatch(f"the join answered {len(found)} rows for {len(entity_df)}, need one each: repeat it")
    features: pd.DataFrame = found.select([ref.partition(":")[2] for ref in wanted]).to_pandas()
    for at, name in enumerate(entity_df.columns):
        features.insert(at, str(name), entity_df[name].set_axis(features.index))
    return features


def _entities(entity_df: pd.DataFrame, service: str, has_key: bool) -> pd.DataFrame:
    """Keys and timestamps, in microseconds."""
    keys = sorted({VIEWS[name].key for name in service_columns(service)})
    if not has_key or TIMESTAMP not in entity_df.columns:
        raise SnapshotMismatch(
            f"found the columns {list(entity_df.columns)}, {service} needs {TIMESTAMP} and {' or '.join(keys)}"
        )
    if not isinstance(entity_df[TIMESTAMP].dtype, pd.DatetimeTZDtype):
        raise SnapshotMismatch(
            f"{TIMESTAMP} is {entity_df[TIMESTAMP].dtype}, need times with a zone: use pd.to_datetime(..., utc=True)"
        )
    present = [key for key in keys if key in entity_df.columns]
    at = entity_df[TIMESTAMP].dt.tz_convert("UTC").astype("datetime64[us, UTC]")
    return pd.DataFrame({**{key: _distinct(entity_df[key]) for key in present}, TIMESTAMP: at.array})


def _distinct(keys: pd.Series) -> pd.Categorical:
    """Each key once, as text: of a million rows only the thousands of keys are converted and looked up."""
    codes, found = pd.factorize(keys)
    places, texts = pd.factorize(np.array([str(each) for each in found], dtype=object))
    return pd.Categorical.from_codes(np.append(places, -1)[codes], pd.Index(texts))


@contextlib.contextmanager
def _quiet() -> Iterator[Any]:
    """Feast prints its progress; stdout belongs to the command that called us."""
    with contextlib.redirect_stdout(sys.stderr):
        yield
