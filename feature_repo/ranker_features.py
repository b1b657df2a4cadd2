"""Every feature that the ranker reads, computed by one function for training, evaluation and serving."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_repo.customer import CustomerFeatures

Floats = NDArray[np.float32]

DAY: Final = 86_400.0
"""Seconds in a day."""
NEVER_DAYS: Final = 400.0
"""Days since an event that never happened: longer than the year of data."""
SOURCES: Final = ("als", "ease", "user_knn", "co_purchase")
"""Retrieval models whose score and rank are features."""
PRODUCT_FEATURES: Final = (
    "n_7d",
    "n_28d",
    "n_91d",
    "n_households",
    "decayed_14d",
    "trend",
    "repeat_share",
    "repeat_interval_days",
    "price_minor",
    "price_position",
    "discount_share",
    "display_share",
    "mailer_share",
)
"""Columns of product_stats that are features as they are."""
_HISTORY: Final = (
    "n_purchases",
    "n_30d",
    "n_60d",
    "decayed_90d",
    "decayed_30d",
    "basket_share",
    "weekly_rate",
    "weekly_rate_60d",
    "days_since_last",
    "days_since_first",
    "interval_days",
    "overdue",
    "history_rank",
)
_CATEGORY: Final = (
    "category_affinity",
    "category_share",
    "category_days_since_last",
    "share_of_category",
)
GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "type": ("product_type",),
    "type_size": ("product_type", "package_size"),
    "category_brand": ("category", "brand"),
}
"""Products that share these attributes are one group; how much a customer buys of a group is a feature."""
_CUSTOMER: Final = ("n_baskets", "n_products", "recency_days", "baskets_per_week", "basket_minor", "baskets_28d")
FEATURE_NAMES: Final[tuple[str, ...]] = (
    *_HISTORY,
    *_CATEGORY,
    *(f"{g}_affinity" for g in GROUPS),
    *(f"{s}_score" for s in SOURCES),
    *(f"{s}_rank" for s in SOURCES),
    *(f"product_{c}" for c in PRODUCT_FEATURES),
    "product_age_days",
    *(f"customer_{c}" for c in _CUSTOMER),
)
"""Column order of the feature matrix; stored in each ranker and checked when it is loaded."""
COLUMN: Final[Mapping[str, int]] = {name: i for i, name in enumerate(FEATURE_NAMES)}


@dataclass(frozen=True, slots=True)
class CandidateInputs:
    """What is known of n candidates of one customer before features are computed.

    Attributes:
        history: (n,) int, position of the candidate in the customer's history, -1 where never bought.
        category: (n,) int, position of its category in the customer's categories, -1 where never bought from.
        scores: per source in SOURCES (n,) float32; NaN where the source does not know the candidate or is absent.
        product: (n, len(PRODUCT_FEATURES)) float32, columns of product_stats.
        first_sold_at: (n,) int64 epoch seconds, 0 where never sold.
        groups: (len(GROUPS), n) int, code of each candidate's group, -1 where an attribute is missing.
        history_groups: (len(GROUPS), h) int, the same of the customer's history, -1 also for unknown products.
    """

    history: NDArray[np.int64]
    category: NDArray[np.int64]
    scores: Mapping[str, Floats]
    product: Floats
    first_sold_at: NDArray[np.int64]
    groups: NDArray[np.int64]
    history_groups: NDArray[np.int64]


def take(values: NDArray[np.generic], position: NDArray[np.int64], missing: float) -> Floats:
    """values[position] as float32, `missing` where position is -1."""
    if values.size == 0:
        return np.full(position.shape, missing, np.float32)
    picked = values[position].astype(np.float32)
    picked[position < 0] = missing
    return picked


def descending_rank(scores: Floats) -> Floats:
    """(n,) log(1 + place) of each score, best first; unknown (NaN) scores share the last place."""
    n = scores.shape[0]
    filled = np.where(np.isnan(scores), -np.inf, scores)
    places = np.empty(n, np.float32)
    places[np.argsort(-filled, kind="stable")] = np.arange(n, dtype=np.float32)
    places[np.isneginf(filled)] = n
    return np.log1p(places)


def _days_since(at: NDArray[np.int64], position: NDArray[np.int64], now: float) -> Floats:
    """Days between at[position] and now, NEVER_DAYS where position is -1."""
    if at.size == 0:
        return np.full(position.shape, NEVER_DAYS, np.float32)
    days = ((now - at[position]) / DAY).astype(np.float32)
    days[position < 0] = NEVER_DAYS
    return days


def _history_columns(out: Floats, customer: CustomerFeatures, inputs: CandidateInputs, now: float) -> None:
    """Fills the columns of _HISTORY: zeros (or NEVER_DAYS) for products never bought."""
    h = inputs.history
    age = max(now - customer.snapshot_at, 0.0) / DAY
    n = take(customer.n_purchases, h, 0.0)
    n_60d = take(customer.n_60d, h, 0.0)
    decayed_90d = take(customer.decayed_90d, h, 0.0) * np.float32(2.0 ** (-age / 90.0))
    since_last = _days_since(customer.last_at, h, now)
    since_first = _days_since(customer.first_at, h, now)
    interval = take(customer.interval_days, h, 0.0)
    own_days = min(max((now - customer.first_basket_at) / DAY, 7.0), 60.0)
    values: dict[str, Floats] = {
        "n_purchases": n,
        "n_30d": take(customer.n_30d, h, 0.0),
        "n_60d": n_60d,
        "decayed_90d": decayed_90d,
        "decayed_30d": take(customer.decayed_30d, h, 0.0) * np.float32(2.0 ** (-age / 30.0)),
        "basket_share": n / np.float32(max(customer.n_baskets, 1.0)),
        "weekly_rate": np.where(h < 0, np.float32(0), 7.0 * n / np.maximum(since_first, 7.0)),
        "weekly_rate_60d": n_60d * np.float32(7.0 / own_days),
        "days_since_last": since_last,
        "days_since_first": since_first,
        "interval_days": interval,
        "overdue": np.where(interval > 0, since_last / np.maximum(interval, 1.0), np.float32(-1)),
        "history_rank": descending_rank(np.where(h < 0, np.float32(np.nan), decayed_90d)),
    }
    for name, column in values.items():
        out[:, COLUMN[name]] = column


def _category_columns(out: Floats, customer: CustomerFeatures, inputs: CandidateInputs, now: float) -> None:
    """Fills the columns of _CATEGORY."""
    c = inputs.category
    affinity = take(customer.category_affinity, c, 0.0)
    total = max(float(customer.category_affinity.sum()), 1e-6)
    bought = take(customer.category_n, c, 0.0)
    out[:, COLUMN["category_affinity"]] = affinity
    out[:, COLUMN["category_share"]] = affinity / np.float32(total)
    out[:, COLUMN["category_days_since_last"]] = _days_since(customer.category_last_at, c, now)
    out[:, COLUMN["share_of_category"]] = out[:, COLUMN["n_purchases"]] / np.maximum(bought, 1.0)


def _group_columns(out: Floats, customer: CustomerFeatures, inputs: CandidateInputs, now: float) -> None:
    """Fills the affinity of each group: decayed purchases (half-life 90 days) of the products in it."""
    age = max(now - customer.snapshot_at, 0.0) / DAY
    for name, codes, own in zip(GROUPS, inputs.groups, inputs.history_groups, strict=True):
        known = own >= 0
        bought = np.bincount(own[known], customer.decayed_90d[known], minlength=int(codes.max(initial=-1)) + 1)
        out[:, COLUMN[f"{name}_affinity"]] = take(bought * 2.0 ** (-age / 90.0), codes, 0.0)


def compute(customer: CustomerFeatures, inputs: CandidateInputs, as_of: float) -> Floats:
    """The feature matrix of one customer's candidates.

    Args:
        customer: the features of a known customer.
        inputs: what retrieval and the catalogue know of the n candidates.
        as_of: the request's time in epoch seconds; ages are measured from it.

    Returns:
        (n, len(FEATURE_NAMES)) float32 in FEATURE_NAMES order; NaN only in the score of a source
        that does not know the candidate (LightGBM reads NaN as missing).
    """
    n = inputs.history.shape[0]
    out = np.empty((n, len(FEATURE_NAMES)), np.float32)
    _history_columns(out, customer, inputs, as_of)
    _category_columns(out, customer, inputs, as_of)
    _group_columns(out, customer, inputs, as_of)
    for source in SOURCES:
        scores = inputs.scores.get(source)
        known = np.full(n, np.nan, np.float32) if scores is None else scores
        out[:, COLUMN[f"{source}_score"]] = known
        out[:, COLUMN[f"{source}_rank"]] = descending_rank(known)
    start = COLUMN[f"product_{PRODUCT_FEATURES[0]}"]
    out[:, start : start + len(PRODUCT_FEATURES)] = inputs.product
    age = (as_of - inputs.first_sold_at) / DAY
    out[:, COLUMN["product_age_days"]] = np.where(inputs.first_sold_at > 0, age, -1.0)
    scalars = {
        "n_baskets": customer.n_baskets,
        "n_products": customer.n_products,
        "recency_days": (as_of - customer.last_basket_at) / DAY,
        "baskets_per_week": customer.baskets_per_week,
        "basket_minor": customer.basket_minor,
        "baskets_28d": customer.n_baskets_60d * 28.0 / 60.0,
    }
    for name, value in scalars.items():
        out[:, COLUMN[f"customer_{name}"]] = value
    return out
