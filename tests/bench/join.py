"""The point-in-time join of a million rows with the product snapshots, beside `merge_asof` of pandas.

The rows are synthetic: products drawn evenly, at times drawn evenly from the weeks that have snapshots.
"""

import time
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from data_contracts.lake import connect
from data_contracts.partitions import manifests, part_path
from feature_repo import store
from feature_repo.views import TIMESTAMP, VIEWS, service_columns
from mercato import paths
from mercato.settings import Settings

ROWS = 1_000_000
TIMES = 5
"""Runs of each contender, in turn."""
SERVICE = "ranker_all_v1"


def measure(settings: Settings) -> list[dict[str, Any]]:
    """Per contender: the median of TIMES runs in seconds, rows per second, and snapshots joined."""
    (view,) = (name for name in service_columns(SERVICE) if VIEWS[name].key == "product_id")
    there = manifests(paths.lake(settings), "features", view)
    files = [part_path(paths.lake(settings), each) for each in there]
    snapshots = connect(threads=2).read_parquet(files, hive_partitioning=False).execute()
    first, last = snapshots[TIMESTAMP].min(), snapshots[TIMESTAMP].max() + pd.Timedelta(days=1)
    random = np.random.default_rng(0)
    seconds_later = pd.to_timedelta(random.integers(0, int((last - first).total_seconds()), ROWS), unit="s")
    products = random.choice(snapshots["product_id"].unique(), ROWS)
    rows = pd.DataFrame({"product_id": products, TIMESTAMP: (first + seconds_later).as_unit("us")})
    store.apply(settings)

    def ours() -> pd.DataFrame:
        return store.historical(settings, rows, SERVICE)

    def pandas() -> pd.DataFrame:
        left = rows.sort_values(TIMESTAMP)
        right = snapshots[["product_id", TIMESTAMP, *service_columns(SERVICE)[view]]].sort_values(TIMESTAMP)
        joined = pd.merge_asof(left, right, on=TIMESTAMP, by="product_id", tolerance=pd.Timedelta(VIEWS[view].ttl))
        return joined.set_axis(left.index).sort_index()

    answers: dict[str, pd.DataFrame] = {}
    taken: dict[str, list[float]] = {}
    for what, join in [("mercato", ours), ("pandas", pandas)] * TIMES:
        begun = time.monotonic()
        answers[what] = join()
        taken.setdefault(what, []).append(time.monotonic() - begun)
    found = []
    for what, each in taken.items():
        seconds = median(each)
        found.append({"what": what, "seconds": seconds, "per_second": ROWS / seconds, "snapshots": len(there)})
    feature = next(iter(service_columns(SERVICE)[view]))
    same = answers["mercato"][feature].isna() == answers["pandas"][feature].isna()
    assert same.mean() > 0.99, f"the joins differ on {(~same).sum()} rows"
    return found
