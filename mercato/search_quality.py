"""Offline quality of search: training scores the queries, monitoring judges the scores; both meet here."""

from collections.abc import Mapping
from typing import Any, Final

import pandas as pd

SERVED: Final = "served"


def summary(scores: Mapping[str, pd.DataFrame], *, asked: str) -> list[dict[str, Any]]:
    """One row per method over the same queries, with the served method's paired gain over each rival.

    Args:
        scores: method -> what `training.search_quality.score` returns; `served` is among them.
        asked: how the queries were asked ("as written", "misspelt").
    """
    from monitoring.statistics import bootstrap_mean, paired_gain
    from training.search_quality import SCORES

    rows = []
    own = scores[SERVED]
    for method, frame in scores.items():
        said: dict[str, Any] = {"asked": asked, "method": method, "queries": len(frame)}
        for name in SCORES:
            values = frame[name].to_numpy()
            said[name] = round(float(values.mean()), 4)
            if name in ("ndcg_at_10", "ndcg_judged"):
                interval = bootstrap_mean(values)
                gain = paired_gain(own[name].to_numpy(), values)
                said[f"{name}_interval"] = [round(interval.low, 4), round(interval.high, 4)]
                said[f"{name}_gain"] = (
                    None if method == SERVED else [round(each, 4) for each in (gain.mean, gain.low, gain.high)]
                )
        rows.append(said)
    return rows
