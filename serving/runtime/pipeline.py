"""The only implementation of candidates -> features -> ranker -> rules.

Training takes rows from the first two stages (`retrieve`, `featurise`); evaluation, gateway, shadow
and replay call `rank` whole. Pure: no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from feature_repo import ranker_features
from feature_repo.customer import CustomerFeatures
from serving.runtime import reasons as why
from serving.runtime.artefacts import Artefacts
from serving.runtime.candidates import Candidates, context_scores, inputs_of, retrieve, top
from serving.runtime.catalogue import Catalogue

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Goal = Literal["all", "novel"]

__all__ = ["Catalogue", "CustomerFeatures", "RankedProduct", "Request", "Stages", "featurise", "rank", "retrieve"]

RANKER_MISSING: Final = "ranker_missing"
RANKER_FAILED: Final = "ranker_failed"
NON_FINITE: Final = "non_finite_scores"
"""Also a hard fault: the server that sees it takes the release out of traffic."""
RETRIEVAL_MISSING: Final = "retrieval_missing"
CUSTOMER_FEATURES_BAD: Final = "customer_features_unusable"
"""For callers of rank(): the online row could not be read as a customer, so cold start answered."""
_RRF: Final = 20.0
"""Constant of reciprocal-rank fusion where scores of unlike scales are merged."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asked, already validated. `product_ids` is the basket or page; unknown ids are ignored."""

    n: int = 10
    product_ids: Sequence[str] = ()
    goal: Goal = "all"
    exclude: Sequence[str] = ()
    explain: bool = False


@dataclass(frozen=True, slots=True)
class RankedProduct:
    """One answer: catalogue row, final score (higher is better), reasons, and each stage's score if asked."""

    product_id: str
    row: int
    score: float
    reasons: tuple[str, ...]
    scores: dict[str, float]


Results = tuple[RankedProduct, ...]


@dataclass(frozen=True, slots=True)
class Scored:
    """Candidates with what the stages made of them, before the answer is written."""

    candidates: Candidates
    features: Floats | None
    ranker_scores: Floats | None
    final: NDArray[np.float64]
    order: Rows

    def explained(self, at: int) -> dict[str, float]:
        """The score of each stage for the candidate in position `at`; sources that do not know it are absent."""
        scores = {s: float(v[at]) for s, v in self.candidates.scores.items() if np.isfinite(v[at])}
        if self.ranker_scores is not None:
            scores["ranker"] = float(self.ranker_scores[at])
        return {**scores, "context": float(self.candidates.context[at]), "final": float(self.final[at])}


@dataclass(frozen=True, slots=True)
class Stages:
    """What each stage said, for the answer, the impression log and the audit.

    Attributes:
        candidates: n candidates after exclusion.
        features: (n, f) float32, None where no customer is known.
        ranker_scores: (n,) float32, None where no ranker answered.
        scores: (n,) float64, what the order follows.
        order: positions in candidates as served, best first, at most request.n.
        results: the same, resolved.
        degraded: why this is not the best answer; empty when it is.
        hard_faults: what must take the release out of traffic.
    """

    candidates: Candidates
    features: Floats | None
    ranker_scores: Floats | None
    scores: NDArray[np.float64]
    order: Rows
    results: tuple[RankedProduct, ...]
    degraded: tuple[str, ...]
    hard_faults: tuple[str, ...] = field(default=())


def featurise(customer: CustomerFeatures, candidates: Candidates, catalogue: Catalogue, as_of: datetime) -> Floats:
    """Stage 2: the (n, f) feature matrix of the candidates at the request's time."""
    return ranker_features.compute(customer, inputs_of(customer, candidates, catalogue), as_of.timestamp())


def rank(
    request: Request,
    customer: CustomerFeatures | None,
    catalogue: Catalogue,
    artefacts: Artefacts,
    as_of: datetime,
) -> Stages:
    """The ranked answer to one request; never raises for missing models, customers or products.

    Args:
        request: what was asked.
        customer: None for an unknown or absent customer: popular products, spread over categories,
            or what goes with the page or basket.
        catalogue: the products that may be shown (artefacts.catalogue, or one with the same rows).
        artefacts: models of one release, bound to that catalogue.
        as_of: time of the request, zone-aware.
    """
    context = catalogue.rows_of(request.product_ids)
    context = context[context >= 0]
    hidden = catalogue.rows_of(request.exclude)
    hidden = np.union1d(hidden[hidden >= 0], context)
    if customer is None:
        return _cold(request, context, hidden, catalogue, artefacts)
    candidates = retrieve(customer, context, artefacts)
    keep = ~np.isin(candidates.rows, hidden, assume_unique=False)
    if request.goal == "novel":
        keep &= candidates.history < 0
    candidates = candidates.subset(np.flatnonzero(keep))
    features = featurise(customer, candidates, catalogue, as_of)
    scores, degraded = _ranker_scores(request.goal, features, artefacts)
    if not artefacts.models:
        degraded = (*degraded, RETRIEVAL_MISSING)
    final = _retrieval_scores(features) if scores is None else scores.astype(np.float64)
    final = _with_context(final, candidates.context, artefacts.config.context_weight)
    order = _best(final, request.n)
    faults = tuple(d for d in degraded if d == NON_FINITE)
    results = _results(request, customer, Scored(candidates, features, scores, final, order), catalogue)
    return Stages(candidates, features, scores, final, order, results, degraded, faults)


def _ranker_scores(goal: Goal, features: Floats, artefacts: Artefacts) -> tuple[Floats | None, tuple[str, ...]]:
    """The ranker's (n,) scores, or None and why it did not answer."""
    ranker = artefacts.rankers.get(goal)
    if ranker is None:
        return None, (RANKER_MISSING,)
    if features.shape[0] == 0:
        return np.empty(0, np.float32), ()
    try:
        scores = ranker.scores(features)
    except Exception:  # noqa: BLE001 - whatever a broken model raises, the shopper gets retrieval order
        return None, (RANKER_FAILED,)
    if not np.isfinite(scores).all():
        return None, (NON_FINITE,)
    return scores, ()


def _retrieval_scores(features: Floats) -> NDArray[np.float64]:
    """Without a ranker: own decayed purchases with popularity, then fused ranks of the sources."""
    column = ranker_features.COLUMN
    ranks = sum(
        1.0 / (_RRF + np.expm1(features[:, column[f"{s}_rank"]].astype(np.float64))) for s in ranker_features.SOURCES
    )
    popularity = np.log1p(features[:, column["product_decayed_14d"]].astype(np.float64))
    return features[:, column["decayed_90d"]] + 0.02 * popularity + 0.1 * ranks


def _with_context(scores: NDArray[np.float64], context: Floats, weight: float) -> NDArray[np.float64]:
    """Scores with the page or basket counted in, on the scores' own scale."""
    if scores.size == 0 or not context.any():
        return scores
    return scores + weight * float(scores.std()) * 3.0 * context


def _best(scores: NDArray[np.float64], n: int) -> Rows:
    """Positions of the n highest scores, best first; ties by position."""
    return np.argsort(-scores, kind="stable")[: max(n, 0)]


def _cold(request: Request, context: Rows, hidden: Rows, catalogue: Catalogue, artefacts: Artefacts) -> Stages:
    """An unknown customer: what goes with the page or basket, filled with popular products of many categories."""
    wanted = request.n + hidden.size
    by_context = context_scores(context, artefacts)
    related = top(by_context, wanted)
    related = related[np.argsort(-by_context[related], kind="stable")]
    same = [catalogue.popular_in[c][:3] for c in dict.fromkeys(catalogue.category_code[context].tolist())]
    ordered = np.concatenate([related, *same, catalogue.cold_start[:wanted]]).astype(np.int64)
    _, first = np.unique(ordered, return_index=True)
    rows = ordered[np.sort(first)]
    rows = rows[~np.isin(rows, hidden)][: request.n]
    none = np.full(rows.size, -1, np.int64)
    candidates = Candidates(rows, none, none, {}, by_context[rows])
    scores = 1.0 / (1.0 + np.arange(rows.size, dtype=np.float64))
    order = np.arange(rows.size)
    degraded = () if artefacts.models else (RETRIEVAL_MISSING,)
    results = _results(request, None, Scored(candidates, None, None, scores, order), catalogue)
    return Stages(candidates, None, None, scores, order, results, degraded)


def _results(request: Request, customer: CustomerFeatures | None, scored: Scored, catalogue: Catalogue) -> Results:
    """The served positions with ids, reasons and, if asked, each stage's score."""
    page = [catalogue.text["name"][r] for r in catalogue.rows_of(request.product_ids) if r >= 0]
    results = []
    for at in scored.order.tolist():
        row = int(scored.candidates.rows[at])
        case = why.Case(
            customer=customer,
            history=int(scored.candidates.history[at]),
            features=None if scored.features is None else scored.features[at],
            context=float(scored.candidates.context[at]),
            row=row,
        )
        scores = scored.explained(at) if request.explain else {}
        found = why.reasons(case, page, catalogue)
        results.append(RankedProduct(catalogue.product_ids[row], row, float(scored.final[at]), found, scores))
    return tuple(results)
