"""Ranker rows: stages 1 and 2 of the served pipeline for each household, labelled with what it bought next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from feature_repo.customer import CustomerFeatures
from feature_repo.ranker_features import FEATURE_NAMES
from mercato.cores import on_every_core
from serving.runtime.artefacts import Artefacts
from serving.runtime.pipeline import featurise, retrieve
from training.errors import BadConfig, FittedPastLabel, NotEnoughData

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RankerRows:
    """q groups of candidates, all negatives kept.

    Attributes:
        features: (n, len(FEATURE_NAMES)) float32, groups one after the other.
        labels: (n,) uint8, above 0 where the household bought the product in the window; of feedback, the grade.
        seen: (n,) bool, where the household had bought it before.
        groups: (q,) rows per household; of feedback, per request.
        since, until: the label window [since, until); features are as of `since`.
        relevant: products bought in the window that were, and were not, among the candidates.
        weights: (n,) float32, how much a row counts: 1, or more where it was rarely shown (`training.feedback`).
    """

    features: Floats
    labels: NDArray[np.uint8]
    seen: NDArray[np.bool_]
    groups: NDArray[np.int64]
    since: datetime
    until: datetime
    relevant: tuple[int, int]
    weights: Floats


def truth_of(purchases: pd.DataFrame, since: datetime, until: datetime) -> dict[str, list[str]]:
    """customer_key -> product ids (ascending) bought in [since, until)."""
    inside = purchases.loc[(purchases["event_time"] >= since) & (purchases["event_time"] < until)]
    pairs = (
        inside[["customer_key", "product_id"]].dropna().drop_duplicates().sort_values(["customer_key", "product_id"])
    )
    return {str(key): group.astype(str).tolist() for key, group in pairs.groupby("customer_key")["product_id"]}


def customers_of(history: pd.DataFrame, profile: pd.DataFrame) -> dict[str, CustomerFeatures]:
    """customer_key -> features, from both snapshots (or from one Feast frame given twice)."""
    profiles = {str(row["customer_key"]): row for row in _records(profile)}
    found: dict[str, CustomerFeatures] = {}
    for row in _records(history):
        key = str(row["customer_key"])
        customer = CustomerFeatures.from_row({**profiles.get(key, {}), **row})
        if customer is not None:
            found[key] = customer
    return dict(sorted(found.items()))


def _records(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """One mapping per row."""
    columns = [str(c) for c in frame.columns]
    for values in frame.itertuples(index=False, name=None):
        yield dict(zip(columns, values, strict=True))


def check_fit(artefacts: Artefacts, since: datetime) -> None:
    """Refuses artefacts that have seen the label window.

    Raises:
        FittedPastLabel: naming each one and its fit_until.
    """
    late = {name: at.isoformat() for name, at in artefacts.fit_until().items() if at > since}
    if late:
        raise FittedPastLabel(
            f"found {late}, needed fit_until <= {since.isoformat()} (first label); fit them at that date"
        )


def build(
    artefacts: Artefacts,
    customers: Mapping[str, CustomerFeatures],
    purchases: pd.DataFrame,
    since: datetime,
    until: datetime,
) -> RankerRows:
    """Rows of every customer that bought something in [since, until).

    Args:
        artefacts: catalogue and retrieval models with fit_until <= since.
        customers: features as of `since`.
        purchases: at least the rows of the window.
        since: start of the label window, and the time of the features.
        until: its end, exclusive.

    Raises:
        FittedPastLabel: an artefact has seen the labels.
        NotEnoughData: no customer bought anything in the window.
    """
    if since >= until:
        raise BadConfig(f"found the label window [{since.isoformat()}, {until.isoformat()}), needed since < until")
    check_fit(artefacts, since)
    truth = truth_of(purchases, since, until)
    parts = list(_groups(artefacts, customers, truth, since))
    if not parts:
        raise NotEnoughData(f"found no known customer with purchases in [{since.isoformat()}, {until.isoformat()})")
    hits = sum(int(labels.sum()) for _, labels, _ in parts)
    relevant = sum(len(truth[key]) for key in truth if key in customers)
    return RankerRows(
        features=np.concatenate([f for f, _, _ in parts]),
        labels=np.concatenate([labels for _, labels, _ in parts]),
        seen=np.concatenate([seen for _, _, seen in parts]),
        groups=np.asarray([f.shape[0] for f, _, _ in parts], np.int64),
        since=since,
        until=until,
        relevant=(hits, relevant - hits),
        weights=np.ones(sum(f.shape[0] for f, _, _ in parts), np.float32),
    )


def _groups(
    artefacts: Artefacts, customers: Mapping[str, CustomerFeatures], truth: Mapping[str, Sequence[str]], since: datetime
) -> Iterator[tuple[Floats, NDArray[np.uint8], NDArray[np.bool_]]]:
    """Features, labels and seen of one household after the other."""
    catalogue = artefacts.catalogue
    nothing = np.empty(0, np.int64)

    def group(key: str) -> tuple[Floats, NDArray[np.uint8], NDArray[np.bool_]]:
        candidates = retrieve(customers[key], nothing, artefacts)
        labels = np.isin(candidates.rows, catalogue.rows_of(truth[key])).astype(np.uint8)
        return featurise(customers[key], candidates, catalogue, since), labels, candidates.history >= 0

    return on_every_core(group, [key for key in customers if truth.get(key)])


def only_novel(rows: RankerRows) -> RankerRows:
    """The rows of products that the household had not bought; households without any are gone."""
    keep = ~rows.seen
    group = np.repeat(np.arange(rows.groups.size), rows.groups)[keep]
    counts = np.bincount(group, minlength=rows.groups.size)
    return RankerRows(
        features=rows.features[keep],
        labels=rows.labels[keep],
        seen=rows.seen[keep],
        groups=counts[counts > 0].astype(np.int64),
        since=rows.since,
        until=rows.until,
        relevant=(int(np.count_nonzero(rows.labels[keep])), 0),
        weights=rows.weights[keep],
    )


def concatenate(windows: Iterable[RankerRows]) -> RankerRows:
    """Rows of several label windows as one training set."""
    parts = list(windows)
    if not parts:
        raise NotEnoughData("found no label window, needed at least one")
    return RankerRows(
        features=np.concatenate([p.features for p in parts]),
        labels=np.concatenate([p.labels for p in parts]),
        seen=np.concatenate([p.seen for p in parts]),
        groups=np.concatenate([p.groups for p in parts]),
        since=min(p.since for p in parts),
        until=max(p.until for p in parts),
        relevant=(sum(p.relevant[0] for p in parts), sum(p.relevant[1] for p in parts)),
        weights=np.concatenate([p.weights for p in parts]),
    )


def digest(rows: RankerRows) -> dict[str, Any]:
    """What a run logs of its rows: counts, window, recall of candidates."""
    hits, missed = rows.relevant
    return {
        "rows": int(rows.groups.sum()),
        "households": int(rows.groups.size),
        "features": len(FEATURE_NAMES),
        "positives": hits,
        "candidate_recall": hits / max(hits + missed, 1),
        "since": rows.since.isoformat(),
        "until": rows.until.isoformat(),
    }
