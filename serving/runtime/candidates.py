"""Stage 1: which products could be shown to this customer, and what each source thinks of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feature_repo.customer import CustomerFeatures
from feature_repo.ranker_features import SOURCES, CandidateInputs, take
from serving.runtime.artefacts import Artefacts, BoundModel
from serving.runtime.catalogue import Catalogue

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Candidates:
    """n candidates in catalogue order.

    Attributes:
        rows: (n,) catalogue rows, ascending, unique.
        history: (n,) position in the customer's history, -1 where never bought.
        category: (n,) position in the customer's categories, -1 where never bought from.
        scores: source -> (n,) float32; NaN where the source does not know the product.
        context: (n,) float32 in [0, 1], co-purchase with the page or basket of the request.
    """

    rows: Rows
    history: Rows
    category: Rows
    scores: Mapping[str, Floats]
    context: Floats

    def subset(self, keep: Rows) -> Candidates:
        """Only those positions, in the given order."""
        scores = {name: values[keep] for name, values in self.scores.items()}
        return Candidates(self.rows[keep], self.history[keep], self.category[keep], scores, self.context[keep])


def top(scores: Floats, k: int) -> Rows:
    """Positions of the k highest scores above zero, or of all of them, in no order; the same each time."""
    if k <= 0 or scores.size == 0:
        return np.empty(0, np.int64)
    if k >= scores.size:
        return np.flatnonzero(scores > 0)
    best = np.argpartition(scores, scores.size - k)[-k:]
    return best[scores[best] > 0]


def _model_scores(bound: BoundModel, rows: Rows, weights: Floats) -> Floats:
    """(m,) scores of all items of a model for a history given as catalogue rows."""
    items = bound.positions[rows]
    known = items >= 0
    return bound.model.scores(items[known], weights[known])


def _unseen_top(bound: BoundModel, scores: Floats, seen: Rows, k: int) -> Rows:
    """Catalogue rows of the k best items that are not in `seen`."""
    masked = scores.copy()
    items = bound.positions[seen]
    masked[items[items >= 0]] = -np.inf
    rows = bound.rows[top(masked, k)]
    return rows[rows >= 0]


def history_weights(customer: CustomerFeatures) -> Floats:
    """(h,) weight of each product of the history for retrieval: log(1 + decayed purchases)."""
    return np.log1p(customer.decayed_90d).astype(np.float32)


def _category_rows(customer: CustomerFeatures, artefacts: Artefacts) -> list[Rows]:
    """Popular and promoted products in the categories that the customer likes most."""
    catalogue, config = artefacts.catalogue, artefacts.config
    best = np.argsort(-customer.category_affinity, kind="stable")[: config.categories]
    codes = (catalogue.category_index.get(customer.categories[i]) for i in best)
    found: list[Rows] = []
    for code in codes:
        if code is not None:
            found.append(catalogue.popular_in[code][: config.per_category])
            found.append(catalogue.promoted_in[code][: config.promoted_per_category])
    return found


def _category_positions(customer: CustomerFeatures, catalogue: Catalogue, rows: Rows) -> Rows:
    """(n,) position of each row's category in the customer's categories, -1 for none."""
    positions = np.full(len(catalogue.categories) + 1, -1, np.int64)
    codes = [catalogue.category_index.get(c, -1) for c in customer.categories]
    positions[codes] = np.arange(len(codes))
    positions[-1] = -1
    return positions[catalogue.category_code[rows]]


def context_scores(context: Rows, artefacts: Artefacts) -> Floats:
    """(p,) float32 in [0, 1]: how strongly each product goes with the page or basket; zeros without one."""
    scores = np.zeros(len(artefacts.catalogue.product_ids), np.float32)
    bound = artefacts.models.get("co_purchase") or artefacts.models.get("ease")
    if bound is None or context.size == 0:
        return scores
    scores[bound.rows[bound.items]] = np.maximum(
        _model_scores(bound, context, np.ones(context.size, np.float32))[bound.items], 0
    )
    best = float(scores.max(initial=0.0))
    return scores / np.float32(best) if best > 0 else scores


def retrieve(customer: CustomerFeatures, context: Rows, artefacts: Artefacts) -> Candidates:
    """The candidates of a known customer, from all sources, with every source's score of each.

    Args:
        customer: features of a known customer; products that the catalogue does not know are ignored.
        context: catalogue rows of the page or basket.
        artefacts: any retrieval model may be missing; its scores are then absent.
    """
    catalogue, config = artefacts.catalogue, artefacts.config
    rows = catalogue.rows_of(customer.product_ids)
    known = np.flatnonzero(rows >= 0)
    seen, weights = rows[known], history_weights(customer)[known]
    latest = known[np.argsort(-customer.last_at[known], kind="stable")][: config.history]
    found = [rows[latest], catalogue.popular[: config.popular], *_category_rows(customer, artefacts)]
    raw: dict[str, Floats] = {}
    limits = {"als": config.als, "ease": config.ease, "user_knn": config.user_knn, "co_purchase": config.co_purchase}
    for name, bound in artefacts.models.items():
        raw[name] = _model_scores(bound, seen, weights)
        found.append(_unseen_top(bound, raw[name], seen, limits[name]))
    by_context = context_scores(context, artefacts)
    if context.size:
        found.append(top(by_context, config.co_purchase))
    every = np.unique(np.concatenate(found))
    position = np.full(len(catalogue.product_ids), -1, np.int64)
    position[seen] = known
    known_by = {name: bound.positions[every] for name, bound in artefacts.models.items()}
    scores: dict[str, Floats] = {n: take(raw[n], known_by[n], np.nan) for n in SOURCES if n in raw}
    category = _category_positions(customer, catalogue, every)
    return Candidates(every, position[every], category, scores, by_context[every])


def inputs_of(customer: CustomerFeatures, candidates: Candidates, catalogue: Catalogue) -> CandidateInputs:
    """What the ranker features read of these candidates."""
    own = catalogue.rows_of(customer.product_ids)
    return CandidateInputs(
        history=candidates.history,
        category=candidates.category,
        scores=candidates.scores,
        product=catalogue.features[candidates.rows],
        first_sold_at=catalogue.stats["first_sold_at"][candidates.rows],
        groups=catalogue.group_codes[:, candidates.rows],
        history_groups=np.where(own < 0, -1, catalogue.group_codes[:, own]),
    )
