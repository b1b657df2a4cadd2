"""The one function of ranker features: hand-worked values, bounds, and what is missing."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.customer import CustomerFeatures
from feature_repo.ranker_features import (
    COLUMN,
    FEATURE_NAMES,
    GROUPS,
    NEVER_DAYS,
    PRODUCT_FEATURES,
    CandidateInputs,
    compute,
    descending_rank,
)

NOW = 1_512_363_600
DAY = 86_400
ROW: dict[str, Any] = {
    "snapshot_at": NOW,
    "product_ids": ["milk", "soap"],
    "n_purchases": [3, 1],
    "n_30d": [1, 1],
    "n_60d": [2, 1],
    "decayed_90d": [2.0, 0.9],
    "decayed_30d": [1.0, 0.7],
    "first_at": [NOW - 90 * DAY, NOW - 15 * DAY],
    "last_at": [NOW - 15 * DAY, NOW - 15 * DAY],
    "interval_days": [37.5, 0.0],
    "categories": ["DAIRY"],
    "category_affinity": [2.0],
    "category_n": [3],
    "category_last_at": [NOW - 15 * DAY],
    "n_baskets": 4,
    "n_baskets_60d": 3,
    "n_products": 2,
    "first_basket_at": NOW - 90 * DAY,
    "last_basket_at": NOW - 15 * DAY,
    "baskets_per_week": 0.3,
    "basket_minor": 250,
}


def customer(**changes: Any) -> CustomerFeatures:
    """The hand-made customer."""
    made = CustomerFeatures.from_row({**ROW, **changes})
    assert made is not None
    return made


def inputs(history: list[int], scores: dict[str, list[float]] | None = None) -> CandidateInputs:
    """Candidates at those history positions, of the only category."""
    n = len(history)
    return CandidateInputs(
        history=np.array(history, np.int64),
        category=np.array([0 if h == 0 else -1 for h in history], np.int64),
        scores={k: np.array(v, np.float32) for k, v in (scores or {}).items()},
        product=np.zeros((n, len(PRODUCT_FEATURES)), np.float32),
        first_sold_at=np.array([0] * n, np.int64),
        groups=np.array([[0] * n, [1] * n, [-1] * n], np.int64),
        history_groups=np.array([[0, 0], [1, 0], [-1, 5]], np.int64),
    )


def test_history_by_hand() -> None:
    """Milk: share 3 of 4 baskets, 3 in 90 days = 7 * 3 / 90 a week, overdue 15 / 37.5."""
    out = compute(customer(), inputs([0, 1, -1]), float(NOW))
    assert out[0, COLUMN["basket_share"]] == pytest.approx(3 / 4)
    assert out[0, COLUMN["weekly_rate"]] == pytest.approx(7 * 3 / 90)
    assert out[0, COLUMN["weekly_rate_60d"]] == pytest.approx(2 * 7 / 60)
    assert out[0, COLUMN["overdue"]] == pytest.approx(15 / 37.5)
    assert out[1, COLUMN["overdue"]] == -1.0
    assert out[0, COLUMN["category_share"]] == pytest.approx(1.0)
    assert out[0, COLUMN["share_of_category"]] == pytest.approx(1.0)


def test_never_bought() -> None:
    """A product never bought has counts of zero and NEVER_DAYS, not the numbers of another product."""
    out = compute(customer(), inputs([-1]), float(NOW))
    assert out[0, COLUMN["n_purchases"]] == 0
    assert out[0, COLUMN["days_since_last"]] == NEVER_DAYS
    assert out[0, COLUMN["category_days_since_last"]] == NEVER_DAYS


def test_affinity_to_a_group_counts_what_was_bought_of_it() -> None:
    """Milk 2.0 and soap .9, halved after 90 days: of one type together, of two sizes apart, of no brand nothing."""
    out = compute(customer(), inputs([-1]), float(NOW + 90 * DAY))[0]
    found = {name: out[COLUMN[f"{name}_affinity"]] for name in GROUPS}
    assert found == pytest.approx({"type": 1.45, "type_size": 1.0, "category_brand": 0.0})


def test_ages_follow_the_request() -> None:
    """90 days after the snapshot decayed counts are halved and ages have grown by 90 days."""
    out = compute(customer(), inputs([0]), float(NOW + 90 * DAY))
    assert out[0, COLUMN["decayed_90d"]] == pytest.approx(2.0 / 2)
    assert out[0, COLUMN["decayed_30d"]] == pytest.approx(1.0 / 8)
    assert out[0, COLUMN["days_since_last"]] == pytest.approx(105)


def test_absent_source_is_missing_not_zero() -> None:
    """A source that did not answer gives NaN scores and the last rank for all."""
    out = compute(customer(), inputs([0, 1], {"ease": [0.5, 0.1]}), float(NOW))
    assert np.isnan(out[:, COLUMN["als_score"]]).all()
    assert out[0, COLUMN["als_rank"]] == out[1, COLUMN["als_rank"]] == pytest.approx(np.log1p(2))
    assert out[0, COLUMN["ease_rank"]] == 0.0


def test_no_candidates() -> None:
    """No candidates give an empty matrix of the right width."""
    assert compute(customer(), inputs([]), float(NOW)).shape == (0, len(FEATURE_NAMES))


@given(st.lists(st.floats(-5, 5, width=32) | st.just(float("nan")), min_size=1, max_size=20))
def test_ranks(scores: list[float]) -> None:
    """Ranks order known scores downwards, and no unknown score stands before a known one."""
    values = np.array(scores, np.float32)
    ranks = descending_rank(values)
    known = ~np.isnan(values)
    best_first = values[known][np.argsort(ranks[known])]
    assert (np.diff(best_first) <= 0).all()
    if known.any() and (~known).any():
        assert ranks[~known].min() > ranks[known].max()


def test_rows_without_history_are_no_customer() -> None:
    """An online row of Nones (an unknown key) is nobody, so that cold start answers."""
    assert CustomerFeatures.from_row(dict.fromkeys(ROW)) is None
    assert CustomerFeatures.from_row({}) is None


def test_torn_row_is_refused() -> None:
    """Arrays of unequal length cannot be matched by position, and are refused by name."""
    with pytest.raises(ValueError, match="n_30d"):
        customer(n_30d=[1])
