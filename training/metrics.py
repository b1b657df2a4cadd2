"""Ranking metrics of one list against the products that were bought. Binary gains."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

METRICS: Final = ("ndcg_at_10", "recall_at_10", "hit_at_10")
"""Metrics of every evaluation, in column order."""


def ndcg_at_k(gains: NDArray[np.float64], n_relevant: int, k: int) -> float:
    """nDCG@k of one ranked list, in [0, 1]; NaN when nothing is relevant.

    Args:
        gains: (n,) 1.0 where the product in that place is relevant, in served order.
        n_relevant: relevant products in all, served or not.
        k: cut-off in positions, >= 1.

    Source: Jarvelin & Kekalainen, TOIS 2002; discount log2(rank + 1); ideal list of min(k, n_relevant).
    """
    if n_relevant == 0:
        return float("nan")
    top = gains[:k]
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    return float(top @ discounts[: top.size] / discounts[: min(k, n_relevant)].sum())


def recall_at_k(gains: NDArray[np.float64], n_relevant: int, k: int) -> float:
    """Share of the relevant products in the first k, in [0, 1]; NaN when nothing is relevant."""
    return float(gains[:k].sum() / n_relevant) if n_relevant else float("nan")


def hit_at_k(gains: NDArray[np.float64], n_relevant: int, k: int) -> float:
    """1 if any of the first k is relevant, else 0; NaN when nothing is relevant."""
    return float(gains[:k].any()) if n_relevant else float("nan")


def all_metrics(served: NDArray[np.int64], relevant: NDArray[np.int64], k: int = 10) -> tuple[float, float, float]:
    """The METRICS of one served list of ids against the distinct relevant ids."""
    gains = np.isin(served[:k], relevant).astype(np.float64)
    n = relevant.size
    return ndcg_at_k(gains, n, k), recall_at_k(gains, n, k), hit_at_k(gains, n, k)
