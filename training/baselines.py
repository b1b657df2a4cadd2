"""What a shop would use instead: one-line recommenders, scored in the same run on the same households."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_repo.customer import CustomerFeatures
from serving.runtime.artefacts import Artefacts
from serving.runtime.candidates import history_weights

Rows = NDArray[np.int64]
Scores = NDArray[np.float64]
Baseline = Callable[[CustomerFeatures, Artefacts, Rows], Scores]
"""Customer, artefacts and the catalogue rows of the customer's history (-1 unknown) -> (p,) score per catalogue row."""

POPULARITY_WEIGHT: Final = 1.0
"""Decayed purchases that the most popular product of the shop is worth in decay + popularity."""
_TIE: Final = 1e-6


def popularity(customer: CustomerFeatures, artefacts: Artefacts, history: Rows) -> Scores:  # noqa: ARG001 - a Baseline
    """Baskets of the last 28 days, in [0, 1]."""
    recent = artefacts.catalogue.stats["n_28d"].astype(np.float64)
    return recent / max(float(recent.max(initial=0.0)), 1.0)


def _personal(values: NDArray[np.float32], artefacts: Artefacts, history: Rows) -> Scores:
    """(p,) the values of the history at its rows, zero elsewhere."""
    scores = np.zeros(len(artefacts.catalogue.product_ids))
    known = history >= 0
    scores[history[known]] = values[known]
    return scores


def frequency(customer: CustomerFeatures, artefacts: Artefacts, history: Rows) -> Scores:
    """Baskets of the customer with the product; ties by popularity."""
    return _personal(customer.n_purchases, artefacts, history) + _TIE * popularity(customer, artefacts, history)


def decay(customer: CustomerFeatures, artefacts: Artefacts, history: Rows) -> Scores:
    """The same, each basket losing half its weight in 90 days; ties by popularity."""
    return _personal(customer.decayed_90d, artefacts, history) + _TIE * popularity(customer, artefacts, history)


def decay_popularity(customer: CustomerFeatures, artefacts: Artefacts, history: Rows) -> Scores:
    """Decayed frequency plus popularity: the rival to beat for `all`."""
    own = _personal(customer.decayed_90d, artefacts, history)
    return own + POPULARITY_WEIGHT * popularity(customer, artefacts, history)


def _model(name: str) -> Baseline:
    """The scores of one retrieval model alone."""

    def scores(customer: CustomerFeatures, artefacts: Artefacts, history: Rows) -> Scores:
        bound = artefacts.models[name]
        known = history >= 0
        items = bound.positions[history[known]]
        weights = history_weights(customer)[known][items >= 0]
        out = np.full(len(artefacts.catalogue.product_ids), -np.inf)
        out[bound.rows[bound.items]] = bound.model.scores(items[items >= 0], weights)[bound.items]
        return out

    return scores


BASELINES: Final[dict[str, Baseline]] = {
    "frequency": frequency,
    "decay": decay,
    "decay_popularity": decay_popularity,
    "popularity": popularity,
    "als": _model("als"),
    "ease": _model("ease"),
    "user_knn": _model("user_knn"),
}
"""Name in the evaluation -> scorer. Retrieval models are skipped where the release has none."""
