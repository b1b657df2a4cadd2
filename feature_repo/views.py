"""What the feature views and services are, as plain data: Feast objects and digests are derived from it.

Kept apart from `definitions.py` because importing Feast costs seconds, which the assembly of a
release (it needs digests only) need not pay.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from feature_repo import snapshots
from feature_repo.errors import UnknownFeatureService
from mercato.paths import canonical_json

TIMESTAMP: Final = "event_timestamp"
"""Column of a snapshot that holds its T."""


@dataclass(frozen=True, slots=True)
class View:
    """One snapshot table and how Feast sees it."""

    name: str
    entity: str
    key: str
    """Join key of the entity."""
    columns: Mapping[str, str]
    """Feature -> Feast type."""
    reads: tuple[str, ...]
    """Clean tables that `compute` takes, in its order; also the contracts behind the view."""
    compute: Callable[..., Any]
    """(*tables, T) -> Ibis table with the key, `columns` and `event_timestamp`."""
    ttl: timedelta
    """How old a snapshot may be for a point-in-time join. Online reads are not filtered by it."""
    online: bool
    description: str


VIEWS: Final = {
    view.name: view
    for view in (
        View(
            name="customer_history",
            entity="customer",
            key="customer_key",
            columns=snapshots.HISTORY_COLUMNS,
            reads=("transactions",),
            compute=snapshots.customer_history,
            # A shop week: histories are big, so they exist for training dates (shop week starts) and the newest
            # days only. One that is older would hide a basket that the household has since bought.
            ttl=timedelta(days=7),
            online=True,
            description="What a household bought before T, as arrays with one position per product.",
        ),
        View(
            name="customer_profile",
            entity="customer",
            key="customer_key",
            columns=snapshots.PROFILE_COLUMNS,
            reads=("transactions", "products"),
            compute=snapshots.customer_profile,
            # As for customer_history, which it must not outlive: a row that has one without the other mixes two times.
            ttl=timedelta(days=7),
            online=True,
            description="Recency, frequency, spend and category affinity of a household at T.",
        ),
        View(
            name="product_stats",
            entity="product",
            key="product_id",
            columns=snapshots.PRODUCT_COLUMNS,
            reads=("transactions", "products", "promotions"),
            compute=snapshots.product_stats,
            # Promotions change with the shop week and n_7d counts one: after seven days it is about other days.
            ttl=timedelta(days=7),
            # All requests share these rows, and reading 100 products online takes 9-12 ms. They are served from
            # memory, out of an artefact of the release made from this same snapshot.
            online=False,
            description="Popularity, trend, repurchase, price and promotion of a product at T.",
        ),
    )
}

_EVERYTHING: Final = {name: tuple(view.columns) for name, view in VIEWS.items()}
_PURCHASES: Final = {
    "customer_history": ("snapshot_at", "product_ids", "n_purchases", "decayed_90d", "last_at"),
}

SERVICES: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "ranker_all_v1": _EVERYTHING,
    "ranker_novel_v1": _EVERYTHING,
    "als_v1": _PURCHASES,
    "ease_v1": _PURCHASES,
    "user_knn_v1": _PURCHASES,
}
"""Feature service (model name, `_v`, major version) -> view -> its features."""


def service_columns(name: str) -> dict[str, dict[str, str]]:
    """View -> feature -> Feast type, of one feature service.

    Raises:
        UnknownFeatureService: no service has this name.
    """
    if name not in SERVICES:
        raise UnknownFeatureService(f"found the feature service {name!r}, need one of {', '.join(sorted(SERVICES))}")
    return {view: {f: VIEWS[view].columns[f] for f in features} for view, features in SERVICES[name].items()}


def view_digest(view: View) -> str:
    """64 hex digits: SHA-256 over the view's key, features in order and their types."""
    return _digest({"view": view.name, "key": view.key, "features": list(view.columns.items())})


def service_digest(name: str) -> str:
    """64 hex digits: SHA-256 over the service's name, views, keys, features in order and their types.

    It goes into the identity of a release: a model and the features that it was trained on stay together.
    """
    body = {
        "service": name,
        "views": {
            view: {"key": VIEWS[view].key, "features": [list(pair) for pair in columns.items()]}
            for view, columns in service_columns(name).items()
        },
    }
    return _digest(body)


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(canonical_json(body)).hexdigest()
