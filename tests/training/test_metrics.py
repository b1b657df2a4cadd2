"""Metrics by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.metrics import all_metrics, hit_at_k, ndcg_at_k, recall_at_k


def test_ndcg_by_hand() -> None:
    """Hits at places 1 and 3 of 3 relevant: (1/log2 2 + 1/log2 4) / (1/log2 2 + 1/log2 3 + 1/log2 4)."""
    gains = np.array([1.0, 0.0, 1.0])
    assert ndcg_at_k(gains, 3, 10) == pytest.approx((1 + 1 / 2) / (1 + 1 / np.log2(3) + 1 / 2))
    assert recall_at_k(gains, 3, 10) == pytest.approx(2 / 3)
    assert hit_at_k(gains, 3, 10) == 1.0


def test_nothing_relevant_is_nan() -> None:
    """A household that bought nothing has no quality, not a quality of zero."""
    assert np.isnan(ndcg_at_k(np.zeros(3), 0, 10))
    assert np.isnan(recall_at_k(np.zeros(3), 0, 10))


@given(st.lists(st.integers(0, 30), unique=True, min_size=1), st.sets(st.integers(0, 30), min_size=1))
def test_bounds(served: list[int], relevant: set[int]) -> None:
    """All metrics lie in [0, 1], and serving the relevant products first gives an nDCG of 1."""
    truth = np.array(sorted(relevant))
    values = all_metrics(np.array(served), truth)
    assert all(0.0 <= v <= 1.0 + 1e-12 for v in values)
    assert all_metrics(truth, truth)[0] == pytest.approx(1.0)
