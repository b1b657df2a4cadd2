"""Learning how much each stage of search counts, from judged queries: a logistic regression over a few scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from serving.runtime.fusion import FEATURES
from serving.runtime.search import SearchEngine
from serving.runtime.understanding import Understanding, as_written
from training.search_quality import Judgments

UNJUDGED: Final = 0.15
"""Weight of a product that nobody judged, taken for wrong. 0 would trust whatever meaning alone finds, 1 would punish
a product for being found for the first time; between 0.1 and 0.3 both readings of nDCG@10 stay, .787 to .801 and .869
to .892 (docs/decisions/0004)."""
RIDGE: Final = 33.0
"""L2 penalty on the weights of standardised features, against a log loss that adds up to the number of rows."""
_STEPS: Final = 50

Floats = NDArray[np.float64]
Understand = Callable[[str], Understanding]


def fit(engine: SearchEngine, judgments: Judgments, understand: Understand = as_written) -> dict[str, float]:
    """Feature -> weight, learned on the candidates of the judged queries, each query counting the same.

    The same inputs give the same weights: Newton's method from zero, one thread.
    """
    features, targets, weights = [], [], []
    top = max((max(grades.values(), default=0) for grades in judgments.grades.values()), default=0)
    for query, grades in sorted(judgments.grades.items()):
        found, ids = candidates(engine, understand(query))
        grade = np.array([grades.get(product, -1) for product in ids])
        if len(ids):
            features.append(found)
            targets.append((np.exp2(np.maximum(grade, 0)) - 1) / (2.0**top - 1))
            weights.append(np.where(grade < 0, UNJUDGED, 1.0) / len(ids))
    x = np.concatenate(features)
    y, weight = np.concatenate(targets), np.concatenate(weights)
    mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-9
    learned = _logistic((x - mean) / spread, y, weight * len(weight) / weight.sum()) / spread
    return {name: round(float(value), 6) for name, value in zip(FEATURES, learned, strict=True)}


def candidates(engine: SearchEngine, asked: Understanding) -> tuple[Floats, Sequence[str]]:
    """((n, len(FEATURES)), product ids) of what the stages of an engine find for a query."""
    encoder = engine.encoder
    vector = encoder.encode([asked.text])[0] if encoder is not None and asked.text else None
    rows, found = engine.base.candidates(asked.terms, vector)
    return found.features().astype(np.float64), [str(engine.shelf.product_ids[row]) for row in rows]


def _logistic(x: Floats, y: Floats, weight: Floats) -> Floats:
    """(f,) weights without the intercept that minimise the weighted log loss plus RIDGE / 2 |w|^2."""
    design = np.column_stack([x, np.ones(len(x))])
    penalty = np.diag([RIDGE] * x.shape[1] + [1e-6])
    w = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-(design @ w)))
        gradient = design.T @ (weight * (p - y)) + penalty @ w
        hessian = (design * (weight * p * (1 - p))[:, None]).T @ design + penalty
        step = np.linalg.solve(hessian, gradient)
        w -= step
        if np.abs(step).max() < 1e-9:  # noqa: PLR2004
            break
    return np.asarray(w[:-1])
