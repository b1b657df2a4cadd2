"""Offline quality of search: training scores the queries, monitoring judges the scores; both meet here."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

import numpy as np
import pandas as pd

from mercato.settings import Settings

SERVED: Final = "served"
GATE: Final = "ndcg_judged"
"""The reading that gates: an unjudged product is no evidence, as the catalogue grows past its judgments."""
MIN_NDCG: Final = 0.65
"""nDCG@10 of the judged products that an index must reach."""
FEW_QUERIES: Final = 5
"""Queries that a slice needs before it is judged by itself."""
ASKED: Final = ("as written", "misspelt")
_MODES: Final = ("ndcg_at_10", "ndcg_judged")


def judge_index(settings: Settings, until: datetime) -> dict[str, Any]:
    """The verdict on the newest index: its fusion, recorded, its scores on the shop's golden set and its behaviours.

    What is learned ships when it beats reciprocal rank, cross-fitted, by more than the interval. A shop without a
    golden set gets reciprocal rank, and is judged by the behaviours that need no golden set.

    Raises:
        IndexNotGood: below MIN_NDCG, or a slice is worse than the live release by more than its interval, or a
            behaviour of `training.behaviour` does not hold. The index stays out of releases until it is judged well.
    """
    from serving.runtime.fusion import Fusion
    from training import behaviour, fusion, golden, search_jobs, search_quality

    draft = search_jobs.draft(settings, until)
    judged = {name: draft.sha256[name] for name in search_jobs.INDEXES}
    known = golden.read(settings.shop) if golden.has(settings.shop) else None
    chosen, wins, metrics, config = Fusion(None, judged), False, {}, {}
    scores = pd.DataFrame()
    if known is not None:

        def learned(part: search_quality.Judgments) -> search_quality.Search:
            weights = fusion.fit(draft.engine, part, draft.understand)
            return search_quality.served(draft.engine.fused_by(Fusion(weights)), draft.understand)

        simple = search_quality.score(search_quality.served(draft.engine, draft.understand), known)
        fitted = _sorted(pd.concat(search_quality.cross_fitted(learned, known)))
        wins = beats(fitted, simple)
        chosen = Fusion(fusion.fit(draft.engine, known, draft.understand) if wins else None, judged)
        scores = fitted if wins else simple
        now = search_quality.score(search_quality.served(draft.engine.fused_by(chosen), draft.understand), known)
        before = search_jobs.live(settings)
        rival = None
        if before is not None:
            rival = search_quality.score(search_quality.served(before.engine, before.understand), known)
        refuse_worse(now, rival)
        metrics = {name: float(scores[name].mean()) for name in _MODES}
        config = {"unjudged": fusion.UNJUDGED, "ridge": fusion.RIDGE}
    found = behaviour.behaviours(draft.fused_by(chosen), known)
    behaviour.refuse_misbehaving(found)
    shares = {each.name: each.found for each in found if each.queries}
    queries = {"queries": float(len(scores))} if known is not None else {}
    search_jobs.record_fusion(settings, until, chosen, {**metrics, **shares, **queries}, config)
    return {
        "shop": settings.shop,
        "fusion": "learned" if wins else "reciprocal rank",
        **metrics,
        "golden": len(scores),
        "behaviours": {each.name: str(each) for each in found},
    }


def beats(challenger: pd.DataFrame, rival: pd.DataFrame) -> bool:
    """Whether the mean of both readings gains by more than the interval over the same queries."""
    from monitoring.statistics import paired_gain

    gain = paired_gain(_both(challenger), _both(rival))
    return gain.positive


def refuse_worse(scores: pd.DataFrame, live: pd.DataFrame | None) -> None:
    """Raise IndexNotGood for a mean below MIN_NDCG, or a slice worse than the live release beyond its interval."""
    from monitoring.statistics import paired_gain
    from training.errors import IndexNotGood

    mean = float(scores[GATE].mean())
    if mean < MIN_NDCG:
        raise IndexNotGood(
            f"the new index reaches nDCG@10 {mean:.3f} on the golden set, needed {MIN_NDCG}; the live one stays: "
            "look at the worst queries with `mercato evaluate search`"
        )
    if live is None:
        return
    both = scores.merge(live, on=["query", "slice"], suffixes=("", "_live"))
    for name, part in both.groupby("slice"):
        if len(part) >= FEW_QUERIES:
            gain = paired_gain(part[GATE].to_numpy(), part[f"{GATE}_live"].to_numpy())
            if gain.high < 0:
                raise IndexNotGood(
                    f"on the slice {name!r} the new index loses {-gain.mean:.3f} nDCG@10 to the live release "
                    f"({gain.low:+.3f} to {gain.high:+.3f}); the live one stays"
                )


def evaluate_search(settings: Settings, release_id: str) -> dict[str, Any]:
    """Scores of a release's search on the golden set, as written and misspelt, beside its rivals; its behaviours.

    A learned fusion is measured cross-fitted: each query under weights learned from the other folds.

    Raises:
        UnknownRelease, ArtefactRefused: the release is not there or not whole.
        NotEnoughData: the shop has no golden set.
    """
    from data_contracts.artefact_store import ArtefactStore
    from mercato import paths
    from serving.runtime.fusion import Fusion
    from serving.runtime.understanding import as_written
    from training import behaviour, fit, fusion, golden, search_jobs, search_quality

    known = golden.read(settings.shop)
    release = search_jobs.of_release(settings, release_id)
    at = ArtefactStore(paths.lake(settings)).release(release_id).provenance.fit_until
    engine, understand = release.engine, release.understand

    def refitted(part: search_quality.Judgments) -> search_quality.Search:
        chosen = engine.fusion if engine.fusion.weights is None else Fusion(fusion.fit(engine, part, understand))
        return search_quality.served(engine.fused_by(chosen), understand)

    rivals = {
        "reciprocal rank": search_quality.served(engine.fused_by(Fusion()), understand),
        "as written": search_quality.served(engine, as_written),
        "keyword alone": search_quality.served(_without_encoder(engine).fused_by(Fusion())),
        "bm25": search_quality.bm25(fit.catalogue_rows(settings, at)),
    }
    rows = []
    for asked in ASKED:
        ask: Callable[[str], str] = search_quality.misspelt if asked == "misspelt" else str
        frames = {SERVED: _sorted(pd.concat(search_quality.cross_fitted(refitted, known, ask=ask)))}
        frames |= {name: search_quality.score(each, known, ask) for name, each in rivals.items()}
        rows += summary(frames, asked=asked)
        rows += [
            row
            for name in sorted(set(frames[SERVED]["slice"]))
            for row in summary({SERVED: _of_slice(frames[SERVED], name)}, asked=f"{asked}, {name}")
        ]
    return {
        "release_id": release_id,
        "as_of": at.isoformat(),
        "fusion": "learned" if engine.fusion.weights else "reciprocal rank",
        "rows": rows,
        "behaviours": {each.name: str(each) for each in behaviour.behaviours(release, known)},
        **timed(search_quality.served(engine, understand, n=10), sorted(known.grades)),
    }


def timed(search: Callable[[str], Any], queries: list[str]) -> dict[str, float]:
    """Milliseconds of one query, one after the other: p50 and p95."""
    import time

    took = []
    for query in queries:
        since = time.perf_counter()
        search(query)
        took.append(1000 * (time.perf_counter() - since))
    return {f"p{q}_ms": round(float(np.percentile(took, q)), 2) for q in (50, 95)}


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
            if name in _MODES:
                interval = bootstrap_mean(values)
                gain = paired_gain(own[name].to_numpy(), values)
                said[f"{name}_interval"] = [round(interval.low, 4), round(interval.high, 4)]
                said[f"{name}_gain"] = (
                    None if method == SERVED else [round(each, 4) for each in (gain.mean, gain.low, gain.high)]
                )
        rows.append(said)
    return rows


def _both(frame: pd.DataFrame) -> Any:
    return frame[list(_MODES)].mean(axis=1).to_numpy()


def _sorted(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sort_values("query", ignore_index=True)


def _of_slice(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    return frame[frame["slice"] == name]


def _without_encoder(engine: Any) -> Any:
    from copy import copy

    other = copy(engine)
    other.encoder = None
    return other
