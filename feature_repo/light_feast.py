"""What we use of Feast, imported for much less than it costs: each task and each gateway worker pays for it.

Two things are left out while it is imported. Torch, which Feast loads for tensors that we never ask for and may be
missing by its own rules. And typeguard's instrumentation, which compiles every Feast class a second time to check
the types of arguments; mypy and our tests check ours.
"""

import sys
from typing import Any

import typeguard


def _unchecked(target: Any = None, **_: Any) -> Any:
    return target if target is not None else _unchecked


_torch_is_loaded = "torch" in sys.modules
_typechecked = typeguard.typechecked
if not _torch_is_loaded:
    sys.modules["torch"] = None  # type: ignore[assignment]
typeguard.typechecked = _unchecked
try:
    from feast import (
        Entity,
        FeatureService,
        FeatureStore,
        FeatureView,
        Field,
        FileSource,
        Project,
        RepoConfig,
        ValueType,
    )
    from feast.data_format import ParquetFormat
    from feast.infra.offline_stores.duckdb import DuckDBOfflineStore, DuckDBOfflineStoreConfig
    from feast.infra.offline_stores.offline_store import RetrievalJob
    from feast.infra.online_stores.helpers import get_online_store_from_config
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value
    from feast.types import Array, Float32, Int64, String
finally:
    typeguard.typechecked = _typechecked
    if not _torch_is_loaded:
        del sys.modules["torch"]

__all__ = [
    "Array",
    "DuckDBOfflineStore",
    "DuckDBOfflineStoreConfig",
    "Entity",
    "EntityKey",
    "FeatureService",
    "FeatureStore",
    "FeatureView",
    "Field",
    "FileSource",
    "Float32",
    "Int64",
    "ParquetFormat",
    "Project",
    "RepoConfig",
    "RetrievalJob",
    "String",
    "Value",
    "ValueType",
    "get_online_store_from_config",
]
