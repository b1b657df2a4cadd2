"""How far annotators agree beyond chance, and which labels they mix up."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

Said = Mapping[str, Mapping[str, str]]
"""Message -> annotator -> label."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of the messages that two or more people labelled; NaN where nobody could disagree."""

    shared: int
    """Messages."""
    kappa: float
    """Fleiss' kappa over all labels."""
    by_label: dict[str, float]
    """Label -> Fleiss' kappa of it against the rest."""
    votes: dict[str, int]
    """Label -> annotations of shared messages."""
    by_pair: dict[str, float]
    """`annotator annotator` -> Cohen's kappa on what both labelled."""
    confused: tuple[tuple[str, str, int, tuple[str, ...]], ...]
    """(label, other label, messages that got both, ids of some), most first."""


def agreement(said: Said, labels: Sequence[str]) -> Agreement:
    """How far annotators agree on the labels, which all have to be in `labels`."""
    shared = {message: votes for message, votes in sorted(said.items()) if len(votes) > 1}
    counts = np.asarray(
        [[sum(vote == label for vote in votes.values()) for label in labels] for votes in shared.values()], np.int64
    ).reshape(len(shared), len(labels))
    overall, each = fleiss(counts)
    totals = counts.sum(axis=0).tolist()
    return Agreement(
        shared=len(shared),
        kappa=overall,
        by_label={label: float(kappa) for label, kappa, n in zip(labels, each, totals, strict=True) if n},
        votes={label: n for label, n in zip(labels, totals, strict=True) if n},
        by_pair=_cohen(shared),
        confused=_confused(shared),
    )


def fleiss(counts: NDArray[np.int64]) -> tuple[float, NDArray[np.float64]]:
    """(kappa over all categories, (k,) kappa of each category against the rest); NaN where chance leaves no room.

    Args:
        counts: (n, k) how many raters put each item into each category; every item has 2 or more, not all as many.

    Source: Fleiss, Psychological Bulletin 76 (1971), with Gwet's form for unequal numbers of raters (Handbook of
    Inter-Rater Reliability, 4th ed. 2014, ch. 2): every item weighs the same.
    """
    raters = counts.sum(axis=1, keepdims=True)
    if not len(counts):
        return float("nan"), np.full(counts.shape[1], np.nan)
    share = (counts / raters).mean(axis=0)
    apart = (counts * (raters - counts) / (raters * (raters - 1))).mean(axis=0)
    chance = share * (1 - share)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(1 - apart.sum() / np.float64(chance.sum())), 1 - apart / chance


def _cohen(shared: Said) -> dict[str, float]:
    from sklearn.metrics import cohen_kappa_score

    both: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for votes in shared.values():
        for one, other in combinations(sorted(votes), 2):
            both[one, other].append((votes[one], votes[other]))
    found = {}
    for (one, other), pairs in sorted(both.items()):
        left, right = zip(*pairs, strict=True)
        same = len({*left, *right}) == 1  # chance leaves no room
        found[f"{one} {other}"] = float("nan") if same else float(cohen_kappa_score(left, right))
    return found


def _confused(shared: Said) -> tuple[tuple[str, str, int, tuple[str, ...]], ...]:
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for message, votes in shared.items():
        for one, other in combinations(sorted(set(votes.values())), 2):
            found[one, other].append(message)
    most = sorted(found.items(), key=lambda each: (-len(each[1]), each[0]))
    return tuple((one, other, len(messages), tuple(messages[:3])) for (one, other), messages in most)


def decision(votes: Sequence[str], majority: float) -> tuple[str, float] | None:
    """(label, share of the votes for it), or None when no label has at least `majority` of them."""
    ((label, most),) = Counter(sorted(votes)).most_common(1)
    share = most / len(votes)
    return (label, share) if share >= majority else None


def plain(found: Agreement) -> dict[str, Any]:
    """The figures as JSON values: three digits, null where there is none."""

    def short(value: float) -> float | None:
        return None if np.isnan(value) else round(value, 3)

    return {
        "shared": found.shared,
        "kappa": short(found.kappa),
        "by_label": {label: short(value) for label, value in found.by_label.items()},
        "by_pair": {pair: short(value) for pair, value in found.by_pair.items()},
        "confused": [[one, other, n] for one, other, n, _ in found.confused],
    }
