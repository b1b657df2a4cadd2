"""Intervals: by hand, covered, and the same each time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.statistics import bootstrap_mean, clustered_gain, paired_gain

scores = st.lists(st.floats(0, 1, allow_subnormal=False), min_size=1, max_size=30)


@given(scores)
def test_interval_holds_the_mean(values: list[float]) -> None:
    """Bounds lie within the range of the values, low below high, and the same seed gives the same numbers."""
    found = bootstrap_mean(values, resamples=400)
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9
    assert found.mean == pytest.approx(np.mean(values))
    assert bootstrap_mean(values, resamples=400) == found


def test_width_by_hand() -> None:
    """400 values of 0 and 400 of 1: the interval is 0.5 +- 1.96 * 0.5 / sqrt(800)."""
    found = bootstrap_mean([0.0] * 400 + [1.0] * 400)
    half = 1.96 * 0.5 / np.sqrt(800)
    assert found.low == pytest.approx(0.5 - half, abs=0.003)
    assert found.high == pytest.approx(0.5 + half, abs=0.003)


def test_constant_gain_is_certain() -> None:
    """A gain of 0.1 for everybody has an interval of no width, however much households differ."""
    rival = np.random.default_rng(0).uniform(size=50)
    found = paired_gain(rival + 0.1, rival)
    assert found.positive
    assert (found.low, found.high) == (pytest.approx(0.1), pytest.approx(0.1))


def test_origins_weigh_the_same() -> None:
    """Mean over origins of the mean over households: ((0.2) + (0.0 + 0.1) / 2) / 2 = 0.125."""
    found = clustered_gain([{"a": 0.2}, {"a": 0.0, "b": 0.1}], resamples=200)
    assert found.mean == pytest.approx(0.125)
    assert found.n == 2


def test_bad_scores_are_refused() -> None:
    """Nothing, unequal lengths and NaN are refused with what was found."""
    with pytest.raises(ValueError, match="no household"):
        bootstrap_mean([])
    with pytest.raises(ValueError, match="2 and 1"):
        paired_gain([0.1, 0.2], [0.1])
    with pytest.raises(ValueError, match="1 scores that are not finite"):
        bootstrap_mean([0.1, float("nan")])
    with pytest.raises(ValueError, match="without households"):
        clustered_gain([{"a": 0.1}, {}])
