"""The Feast objects of one shop, derived from `views.py`: entities, views on snapshots, services."""

from typing import Any

from feature_repo.light_feast import (
    Array,
    Entity,
    FeatureService,
    FeatureView,
    Field,
    FileSource,
    Float32,
    Int64,
    ParquetFormat,
    Project,
    String,
    ValueType,
)
from feature_repo.views import SERVICES, TIMESTAMP, VIEWS, View, service_columns, service_digest

_SCALARS = {"String": String, "Int64": Int64, "Float32": Float32}

ENTITIES = {
    "customer": Entity(
        name="customer",
        join_keys=["customer_key"],
        value_type=ValueType.STRING,
        description="A household, by its pseudonymous key.",
    ),
    "product": Entity(
        name="product", join_keys=["product_id"], value_type=ValueType.STRING, description="A product of the shop."
    ),
}


def feast_type(spelled: str) -> Any:
    """The Feast type spelled `Int64`, `Float32`, `String` or `Array(...)` of one of them."""
    if spelled.startswith("Array("):
        return Array(_SCALARS[spelled.removeprefix("Array(").removesuffix(")")])
    return _SCALARS[spelled]


def feature_view(view: View, root: str) -> Any:
    """The Feast view of one snapshot table below `root`, the URL of a shop's data."""
    source = FileSource(
        name=f"{view.name}_snapshots",
        # A glob, which DuckDB expands at each read: a partition written after `apply` is seen.
        path=f"{root}/features/{view.name}/ds=*/part.parquet",
        file_format=ParquetFormat(),
        timestamp_field=TIMESTAMP,
    )
    return FeatureView(
        name=view.name,
        entities=[ENTITIES[view.entity]],
        # The key is part of the schema so that `apply` needs no file to infer it from.
        schema=[Field(name=view.key, dtype=String)]
        + [Field(name=name, dtype=feast_type(spelled)) for name, spelled in view.columns.items()],
        source=source,
        ttl=view.ttl,
        online=view.online,
        description=view.description,
        owner="features",
        tags={"contracts": ",".join(view.reads)},
    )


def feature_views(root: str) -> dict[str, Any]:
    """View name -> Feast view, on the snapshots below `root`."""
    return {name: feature_view(view, root) for name, view in VIEWS.items()}


def feature_services(views: dict[str, Any]) -> list[Any]:
    """One FeatureService per model version, tagged with its digest."""
    return [
        FeatureService(
            name=name,
            features=[views[view][list(columns)] for view, columns in service_columns(name).items()],
            owner="features",
            tags={"digest": service_digest(name)},
        )
        for name in SERVICES
    ]


def everything(project: str, root: str) -> list[Any]:
    """All that `apply` registers for one shop."""
    views = feature_views(root)
    return [Project(name=project), *ENTITIES.values(), *views.values(), *feature_services(views)]
