"""Offline quality of search: training scores the queries, monitoring judges the scores; both meet here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import structlog

from mercato.settings import Settings

if TYPE_CHECKING:
    from training.search_jobs import Loaded
    from training.search_quality import Judgments, Search

log = structlog.get_logger()
SERVED: Final = "served"
GATE: Final = "ndcg_judged"
"""The reading that must reach MIN_NDCG: an unjudged product is no evidence; catalogues outgrow their judgments."""
MIN_NDCG: Final = 0.65
"""nDCG@10 of the judged products that an index must reach."""
ASKED: Final = ("as written", "misspelt")
_MODES: Final = ("ndcg_at_10", "ndcg_judged")
_LIVE: Final = "_live"
"""What ends the columns of the live release."""
READINGS: Final[Mapping[str, Sequence[str]]] = {
    "nDCG@10 of judged products": (GATE,),
    "the mean of both readings of nDCG@10": _MODES,
}
"""What an index must not lose to the live release -> the columns that it is the mean of.

Judged products alone do not see unjudged ones push them off the first page. The first reading does, but falls for a
better search too, which finds what nobody judged. So what the first loses the second must win, beyond chance: the
measure by which a learned fusion ships.
"""
ANSWERED: Final[Mapping[str, Sequence[str]]] = {"queries answered as they must be": ("answered",)}
"""The same for `training.behaviour.answered`."""


def judge_index(settings: Settings, until: datetime) -> dict[str, Any]:
    """The verdict on the newest index: its fusion, recorded, its scores on the shop's golden set and its behaviours.

    What is learned ships when it beats reciprocal rank, cross-fitted, by more than the interval. A shop without a
    golden set, or with one of fewer than FEW_QUERIES queries, gets reciprocal rank and is judged by its behaviours.

    Raises:
        IndexNotGood: below MIN_NDCG, or worse than the live release (`refuse_losses`), or a behaviour of
            `training.behaviour` does not hold. The index stays out of releases until it is judged well.
    """
    from serving.runtime.fusion import Fusion
    from training import behaviour, fusion, golden, index, search_jobs

    draft = search_jobs.draft(settings, until)
    judged = {name: draft.sha256[name] for name in search_jobs.INDEXES}
    stated = golden.read(settings.shop) if golden.has(settings.shop) else None
    known = stated if stated is not None and len(stated.relevant) >= golden.FEW_QUERIES else None
    if stated is not None and known is None:
        log.warning("golden.too_few", queries=len(stated.relevant), needed=golden.FEW_QUERIES)
    chosen, wins, metrics, config = draft.fused_by(Fusion(None, judged)), False, {}, {}
    scores = pd.DataFrame()
    if known is not None:
        simple, fitted = (_scored(draft, known, learned=each) for each in (False, True))
        wins = beats(fitted, simple)
        scores = fitted if wins else simple
        refuse_low(scores)
        if wins:
            chosen = draft.fused_by(Fusion(fusion.fit(draft.engine, known, draft.understand), judged))
        before = search_jobs.live(settings)
        if before is not None:
            refuse_losses(chosen, before, known)
        recall = index.query_recall(draft.engine.base.vectors, draft.query_vectors(known.grades))
        metrics = {**{name: float(scores[name].mean()) for name in _MODES}, "recall_at_100": recall}
        config = {"unjudged": fusion.UNJUDGED, "ridge": fusion.RIDGE}
    found = behaviour.behaviours(chosen, stated)
    behaviour.refuse_misbehaving(found)
    shares = {each.name: each.found for each in found if each.queries}
    queries = {"queries": float(len(scores))} if known is not None else {}
    search_jobs.record_fusion(settings, until, chosen.engine.fusion, {**metrics, **shares, **queries}, config)
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

    gain = paired_gain(_mean(challenger, _MODES), _mean(rival, _MODES))
    return gain.positive


def refuse_low(scores: pd.DataFrame) -> None:
    """Raise IndexNotGood for a mean below MIN_NDCG."""
    from training.errors import IndexNotGood

    mean = float(scores[GATE].mean())
    if mean < MIN_NDCG:
        raise IndexNotGood(
            f"the new index reaches nDCG@10 {mean:.3f} on the golden set, needed {MIN_NDCG}; the live one stays: "
            "look at the worst queries with `mercato evaluate search`"
        )


def refuse_losses(new: Loaded, live: Loaded, known: Judgments) -> None:
    """Raise IndexNotGood where the new index does worse than the live release on the golden set.

    A learned fusion is cross-fitted on both sides: no query is scored under weights that learned from it. Scored are
    products that both hold: one that is new, or gone, says nothing of how well the others are found. Queries that find
    nothing are counted as the gateway answers them; of the live answer what is gone does not count.
    """
    from training.behaviour import answered

    held = {str(each) for each in new.engine.shelf.product_ids}
    shared = held.intersection(str(each) for each in live.engine.shelf.product_ids)
    refuse_worse(_compared(new, known, shared), _compared(live, known, shared), READINGS)
    refuse_worse(answered(new.answer, known, held), answered(live.answer, known, held), ANSWERED)


def refuse_worse(scores: pd.DataFrame, live: pd.DataFrame, readings: Mapping[str, Sequence[str]] = READINGS) -> None:
    """Raise IndexNotGood where a reading is worse than the live release's by more than its paired interval.

    Looked at are all queries as written, and each slice of `training.golden.FEW_QUERIES` or more.

    Args:
        scores: query, slice and the columns of the readings, a row per query and way of asking.
        live: the same of the live release.
        readings: what is compared -> the columns that it is the mean of.
    """
    from monitoring.statistics import paired_gain
    from training.errors import IndexNotGood

    both = scores.merge(live, on=["query", "slice"], suffixes=("", _LIVE))
    for name, part in _parts(both):
        for said, columns in readings.items():
            gain = paired_gain(_mean(part, columns), _mean(part, [column + _LIVE for column in columns]))
            if gain.high < 0:
                raise IndexNotGood(
                    f"on {name} the new index loses {-gain.mean:.3f} to the live release in {said} "
                    f"({gain.low:+.3f} to {gain.high:+.3f}); the live one stays: look at the worst queries with "
                    "`mercato evaluate search`"
                )


def _parts(both: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    from training.golden import FEW_QUERIES
    from training.search_quality import MISSPELT

    parts = [("all queries", both[both["slice"] != MISSPELT])]
    parts += [(f"the slice {name!r}", part) for name, part in both.groupby("slice")]
    yield from ((name, part) for name, part in parts if len(part) >= FEW_QUERIES)


def _compared(search: Loaded, known: Judgments, shared: Collection[str]) -> pd.DataFrame:
    """Scores of the queries as written, and of those that get a typo once more, misspelt, as the slice MISSPELT."""
    from training.search_quality import MISSPELT, gets_typo, misspelt

    score = partial(_scored, search, known, learned=search.engine.fusion.weights is not None, among=shared)
    typos = score(ask=misspelt)
    chosen = [gets_typo(known, query) for query in typos["query"]]
    return pd.concat([score(), typos[chosen].assign(slice=MISSPELT)])


def _scored(
    search: Loaded,
    known: Judgments,
    *,
    learned: bool,
    ask: Callable[[str], str] = str,
    among: Collection[str] | None = None,
) -> pd.DataFrame:
    """Scores by query; a learned fusion is cross-fitted. `among`: products whose places count; None: all."""
    from serving.runtime.fusion import Fusion
    from training import fusion, search_quality

    engine, understand = search.engine, search.understand

    def fitted(part: Judgments) -> Search:
        chosen = Fusion(fusion.fit(engine, part, understand)) if learned else engine.fusion
        found = search_quality.served(engine.fused_by(chosen), understand)
        return found if among is None else lambda query: [each for each in found(query) if each in among]

    return _sorted(pd.concat(search_quality.cross_fitted(fitted, known, ask=ask)))


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
    from training import behaviour, fit, golden, search_jobs, search_quality

    known = golden.read(settings.shop)
    release = search_jobs.of_release(settings, release_id)
    at = ArtefactStore(paths.lake(settings)).release(release_id).provenance.fit_until
    engine, understand = release.engine, release.understand
    learned = engine.fusion.weights is not None
    rivals = {
        "reciprocal rank": search_quality.served(engine.fused_by(Fusion()), understand),
        "as written": search_quality.served(engine, as_written),
        "keyword alone": search_quality.served(_without_encoder(engine).fused_by(Fusion())),
        "bm25": search_quality.bm25(fit.catalogue_rows(settings, at)),
    }
    rows = []
    for asked in ASKED:
        ask: Callable[[str], str] = search_quality.misspelt if asked == "misspelt" else str
        frames = {SERVED: _scored(release, known, learned=learned, ask=ask)}
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
        "fusion": "learned" if learned else "reciprocal rank",
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

    `found_nothing` is the share of queries without a product, before the gateway gives anything up to find one.

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
        said["found_nothing"] = round(float((frame["found"] == 0).mean()), 4)
        rows.append(said)
    return rows


def _mean(frame: pd.DataFrame, columns: Sequence[str]) -> Any:
    return frame[list(columns)].mean(axis=1).to_numpy()


def _sorted(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sort_values("query", ignore_index=True)


def _of_slice(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    return frame[frame["slice"] == name]


def _without_encoder(engine: Any) -> Any:
    from copy import copy

    other = copy(engine)
    other.encoder = None
    return other
