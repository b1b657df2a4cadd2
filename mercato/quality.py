"""Offline quality of a release: training scores the households, monitoring judges the scores; both meet here."""

from datetime import datetime, timedelta
from typing import Any, Final

from data_contracts.artefact_store import ArtefactStore
from data_contracts.lake import as_of
from data_contracts.partitions import manifests
from data_contracts.shop import load_shop
from mercato import paths
from mercato.paths import Lake
from mercato.settings import Settings

TRUTH_DAYS: Final = 28
"""Business days after the release's last fit whose purchases are the truth."""
FEW_BASKETS: Final = 15
"""Households with at most this many baskets are reported apart: they are the weak slice."""


def evaluate_release(settings: Settings, release_id: str) -> dict[str, Any]:
    """NDCG@10, Recall@10 and Hit@10 of a release's artefacts and of the baselines, on what came after its fit.

    Also written beside the release, where the page reads it.

    Raises:
        UnknownRelease, ArtefactRefused: the release is not there or not whole.
        NotEnoughData: the sales do not reach to the end of those weeks yet, or no household is known both before
            and in them.
    """
    from serving.runtime import artefacts
    from training import evaluate, fit
    from training.dataset import truth_of

    lake = paths.lake(settings)
    store = ArtefactStore(lake)
    manifest = store.release(release_id)
    loaded = artefacts.load(store.fetch(manifest))
    at = manifest.provenance.fit_until
    shop = load_shop(settings.shop)
    end = shop.day_start(shop.business_day(at) + timedelta(days=TRUTH_DAYS))
    _reaches(lake, end)
    customers = fit.customers(settings, at, _known_customers(lake, at))
    truth = truth_of(_purchases(lake, at, end), at, end)
    frame = evaluate.evaluate(loaded, customers, truth, at)
    result = {
        "release_id": release_id,
        "as_of": at.isoformat(),
        "truth": f"purchases from {at.isoformat()} until {end.isoformat()}, which no artefact has seen",
        "rows": summary(frame),
    }
    store.save_evaluation(release_id, result)
    return result


def summary(frame: Any) -> list[dict[str, Any]]:
    """One row per goal, slice of households and method, with the served method's paired gain over it.

    Args:
        frame: what `training.evaluate.evaluate` returns.
    """
    from monitoring.statistics import bootstrap_mean, paired_gain
    from training.evaluate import GOALS, SERVED, per_household
    from training.metrics import METRICS

    rows = []
    few = frame[frame["n_baskets"] <= FEW_BASKETS]
    for slice_, part in (("every household", frame), (f"at most {FEW_BASKETS} baskets", few)):
        for goal in GOALS:
            scores = {metric: per_household(part, goal, metric) for metric in METRICS}
            ndcg = scores[METRICS[0]]
            if ndcg.empty:
                continue
            for method in sorted(ndcg.columns, key=lambda name: -ndcg[name].mean()):
                interval = bootstrap_mean(ndcg[method].to_numpy())
                gain = paired_gain(ndcg[SERVED].to_numpy(), ndcg[method].to_numpy())
                rows.append(
                    {
                        "goal": goal,
                        "slice": slice_,
                        "method": method,
                        **{metric: round(float(scores[metric][method].mean()), 4) for metric in METRICS},
                        "interval": [round(interval.low, 4), round(interval.high, 4)],
                        "served_gain": None
                        if method == SERVED
                        else [round(gain.mean, 4), round(gain.low, 4), round(gain.high, 4)],
                        "households": interval.n,
                    }
                )
    return rows


def _reaches(lake: Lake, end: datetime) -> None:
    from training.errors import NotEnoughData

    shop, there = load_shop(lake.shop), manifests(lake, "clean", "transactions")
    last = shop.day_start(max(each.ds for each in there) + timedelta(days=1)) if there else None
    if last is None or last < end:
        raise NotEnoughData(
            f"found sales until {last and last.isoformat()}, need them until {end.isoformat()} to judge by; "
            "clean those days, or evaluate later"
        )


def _known_customers(lake: Lake, at: datetime) -> list[str]:
    rows = as_of(lake, "transactions", event_before=at, known_before=at)
    keys = rows.select("customer_key").drop_null("customer_key").distinct().order_by("customer_key")
    return [str(key) for key in keys.execute()["customer_key"]]


def _purchases(lake: Lake, since: datetime, until: datetime) -> Any:
    """What was bought in [since, until), known up to a day later."""
    rows = as_of(lake, "transactions", event_before=until, known_before=until + timedelta(days=1), since=since)
    return rows.select("customer_key", "product_id", "event_time").execute()
