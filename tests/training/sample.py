"""The 300 real households of tests/data as clean frames, snapshots and models, fitted once per session."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import ibis
import pandas as pd

from feature_repo import snapshots
from feature_repo.customer import CustomerFeatures
from serving.runtime.artefacts import Artefacts
from serving.runtime.catalogue import Catalogue
from serving.runtime.models import ItemModel
from training import als, copurchase, dataset, ease, knn, product_features

SOURCE = Path(__file__).parents[1] / "data" / "complete_journey_300"
SINCE = datetime(2017, 11, 6, 5, tzinfo=UTC)
"""End of shop week 45: features and retrieval models are as of here."""
UNTIL = datetime(2017, 12, 4, 5, tzinfo=UTC)
"""End of shop week 49: the truth lies between."""
FIRST_WEEK = pd.Timestamp("2016-12-26", tz="America/New_York")
"""Monday that begins shop week 1."""


@cache
def transactions() -> pd.DataFrame:
    """clean/transactions of the sample."""
    t = pd.read_parquet(SOURCE / "transactions.parquet")
    at = t["transaction_timestamp"].dt.tz_localize("UTC").astype("datetime64[us, UTC]")
    return pd.DataFrame(
        {
            "customer_key": "c" + t["household_id"].astype(str),
            **{name: t[name].astype(str) for name in ("basket_id", "product_id", "store_id")},
            "quantity": t["quantity"],
            "sales_minor": (t["sales_value"] * 100).round().astype("int64"),
            "retail_discount_minor": (t["retail_disc"] * 100).round().astype("int64"),
            "event_time": at,
            "known_at": at + timedelta(minutes=15),
        }
    )


@cache
def products() -> pd.DataFrame:
    """clean/products of the sample."""
    p = pd.read_parquet(SOURCE / "products.parquet").rename(columns={"product_category": "category"})
    return p.astype({"product_id": str, "manufacturer_id": str}).assign(name=None)


@cache
def promotions() -> pd.DataFrame:
    """clean/promotions of the sample."""
    p = pd.read_parquet(SOURCE / "promotions.parquet").astype({"product_id": str, "store_id": str})
    weeks = {w: (FIRST_WEEK + pd.DateOffset(days=7 * (w - 1))).tz_convert("UTC") for w in p["week"].unique()}
    at = p["week"].map(weeks).astype("datetime64[us, UTC]")
    return p.assign(event_time=at, known_at=at)


def known_before(frame: pd.DataFrame, at: datetime) -> ibis.Table:
    """What as_of(at, at) returns."""
    return ibis.memtable(frame[(frame["event_time"] < at) & (frame["known_at"] < at)])


@dataclass(frozen=True)
class World:
    """Everything as of one instant."""

    at: datetime
    history: pd.DataFrame
    profile: pd.DataFrame
    stats: pd.DataFrame
    catalogue: Catalogue
    models: dict[str, ItemModel]
    artefacts: Artefacts
    customers: dict[str, CustomerFeatures]


@cache
def world(at: datetime) -> World:
    """Snapshots and models of the sample at `at`."""
    t, p = known_before(transactions(), at), ibis.memtable(products())
    history = snapshots.customer_history(t, at).to_pandas()
    profile = snapshots.customer_profile(t, p, at).to_pandas()
    stats = snapshots.product_stats(t, p, known_before(promotions(), at), at).to_pandas()
    catalogue = product_features.fit(products(), stats, at)
    models: dict[str, ItemModel] = {
        "als": als.fit(als.ALSConfig(embedding_size=16, epochs=5), transactions(), at),
        "ease": ease.fit(ease.EASEConfig(items=1000), transactions(), at),
        "user_knn": knn.fit(knn.KNNConfig(k=50), transactions(), at),
        "co_purchase": copurchase.fit(copurchase.CoPurchaseConfig(min_baskets=5), transactions(), at),
    }
    customers = dataset.customers_of(history, profile)
    return World(at, history, profile, stats, catalogue, models, Artefacts.of(catalogue, models), customers)
