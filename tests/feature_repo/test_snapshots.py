"""Snapshots by hand on six purchases, and their independence of order and of the future."""

from datetime import UTC, datetime, timedelta

import ibis
import numpy as np
import pandas as pd
import pytest

from feature_repo import snapshots

T = datetime(2017, 12, 4, 5, tzinfo=UTC)
EMPTY_PROMOTIONS = pd.DataFrame(
    {
        "product_id": pd.Series(dtype=str),
        "store_id": pd.Series(dtype=str),
        "display_location": pd.Series(dtype=str),
        "mailer_location": pd.Series(dtype=str),
        "event_time": pd.Series(dtype="datetime64[us, UTC]"),
    }
)


def purchases(rows: list[tuple[str, str, str, float, int]]) -> pd.DataFrame:
    """customer, basket, product, days before T, cents."""
    frame = pd.DataFrame(rows, columns=["customer_key", "basket_id", "product_id", "days", "sales_minor"])
    at = [T - timedelta(days=d) for d in frame.pop("days")]
    return frame.assign(
        store_id="s", quantity=1, retail_discount_minor=0, event_time=pd.to_datetime(at, utc=True).as_unit("us")
    )


BOUGHT = purchases(
    [
        ("a", "1", "milk", 90, 100),
        ("a", "2", "milk", 45, 100),
        ("a", "3", "milk", 15, 130),
        ("a", "3", "milk", 15, 130),
        ("a", "3", "soap", 15, 300),
        ("b", "4", "milk", 3, 100),
    ]
)
PRODUCTS = pd.DataFrame({"product_id": ["milk", "soap", "tea", "cream"], "category": ["DAIRY", None, "TEA", "DAIRY"]})


def test_history_by_hand() -> None:
    """Milk: 3 baskets (one holds it twice), decayed 2^-1 + 2^-0.5 + 2^(-1/6), mean interval (90 - 15) / 2 days."""
    rows = snapshots.customer_history(ibis.memtable(BOUGHT), T).to_pandas().set_index("customer_key")
    a = rows.loc["a"]
    assert list(a["product_ids"]) == ["milk", "soap"]
    assert list(a["n_purchases"]) == [3, 1]
    assert list(a["n_30d"]) == [1, 1]
    assert list(a["n_60d"]) == [2, 1]
    assert a["decayed_90d"][0] == pytest.approx(2**-1 + 2**-0.5 + 2 ** (-1 / 6), abs=2e-6)
    assert list(a["interval_days"]) == [37.5, 0.0]
    assert a["last_at"][0] == T.timestamp() - 15 * 86_400
    assert a["snapshot_at"] == T.timestamp()


def test_profile_by_hand() -> None:
    """Customer a: 3 baskets, 760 cents, last 15 days ago, 3 baskets in 90 / 7 weeks; no category is OTHER."""
    rows = snapshots.customer_profile(ibis.memtable(BOUGHT), ibis.memtable(PRODUCTS), T).to_pandas()
    a = rows.set_index("customer_key").loc["a"]
    assert (a["n_baskets"], a["n_products"], a["spend_minor"], a["basket_minor"]) == (3, 2, 760, 253)
    assert a["recency_days"] == 15.0
    assert a["baskets_per_week"] == pytest.approx(3 / (90 / 7))
    assert list(a["categories"]) == ["DAIRY", "OTHER"]
    assert list(a["category_n"]) == [3, 1]


def stats(bought: pd.DataFrame, promotions: pd.DataFrame = EMPTY_PROMOTIONS) -> pd.DataFrame:
    """product_stats of the hand-made products."""
    tables = (ibis.memtable(bought), ibis.memtable(PRODUCTS), ibis.memtable(promotions))
    return snapshots.product_stats(*tables, T).to_pandas().set_index("product_id")


def test_product_stats_by_hand() -> None:
    """Milk: 4 baskets, 2 households, one of them came back; unit price 560 / 5; trend ln((4 * 1 + 1) / (2 + 1))."""
    milk = stats(BOUGHT).loc["milk"]
    assert (milk["n_7d"], milk["n_28d"], milk["n_91d"], milk["n_households"]) == (1, 2, 4, 2)
    assert milk["repeat_share"] == 0.5
    assert milk["repeat_interval_days"] == 37.5
    assert milk["price_minor"] == 560 // 5
    assert milk["trend"] == pytest.approx(np.log(5 / 3))


def test_unsold_product_has_a_row() -> None:
    """A product that nobody bought yet has zeros and a neutral price position, never a null."""
    found = stats(BOUGHT)
    assert not found.isna().any().any()
    assert (found.loc["tea", "n_364d"], found.loc["tea", "price_position"]) == (0, 0.5)


def test_promotion_of_the_last_week_begun() -> None:
    """Only the latest week counts, as a share of its stores; location 0 means none."""
    week = pd.to_datetime(["2017-11-20", "2017-11-27", "2017-11-27"], utc=True).as_unit("us")
    promoted = pd.DataFrame(
        {
            "product_id": ["soap", "milk", "tea"],
            "store_id": ["1", "1", "2"],
            "display_location": ["5", "5", "0"],
            "mailer_location": ["A", "0", "A"],
            "event_time": week,
        }
    )
    found = stats(BOUGHT, promoted)
    assert (found.loc["milk", "display_share"], found.loc["milk", "mailer_share"]) == (0.5, 0.0)
    assert (found.loc["tea", "mailer_share"], found.loc["soap", "on_promotion"]) == (0.5, 0)


def test_row_order_does_not_matter() -> None:
    """The same purchases in another order give equal frames, to the last bit of each float."""
    shuffled = BOUGHT.sample(frac=1.0, random_state=0)
    for frame, again in ((BOUGHT, shuffled),):
        first = snapshots.customer_history(ibis.memtable(frame), T).to_pandas()
        second = snapshots.customer_history(ibis.memtable(again), T).to_pandas()
        for column in first.columns:
            assert all(np.array_equal(x, y) for x, y in zip(first[column], second[column], strict=True))
    pd.testing.assert_frame_equal(stats(BOUGHT), stats(shuffled), check_exact=True)


def test_columns_are_the_declared_ones() -> None:
    """Each snapshot has its key, its declared columns and the time it is of, in that order."""
    t, p = ibis.memtable(BOUGHT), ibis.memtable(PRODUCTS)
    found = snapshots.product_stats(t, p, ibis.memtable(EMPTY_PROMOTIONS), T)
    assert list(found.columns) == ["product_id", *snapshots.PRODUCT_COLUMNS, "event_timestamp"]
    assert list(snapshots.customer_history(t, T).columns) == [
        "customer_key",
        *snapshots.HISTORY_COLUMNS,
        "event_timestamp",
    ]
    with pytest.raises(ValueError, match="without zone"):
        snapshots.epoch(T.replace(tzinfo=None))
