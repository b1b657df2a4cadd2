"""Offline quality of the served artefacts, per household, with the baselines on the same households.

Intervals and verdicts belong to monitoring.statistics: this module only returns one row per household.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from feature_repo.customer import CustomerFeatures
from mercato.cores import on_every_core
from serving.runtime.artefacts import Artefacts
from serving.runtime.models import MODELS
from serving.runtime.pipeline import Goal, Request, rank
from training.baselines import BASELINES
from training.errors import NotEnoughData
from training.metrics import METRICS, all_metrics

GOALS: Final[tuple[Goal, ...]] = ("all", "novel")
SERVED: Final = "served"
"""Name of what rank() answers among the methods."""
K: Final = 10
"""Cut-off and list length."""
_BLOCK: Final = 256
Rows = NDArray[np.int64]


def evaluate(
    artefacts: Artefacts,
    customers: Mapping[str, CustomerFeatures],
    truth: Mapping[str, Sequence[str]],
    as_of: datetime,
    baselines: Sequence[str] = tuple(BASELINES),
) -> pd.DataFrame:
    """Metrics of each method for each household seen before and in the truth window.

    Args:
        artefacts: what is served; nothing in it may know the truth.
        customers: features as of `as_of`.
        truth: customer_key -> products bought in the window that starts at `as_of`; for `novel` those
            never bought before count, and households without any are left out.
        as_of: origin, zone-aware.
        baselines: names in BASELINES; retrieval models that the artefacts lack are skipped.

    Returns:
        Columns goal, customer_key, n_baskets, method (SERVED or a baseline), METRICS; in that order of rows.

    Raises:
        NotEnoughData: no household is in both.
    """
    both = [key for key in customers if truth.get(key)]
    if not both:
        raise NotEnoughData("found no household with both features and purchases in the window, needed at least one")
    names = [b for b in baselines if b not in MODELS or b in artefacts.models]

    def measured(key: str) -> list[tuple[Any, ...]]:
        relevant = _relevant(customers[key], truth[key], artefacts)
        return [
            (goal, key, customers[key].n_baskets, method, *all_metrics(served, relevant[goal], K))
            for goal, method, served in _served(customers[key], artefacts, as_of, names)
            if relevant[goal].size
        ]

    rows = list(chain.from_iterable(on_every_core(measured, both)))
    frame = pd.DataFrame(rows, columns=["goal", "customer_key", "n_baskets", "method", *METRICS])
    return frame.sort_values(["goal", "customer_key", "method"], kind="stable", ignore_index=True)


def _served(
    customer: CustomerFeatures, artefacts: Artefacts, as_of: datetime, baselines: Sequence[str]
) -> Iterator[tuple[Goal, str, Rows]]:
    """Goal, method and the catalogue rows it shows, best first: rank() itself, then the baselines."""
    catalogue = artefacts.catalogue
    history = catalogue.rows_of(customer.product_ids)
    for goal in GOALS:
        stages = rank(Request(n=K, goal=goal), customer, catalogue, artefacts, as_of)
        yield goal, SERVED, np.asarray([r.row for r in stages.results], np.int64)
    for name in baselines:
        scores = BASELINES[name](customer, artefacts, history)
        yield "all", name, _top(scores, K)
        scores[history[history >= 0]] = -np.inf
        yield "novel", name, _top(scores, K)


def _relevant(customer: CustomerFeatures, bought: Sequence[str], artefacts: Artefacts) -> dict[Goal, Rows]:
    """The truth per goal as row ids; products that the catalogue does not know get ids that nobody can serve."""
    own = set(customer.product_ids)
    index = artefacts.catalogue.index
    return {"all": _ids(bought, index), "novel": _ids([p for p in bought if p not in own], index)}


def _ids(bought: Sequence[str], index: Mapping[str, int]) -> Rows:
    """Distinct row ids, negative where the catalogue does not know the product."""
    return np.unique(np.asarray([index.get(p, -2 - i) for i, p in enumerate(sorted(set(bought)))], np.int64))


def _top(scores: NDArray[np.float64], k: int) -> Rows:
    """The k best rows, best first, ties by row.

    The k best are at least the k-th highest of the blocks' maxima, which leaves few rows to look at.
    """
    k = min(k, scores.size)
    rows = np.arange(scores.size)
    blocks = scores[: scores.size // _BLOCK * _BLOCK].reshape(-1, _BLOCK).max(axis=1, initial=-np.inf)
    if blocks.size >= k:
        rows = np.flatnonzero(scores >= np.partition(blocks, -k)[-k])
    few = scores[rows]
    best: Rows = rows[few >= np.partition(few, few.size - k)[few.size - k]]
    return best[np.argsort(-scores[best], kind="stable")][:k]


def per_household(frame: pd.DataFrame, goal: Goal, metric: str = METRICS[0]) -> pd.DataFrame:
    """One row per household (index customer_key), one column per method."""
    part = frame.loc[frame["goal"] == goal]
    return part.pivot_table(index="customer_key", columns="method", values=metric)
