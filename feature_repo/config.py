"""Feast's configuration, built from the settings: there is no feature_store.yaml to disagree with them."""

import importlib.util
from typing import Any
from urllib.parse import urlsplit

from fsspec.implementations.local import LocalFileSystem

from feature_repo.light_feast import RepoConfig
from mercato import paths
from mercato.errors import BadSetting
from mercato.settings import Settings
from mercato.stores import sqlite

_WRITE_BATCH = 1_000
"""Customers per online transaction."""


def data_root(settings: Settings) -> str:
    """Folder or URL of the shop's data, as DuckDB reads it."""
    lake = paths.lake(settings)
    root = lake.path()
    return root.rstrip("/") if isinstance(lake.fs, LocalFileSystem) else str(lake.fs.unstrip_protocol(root)).rstrip("/")


def online_store(url: str) -> dict[str, Any]:
    """Feast's online store behind `url` (`sqlite:///PATH` or `redis://HOST:PORT`).

    Raises:
        BadSetting: another scheme, or Redis without its client library.
    """
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return {"type": "sqlite", "path": str(sqlite.path_of(url))}
    if parts.scheme not in ("redis", "rediss"):
        raise BadSetting(f"MERCATO_ONLINE_URL is {url!r}, need sqlite:///PATH or redis://HOST:PORT")
    if importlib.util.find_spec("redis") is None:
        raise BadSetting("MERCATO_ONLINE_URL names Redis, and its client is not installed: pip install 'feast[redis]'")
    address = f"{parts.hostname}:{parts.port or 6379}"
    options = [f"password={parts.password}"] * bool(parts.password) + ["ssl=true"] * (parts.scheme == "rediss")
    # By default Feast's Redis skips a row whose event time it already has, so a snapshot that was written again
    # would never arrive. `materialize` refuses to go back in time itself.
    return {"type": "redis", "connection_string": ",".join([address, *options]), "skip_dedup": True}


def repo_config(settings: Settings) -> RepoConfig:
    """Feast's configuration for the shop of these settings."""
    return RepoConfig(
        project=settings.shop,
        provider="local",
        repo_path=settings.root,
        registry={
            "registry_type": "sql",
            "path": settings.feast_registry(),
            # Reads go on while a materialisation runs, and after one was killed and left the view MATERIALIZING.
            # Holds for the SQL registry only: with a file 234 of 875 reads failed.
            "serve_features_while_materializing": True,
        },
        online_store=online_store(settings.online()),
        offline_store={"type": "feature_repo.offline_store.SnapshotOfflineStore"},
        materialization={
            # Several snapshots may lie in the window: without this all are written, in no stated order.
            "pull_latest_features": True,
            # Without batches Feast writes only the first chunk of the Arrow table it read and drops the others.
            "online_write_batch_size": _WRITE_BATCH,
        },
        entity_key_serialization_version=3,
        coerce_tz_aware=False,  # `store.historical` refuses times without a zone; asking pandas again is slow
    )
