"""Intervals over households: paired bootstrap of per-household scores. Same seed, same numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over n households with its bootstrap interval [low, high]."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def positive(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.low > 0.0


def _finite(values: Sequence[float] | Floats) -> Floats:
    """The values as float64.

    Raises:
        ValueError: nothing to average, or a value that is not finite.
    """
    array = np.asarray(values, np.float64)
    if array.size == 0:
        raise ValueError("found no household, needed at least one")
    if not np.isfinite(array).all():
        raise ValueError(
            f"found {int((~np.isfinite(array)).sum())} scores that are not finite; leave those households out"
        )
    return array


def _resampled_means(values: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """(resamples,) means of values drawn with replacement, as multinomial counts."""
    n = values.size
    means = np.empty(resamples)
    step = max(1, 4_000_000 // n)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = rng.integers(0, n, (size, n), dtype=np.int32)
        means[start : start + size] = values[drawn].mean(axis=1)
    return means


def bootstrap_mean(
    values: Sequence[float] | Floats, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Mean of one score per household, with a percentile interval over households.

    Args:
        values: (n,) finite scores.
        level: coverage, in (0, 1).
        resamples: bootstrap draws.
        seed: of the draws.
    """
    array = _finite(values)
    means = _resampled_means(array, resamples, np.random.default_rng(seed))
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(array.mean()), float(low), float(high), array.size)


def paired_gain(
    challenger: Sequence[float] | Floats,
    rival: Sequence[float] | Floats,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Mean of challenger - rival over the same households, with its interval.

    Raises:
        ValueError: the two differ in length.
    """
    a, b = _finite(challenger), _finite(rival)
    if a.size != b.size:
        raise ValueError(f"found {a.size} and {b.size} households, needed the same ones in both")
    return bootstrap_mean(a - b, level=level, resamples=resamples, seed=seed)


def clustered_gain(
    gains: Sequence[Mapping[str, float]], *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Mean paired gain over several origins: the mean of the origins' means, resampling households.

    A household drawn brings its gains of all origins, because they are not independent.

    Args:
        gains: per origin, customer_key -> challenger - rival.
        level: coverage, in (0, 1).
        resamples: bootstrap draws.
        seed: of the draws.
    """
    keys = sorted(set().union(*gains))
    if not keys:
        raise ValueError("found no household, needed at least one")
    table = np.asarray([[origin.get(k, np.nan) for k in keys] for origin in gains], np.float64)
    present = np.isfinite(table)
    if (present.sum(axis=1) == 0).any():
        raise ValueError("found an origin without households, needed one in each")
    rng = np.random.default_rng(seed)
    filled = np.where(present, table, 0.0)
    means = np.empty(resamples)
    for i in range(resamples):
        weight = np.bincount(rng.integers(0, len(keys), len(keys)), minlength=len(keys)).astype(np.float64)
        means[i] = np.mean((filled @ weight) / np.maximum(present @ weight, 1.0))
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    mean = float(np.mean(filled.sum(axis=1) / present.sum(axis=1)))
    return Interval(mean, float(low), float(high), len(keys))
