"""Fitting on the lake: a retrieval model or the catalogue at an instant, and all that a ranker learns from."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import pandas as pd
import pyarrow as pa
from pydantic import BaseModel
from threadpoolctl import threadpool_limits

from data_contracts.lake import as_of
from data_contracts.shop import load_shop
from feature_repo.customer import CustomerFeatures
from feature_repo.snapshots import PRODUCT_COLUMNS
from mercato import paths
from mercato.paths import Lake
from mercato.settings import Settings
from mercato.stores.events import microseconds
from mercato.stores.products import product_store
from serving.runtime.artefacts import Artefacts
from serving.runtime.catalogue import Catalogue
from serving.runtime.config import PipelineConfig
from serving.runtime.models import ItemModel
from training.als import ALSConfig
from training.copurchase import CoPurchaseConfig
from training.dataset import RankerRows
from training.ease import EASEConfig
from training.errors import NotEnoughData
from training.knn import KNNConfig
from training.purchases import COLUMNS
from training.reads import SERVICES_READ

LABEL_DAYS: Final = 28
"""Business days before `until` whose purchases are the ranker's labels."""
MODELS: Final[Mapping[str, BaseModel]] = {
    "als": ALSConfig(),
    "ease": EASEConfig(),
    "user_knn": KNNConfig(),
    "co_purchase": CoPurchaseConfig(),
}
"""Retrieval model -> its config."""


_NULLABLE: Final = {"list_price_minor": "Int64", "in_stock": "boolean"}
"""Columns of clean/products whose NumPy types hold no null; a product put through the gateway may lack each."""
_NO_STATS: Final = pd.DataFrame(
    {"product_id": pd.Series(dtype="str"), **{name: pd.Series(dtype="float64") for name in PRODUCT_COLUMNS}}
)
"""Product features of a shop without sales."""


@dataclass(frozen=True, slots=True)
class Past:
    """The world as of `since`, and the purchases that followed until `until`."""

    artefacts: Artefacts
    customers: Mapping[str, CustomerFeatures]
    purchases: pd.DataFrame
    since: datetime
    until: datetime


def label_start(settings: Settings, until: datetime) -> datetime:
    """The shop's midnight `LABEL_DAYS` business days before `until`."""
    shop = load_shop(settings.shop)
    return shop.day_start(shop.business_day(until) - timedelta(days=LABEL_DAYS))


def purchases(lake: Lake, until: datetime) -> pd.DataFrame:
    """Purchases that happened and were known before `until`: columns of `training.purchases.COLUMNS`."""
    rows = as_of(lake, "transactions", event_before=until, known_before=until)
    frame: pd.DataFrame = rows.select(*COLUMNS).order_by(*COLUMNS).execute()
    return frame


def fit_model(lake: Lake, name: str, until: datetime, bought: pd.DataFrame | None = None) -> ItemModel:
    """One retrieval model on purchases before `until` (`bought`, when they were read already)."""
    from training import als, copurchase, ease, knn

    fits: Mapping[str, Any] = {"als": als.fit, "ease": ease.fit, "user_knn": knn.fit, "co_purchase": copurchase.fit}
    model: ItemModel = fits[name](MODELS[name], purchases(lake, until) if bought is None else bought, until)
    return model


def catalogue_rows(settings: Settings, at: datetime) -> pd.DataFrame:
    """clean/products as of `at` with what the gateway was told before it, one row per product, in product_id order.

    Of a product that both know, the later one holds: a change counts unless the source's row is newer.
    """
    products: pd.DataFrame = as_of(paths.lake(settings), "products", event_before=at, known_before=at).execute()
    products = products.astype(_NULLABLE)
    held = dict(zip(products["product_id"], products["event_time"], strict=True))
    changes = [
        each
        for each in product_store(settings).between(settings.shop, 0, microseconds(at))
        if each.product_id not in held or microseconds(held[each.product_id]) <= each.changed_at
    ]
    if changes:
        changed = {each.product_id for each in changes}
        put = [
            {**each.body, "product_id": each.product_id, "event_time": at, "known_at": at}
            for each in changes
            if each.body is not None
        ]
        added = pd.DataFrame(put).reindex(columns=products.columns).astype(products.dtypes)
        products = pd.concat([products[~products["product_id"].isin(changed)], added])
    return products.sort_values("product_id", ignore_index=True)


def fit_catalogue(settings: Settings, at: datetime) -> Catalogue:
    """The catalogue with the product features of the snapshot at `at`, read through the feature store.

    A shop without sales has no such features: they are zero.
    """
    from feature_repo.store import historical
    from training import product_features

    products = catalogue_rows(settings, at)
    if not load_shop(settings.shop).sells:
        return product_features.fit(products, _NO_STATS, at)
    entities = pd.DataFrame({"product_id": products["product_id"], "event_timestamp": pd.Timestamp(at)})
    stats = historical(settings, entities, SERVICES_READ["product_features"])
    return product_features.fit(products, stats, at)


def customers(settings: Settings, at: datetime, keys: list[str]) -> dict[str, CustomerFeatures]:
    """customer_key -> features of the snapshot at `at`, read through the feature store."""
    from feature_repo.store import historical
    from training.dataset import customers_of

    entities = pd.DataFrame({"customer_key": keys, "event_timestamp": pd.Timestamp(at)})
    frame = historical(settings, entities, "ranker_all_v1")
    return customers_of(frame, frame)


def past(settings: Settings, until: datetime) -> Past:
    """Retrieval models, catalogue and customers as of the first label, and the purchases up to `until`."""
    from feature_repo import store, writer

    lake = paths.lake(settings)
    since = label_start(settings, until)
    store.apply(settings)
    writer.write_snapshots(lake, since)
    bought = purchases(lake, until)
    before = bought[bought["event_time"] < since]
    models = {name: fit_model(lake, name, since, before) for name in MODELS}
    artefacts = Artefacts.of(fit_catalogue(settings, since), models)
    keys = sorted(before["customer_key"].dropna().unique().tolist())
    return Past(artefacts, customers(settings, since, keys), bought, since, until)


def ranker_rows(settings: Settings, until: datetime, shown: pa.Table) -> tuple[dict[str, RankerRows], PipelineConfig]:
    """Goal -> the rows that its ranker learns from, and the candidate settings they were made with.

    `all` learns from the last label window before `until`, `novel` from the last `NOVEL_WINDOWS` (fewer, when the
    history is too short). In each window everything but the labels is as of the window's beginning. Both learn from
    what was `shown` as well (`training.feedback.outcomes`), once that has led to enough.
    """
    from training import dataset, feedback
    from training.ranker import NOVEL_WINDOWS

    windows: list[RankerRows] = []
    end, config = until, PipelineConfig()
    for _ in range(NOVEL_WINDOWS):
        try:
            with threadpool_limits(1):  # sums of floats depend on how many threads share them
                then = past(settings, end)
                built = dataset.build(then.artefacts, then.customers, then.purchases, then.since, end)
        except NotEnoughData:
            if not windows:
                raise
            break
        windows.append(built if not windows else dataset.only_novel(built))
        end, config = then.since, then.artefacts.config
    novel = dataset.concatenate([dataset.only_novel(windows[0]), *windows[1:]])
    learned = feedback.ranker_rows(shown, feedback.DEFAULT, until)
    return feedback.joined({"all": windows[0], "novel": novel}, learned), config
