"""One customer's features for one request, from the online store.

`get_online_features` of one household (23 features, arrays of about 350) takes 0.8 ms, the store's own
`online_read`, which it ends in, 0.3 ms: the rest resolves views in the registry and copies arrays. So the
reader calls `online_read` of Feast's store with Feast's entity key. That also takes the registry, and
the lifecycle states in it that make Feast refuse to serve, off the path of a request.
"""

import importlib
import importlib.util
import sqlite3
import threading
from typing import Any

import numpy as np

from feature_repo.config import data_root, repo_config
from feature_repo.definitions import feature_views
from feature_repo.errors import SnapshotMismatch
from feature_repo.light_feast import EntityKey, Value, get_online_store_from_config
from feature_repo.views import VIEWS
from mercato.errors import StoreUnavailable
from mercato.settings import Settings

_DTYPES = {"int64_list_val": np.int64, "float_list_val": np.float32}


def _store_errors() -> tuple[type[Exception], ...]:
    """What the online stores raise when they cannot answer."""
    if importlib.util.find_spec("redis") is None:
        return (sqlite3.Error, OSError)
    return (sqlite3.Error, OSError, importlib.import_module("redis").RedisError)


def entity_key(name: str, value: str) -> EntityKey:
    """Feast's key of one entity."""
    return EntityKey(join_keys=[name], entity_values=[Value(string_val=value)])


def plain(value: Value) -> Any:
    """A number, a string, an int64 or float32 array, a list of strings; None where it is missing."""
    kind = value.WhichOneof("val")
    if kind is None:
        return None
    found = getattr(value, kind)
    if kind in _DTYPES:
        return np.array(found.val, dtype=_DTYPES[kind])
    return list(found.val) if kind == "string_list_val" else found


class OnlineReader:
    """Reads customers from the online store; may be shared by threads, each has its own connection."""

    def __init__(self, settings: Settings) -> None:
        """Connects at the first read. Does not read the registry: views are those of this code."""
        self._config = repo_config(settings)
        views = feature_views(data_root(settings))
        self._views = [(VIEWS[name], view) for name, view in views.items() if view.online]
        self._local = threading.local()
        self._errors = _store_errors()

    def customer(self, customer_key: str) -> dict[str, Any] | None:
        """Feature -> value of one customer, over all online views; None for a customer without features.

        The values of one view are those of one snapshot, old or new. They do not expire: how old they are
        is `snapshot_at` (epoch seconds), and stale features beat none.

        Raises:
            StoreUnavailable: the store did not answer.
            SnapshotMismatch: the stored row was materialised before a feature was added.
        """
        features: dict[str, Any] = {}
        for view, feast_view in self._views:
            row = self._read(feast_view, entity_key(view.key, customer_key))
            if row is None:
                return None
            missing = [name for name in view.columns if name not in row]
            if missing:
                raise SnapshotMismatch(
                    f"the online row of {view.name} lacks {', '.join(missing)}: run materialize_features"
                )
            features.update((name, plain(row[name])) for name in view.columns)
        return features

    def _read(self, feast_view: Any, key: EntityKey) -> dict[str, Value] | None:
        try:
            ((_, row),) = self._store().online_read(self._config, feast_view, [key], None)
        except self._errors as error:
            raise StoreUnavailable(
                f"cannot read {feast_view.name} online: {error}; check MERCATO_ONLINE_URL, or run materialize_features"
            ) from error
        return row  # type: ignore[no-any-return]

    def _store(self) -> Any:
        # A SQLite connection that two threads use at once mixes up their cursors' transactions.
        if not hasattr(self._local, "store"):
            self._local.store = get_online_store_from_config(self._config.online_store)
        return self._local.store
