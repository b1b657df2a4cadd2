"""From logits to probabilities that can be trusted: how much each part counts, temperature, threshold, ECE."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from serving.runtime.intent import OUT_OF_SCOPE, decide, softmax

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]
_BINS: Final = 15
_SURE: Final = 0.995


@dataclass(frozen=True, slots=True)
class Calibration:
    """How the logits of the parts become probabilities and an answer."""

    weights: tuple[float, ...]
    """Of each part's logits; they add up to 1."""
    temperature: float
    threshold: float
    """Below it the best label in scope is not believed."""

    def probabilities(self, parts: Sequence[Floats]) -> Floats:
        """(n, labels) of the parts' (n, labels) logits."""
        total = sum(weight * part for weight, part in zip(self.weights, parts, strict=True))
        return softmax(np.asarray(total, np.float32) / np.float32(self.temperature))


def calibrate(parts: Sequence[Floats], truth: Labels, labels: Sequence[str]) -> Calibration:
    """Weights and temperature of the lowest negative log-likelihood, then the threshold of the best F1 of out of scope.

    Args:
        parts: (n, labels) logits each, of messages that nothing was fitted on.
        truth: (n,) labels.
        labels: their names; without `out_of_scope` the threshold is 0.
    """
    rows = np.arange(truth.size)

    def loss(logs: NDArray[np.float64]) -> float:
        mixed = sum(np.exp(log) * part for log, part in zip(logs, parts, strict=True))
        return -float(np.log(softmax(np.asarray(mixed))[rows, truth] + 1e-9).mean())

    found = minimize(loss, np.full(len(parts), -np.log(len(parts))), method="Nelder-Mead", options={"maxiter": 400})
    scale = np.exp(found.x)
    weights = tuple(float(each) for each in scale / scale.sum())
    plain = Calibration(weights, float(1.0 / scale.sum()), 0.0)
    return Calibration(weights, plain.temperature, _threshold(plain.probabilities(parts), truth, labels))


def _threshold(probabilities: Floats, truth: Labels, labels: Sequence[str]) -> float:
    if OUT_OF_SCOPE not in labels:
        return 0.0
    out = labels.index(OUT_OF_SCOPE)

    def f1(threshold: float) -> float:
        said, _ = decide(probabilities, labels, threshold)
        return float(2 * ((said == out) & (truth == out)).sum() / max(1, (said == out).sum() + (truth == out).sum()))

    return float(max(np.linspace(0.0, 0.95, 96), key=lambda each: f1(float(each))))


def sure_above(confidence: Floats, right: NDArray[np.bool_]) -> float:
    """The lowest bound above which 99.5 % of answers are right, with one error more than were seen; 1.0: there is none.

    Args:
        confidence: (n,) in [0, 1], of messages that nothing was fitted on.
        right: (n,) whether the answer is.
    """
    order = np.argsort(-confidence, kind="stable")
    below = np.append(confidence[order][1:], np.float32(0.0))  # the bound that lets through what comes before
    errors = 1 + np.cumsum(~right[order])
    enough = errors <= (1.0 - _SURE) * np.arange(1, right.size + 1)
    return float(min(below[enough & (confidence[order] > below)], default=1.0))


def ece(confidence: Floats, right: NDArray[np.bool_]) -> float:
    """Expected calibration error in [0, 1]: how far confidence and accuracy lie apart, over 15 bins of equal width.

    Source: Guo et al., ICML 2017.
    """
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    gaps = [
        abs(float(confidence[bins == each].mean()) - float(right[bins == each].mean())) * float((bins == each).mean())
        for each in np.unique(bins)
    ]
    return float(sum(gaps))
