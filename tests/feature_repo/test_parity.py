"""Training and serving see the same features, and neither sees the future."""

from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from feature_repo import store
from feature_repo.online import OnlineReader
from feature_repo.views import SERVICES, VIEWS, service_columns
from feature_repo.writer import write_snapshots
from mercato.paths import Lake
from mercato.settings import Settings
from tests.feature_repo.clean_sample import DAY, SHOP, WEEK, T, transactions, write

FUTURE, LATE = "999999901", "999999902"


def customers(at: pd.Timestamp | None = None) -> pd.DataFrame:
    keys = sorted(transactions().query("event_time < @T")["customer_key"].unique())
    return pd.DataFrame({"customer_key": keys, "event_timestamp": at or pd.Timestamp(T)})


def same(left: Any, right: Any) -> bool:
    if isinstance(left, (list, np.ndarray)):
        return list(left) == list(right)
    return bool(left == right)


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_historical_features_equal_online_features_of_the_same_time(online: Settings, service: str) -> None:
    """For each service, every customer feature joined at T is the one read online after materialising T."""
    joined = store.historical(online, customers(), service)
    reader = OnlineReader(online)
    assert len(joined) == len(customers()) > 50
    features = [name for view, columns in service_columns(service).items() if VIEWS[view].online for name in columns]
    for row in joined.to_dict("records"):
        read = reader.customer(row["customer_key"])
        assert read is not None
        assert [name for name in features if not same(row[name], read[name])] == []


def test_neither_a_future_row_nor_a_late_correction_is_seen(online: Settings, lake: Lake) -> None:
    """A purchase after T, one before T known after T, and a correction known after T change nothing at T."""
    bought = transactions()
    before = [snapshot.sha256 for snapshot in write_snapshots(lake, T)]
    last = bought[bought["event_time"] < T].iloc[-1].to_dict()
    planted = pd.DataFrame(
        [
            last | {"basket_id": "1", "product_id": FUTURE, "event_time": T + DAY, "known_at": T + DAY},
            last | {"basket_id": "2", "product_id": LATE, "event_time": T - DAY, "known_at": T + DAY},
            last | {"sales_minor": 1, "known_at": T + DAY + timedelta(hours=1)},
        ]
    )
    day = bought[bought["known_at"].between(pd.Timestamp(T + DAY), pd.Timestamp(T + 2 * DAY), inclusive="left")]
    write(lake, "transactions", pd.concat([day, planted]).astype(bought.dtypes))
    assert [snapshot.sha256 for snapshot in write_snapshots(lake, T)] == before

    write_snapshots(lake, T + WEEK)
    store.materialize(online, T, T)
    entity = customers()[lambda frame: frame["customer_key"] == last["customer_key"]]
    at_t = store.historical(online, entity, "ranker_all_v1").iloc[0]
    read = OnlineReader(online).customer(last["customer_key"])
    assert read is not None
    for ids in (at_t["product_ids"], read["product_ids"]):
        assert FUTURE not in list(ids)
        assert LATE not in list(ids)
    assert at_t["spend_minor"] == read["spend_minor"]
    later = store.historical(online, entity.assign(event_timestamp=pd.Timestamp(T + WEEK)), "ranker_all_v1").iloc[0]
    assert {FUTURE, LATE} <= set(later["product_ids"])


def test_each_row_gets_the_newest_snapshot_not_after_it(online: Settings) -> None:
    """Just before T + 7 days the snapshot of T is joined, at T + 7 days its own, in the order of the entities."""
    tick = timedelta(microseconds=1)
    times = [T + WEEK, T, T + WEEK - tick, T - tick, T + 2 * WEEK + tick]
    entity = pd.DataFrame({"customer_key": customers()["customer_key"][0], "event_timestamp": pd.to_datetime(times)})
    found = store.historical(online, entity, "ranker_all_v1")["snapshot_at"]
    expected = [(T + WEEK).timestamp(), T.timestamp(), T.timestamp(), None, None]
    assert [None if pd.isna(value) else value for value in found] == expected


def test_a_row_without_its_key_gets_nothing(online: Settings) -> None:
    """Keys are compared as text; a missing one is no text, and an unknown one nobody's."""
    ids = [transactions()["product_id"].iloc[0], None, "nobody's"]
    found = store.historical(
        online,
        pd.DataFrame({"product_id": pd.Series(ids, dtype=object), "event_timestamp": pd.Timestamp(T)}),
        "ranker_all_v1",
    )
    assert found["price_minor"].notna().tolist() == [True, False, False]
    assert found["product_id"].tolist() == ids
    numbers = pd.DataFrame({"product_id": [int(ids[0])], "event_timestamp": pd.Timestamp(T)})
    assert store.historical(online, numbers, "ranker_all_v1")["price_minor"].notna().all()


def test_products_are_joined_without_their_customers(online: Settings) -> None:
    """An entity frame with `product_id` alone joins the product views of the service alone."""
    ids = sorted(transactions()["product_id"].unique())[:500]
    found = store.historical(
        online, pd.DataFrame({"product_id": ids, "event_timestamp": pd.Timestamp(T)}), "ranker_all_v1"
    )
    assert list(found.columns) == ["product_id", "event_timestamp", *VIEWS["product_stats"].columns]
    assert list(found["product_id"]) == ids
    assert found["price_minor"].notna().all()


def test_a_correction_of_a_materialised_snapshot_reaches_the_online_store(online: Settings, lake: Lake) -> None:
    """A snapshot written again with other values at the same T replaces the online values."""
    bought = transactions()
    row = bought[bought["event_time"] < T].iloc[-1].to_dict()
    day = bought[[SHOP.business_day(at) == SHOP.business_day(row["known_at"]) for at in bought["known_at"]]]
    extra = pd.DataFrame([row | {"basket_id": "3", "product_id": LATE}]).astype(bought.dtypes)
    write(lake, "transactions", pd.concat([day, extra]))
    write_snapshots(lake, T)
    store.materialize(online, T, T)
    read = OnlineReader(online).customer(row["customer_key"])
    assert read is not None
    assert LATE in read["product_ids"]
