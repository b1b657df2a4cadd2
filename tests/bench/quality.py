"""Quality over four origins: the served method against every baseline, on weeks that nothing was fitted on.

At each origin the whole chain is trained as the DAGs train it (labels: the four weeks before the origin),
written to files, loaded again as the gateway loads them, and scored on the four weeks after.
"""

import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from data_contracts.shop import load_shop
from feature_repo import store, writer
from mercato import paths
from mercato.quality import FEW_BASKETS, TRUTH_DAYS, summary
from mercato.settings import Settings
from monitoring.statistics import clustered_gain
from serving.runtime import artefacts
from serving.runtime.artefacts import RANKERS, Artefacts
from training import dataset, evaluate, feedback, fit, ranker

ORIGIN_WEEKS = (37, 41, 45, 49)
"""Features as of the end of these shop weeks; the truth is the four weeks after each."""
RIVALS = {"all": ("decay_popularity",), "novel": ("als", "ease", "popularity")}
"""Goal -> the baselines that must be beaten (the best of them)."""


def origin(settings: Settings, week: int) -> datetime:
    """The instant at which a shop week is over."""
    return load_shop(settings.shop).week_start(week + 1)


def train(settings: Settings, at: datetime, folder: Path) -> Artefacts:
    """Every ranking artefact fitted until `at`, through files."""
    shown = feedback.outcomes(paths.lake(settings), feedback.DEFAULT, at)
    rows, pipeline = fit.ranker_rows(settings, at, shown)
    configs = {"all": ranker.ALL, "novel": ranker.NOVEL}
    files = {
        RANKERS[goal]: ranker.train(config, rows[goal], pipeline).save(folder / goal)
        for goal, config in configs.items()
    }
    del rows
    lake = paths.lake(settings)
    writer.write_snapshots(lake, at)
    store.apply(settings)
    files["product_features"] = fit.fit_catalogue(settings, at).save(folder / "features")
    for name in fit.MODELS:
        files[name] = fit.fit_model(lake, name, at).save(folder / name)
    return artefacts.load(files)


def households(settings: Settings) -> Iterator[tuple[int, pd.DataFrame]]:
    """(week, one row per household, goal and method) of each origin."""
    shop = load_shop(settings.shop)
    lake = paths.lake(settings)
    for week in ORIGIN_WEEKS:
        at = origin(settings, week)
        end = shop.day_start(shop.business_day(at) + timedelta(days=TRUTH_DAYS))
        with tempfile.TemporaryDirectory() as folder:
            trained = train(settings, at, Path(folder))
            bought = fit.purchases(lake, end)
            keys = sorted(bought.loc[bought["event_time"] < at, "customer_key"].unique().tolist())
            customers = fit.customers(settings, at, keys)
            truth = dataset.truth_of(bought, at, end)
            yield week, evaluate.evaluate(trained, customers, truth, at)


def measure(settings: Settings) -> dict[str, Any]:
    """Per origin the table of methods; over all origins the paired gain over the best rival, with its interval."""
    origins, frames = [], []
    for week, frame in households(settings):
        frames.append(frame)
        origins.append({"week": week, "rows": summary(frame)})
    gains = {}
    for goal, rivals in RIVALS.items():
        tables = [evaluate.per_household(frame, goal) for frame in frames]
        best = max(rivals, key=lambda name: sum(table[name].mean() for table in tables))
        paired = [(table[evaluate.SERVED] - table[best]).to_dict() for table in tables]
        interval = clustered_gain(paired)
        gains[goal] = {"over": best, "gain": interval.mean, "low": interval.low, "high": interval.high}
    few = [evaluate.per_household(frame[frame["n_baskets"] <= FEW_BASKETS], "all") for frame in frames]
    interval = clustered_gain([(table[evaluate.SERVED] - table["frequency"]).to_dict() for table in few])
    gains[f"all, at most {FEW_BASKETS} baskets"] = {
        "over": "frequency",
        "gain": interval.mean,
        "low": interval.low,
        "high": interval.high,
    }
    return {"origins": origins, "gains": gains}
