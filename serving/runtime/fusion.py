"""How the scores of the stages become one order: reciprocal rank, or a learned weighted sum. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from data_contracts.errors import ArtefactRefused
from mercato.paths import canonical_json

Scores = NDArray[np.float32]
RRF_K: Final = 60
"""Constant of reciprocal rank fusion. Source: Cormack, Clarke & Buettcher, SIGIR 2009."""
FEATURES: Final = ("keyword", "keyword_relative", "vector", "covered", "covered_name", "covered_text")
"""What a learned fusion adds up.

keyword: BM25 over fields per idf of the query; keyword_relative: the same by the best of this query; vector: cosine;
covered: share of the query (by idf) found in any field; covered_name: in the name; covered_text: in either text.
"""


@dataclass(frozen=True, slots=True)
class Found:
    """What the stages say of each of n candidates.

    Attributes:
        keyword: (n,) BM25 over fields, NaN where no word of the query was found.
        vector: (n,) cosine of the product's text, NaN where nothing was embedded.
        near: (n,) whether the product is among the nearest by vector.
        popularity: (n,) what sells, 0 where nothing does.
        covered: (3, n) share of the query found: anywhere, in the name, in name or description.
        keyword_share: (n,) `keyword` per idf of the query, 0 where there is none.
    """

    keyword: Scores
    vector: Scores
    near: NDArray[np.bool_]
    popularity: Scores
    covered: Scores
    keyword_share: Scores

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The candidates of several parts, in their order."""
        return cls(
            *(np.concatenate([getattr(part, name) for part in parts], axis=-1) for name in cls.__dataclass_fields__)
        )

    def features(self) -> Scores:
        """(n, len(FEATURES))"""
        best = float(self.keyword_share.max(initial=0.0)) or 1.0
        columns = (self.keyword_share, self.keyword_share / best, np.nan_to_num(self.vector), *self.covered)
        return np.column_stack(columns).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Fusion:
    """The fusion of one release, and the index that it was judged with."""

    kind: ClassVar[str] = "search_fusion"
    weights: Mapping[str, float] | None = None
    """Feature -> weight; None: reciprocal rank, which needs nothing learned."""
    judged: Mapping[str, str] = field(default_factory=dict)
    """Artefact -> sha256 of what the verdict was given on."""

    def save(self, path: Path, **said: Any) -> Path:
        """Writes the one JSON file of this artefact; `said` goes beside the weights."""
        path.write_bytes(canonical_json({**said, "kind": self.kind, "weights": self.weights, "judged": self.judged}))
        return path

    @classmethod
    def load(cls, path: Path) -> Self:
        """The fusion of a verified file.

        Raises:
            ArtefactRefused: it is no such file, or another feature than FEATURES has a weight.
        """
        try:
            said = json.loads(path.read_bytes())
            weights, judged = said["weights"], said["judged"]
        except (OSError, ValueError, KeyError, TypeError) as problem:
            raise ArtefactRefused(f"found no {cls.kind} in {path.name} ({problem}); run rebuild_index") from problem
        if said.get("kind") != cls.kind or (weights is not None and sorted(weights) != sorted(FEATURES)):
            raise ArtefactRefused(
                f"found {said.get('kind')} over {sorted(weights or ())}, needed {cls.kind} over {sorted(FEATURES)}; "
                "run rebuild_index"
            )
        return cls(weights, judged)

    def scores(self, found: Found) -> Scores:
        """(n,) one score per candidate, 0 or more, higher is better."""
        if self.weights is None:
            return reciprocal_ranks(found)
        weights = np.array([self.weights[name] for name in FEATURES], dtype=np.float32)
        scores = np.asarray(found.features() @ weights, dtype=np.float32)
        return scores - np.float32(min(float(scores.min(initial=0.0)), 0.0))


def reciprocal_ranks(found: Found) -> Scores:
    """(n,) sum of 1 / (k + rank) over keyword, nearest by vector, and popularity."""
    near = np.where(found.near, found.vector, np.nan).astype(np.float32)
    return reciprocal_rank(found.keyword) + reciprocal_rank(near) + reciprocal_rank(found.popularity)


def reciprocal_rank(values: Scores) -> Scores:
    """1 / (k + rank), equal values sharing a rank; 0 where a stage did not find the row."""
    found = ~np.isnan(values)
    out = np.zeros(len(values), dtype=np.float32)
    if found.any():
        _, rank = np.unique(-values[found], return_inverse=True)
        out[found] = 1.0 / (RRF_K + 1 + rank)
    return out
