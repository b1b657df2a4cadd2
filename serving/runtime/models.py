"""The retrieval models as they are served: arrays in, scores of all their items out. Fitting lives in training/.

None of them holds a customer id: ALS folds the online history in, user kNN compares it with anonymous rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from serving.runtime import npz

Floats = NDArray[np.float32]


class ItemModel(Protocol):
    """A retrieval model: scores for each of `item_ids`, from the items of one customer."""

    kind: ClassVar[str]

    @property
    def item_ids(self) -> Sequence[str]:
        """(m,) product ids in row order."""

    @property
    def meta(self) -> Mapping[str, Any]:
        """kind, fit_until (ISO, UTC) and config."""

    def scores(self, items: NDArray[np.int64], weights: Floats) -> Floats:
        """(m,) float32, higher is better; zeros for an empty history."""

    def save(self, path: Path) -> Path:
        """Writes the one file of this artefact; returns its path."""


@dataclass(frozen=True, slots=True)
class Sparse:
    """Compressed float32 rows, columns ascending within each."""

    matrix: sparse.csr_array

    def weighted_sum(self, rows: NDArray[np.int64], weights: Floats) -> Floats:
        """(columns,) float32: the sum of rows, each times its weight, added in row order."""
        return np.asarray(self.matrix[rows].T @ weights, np.float32)

    def arrays(self, prefix: str) -> dict[str, NDArray[Any]]:
        """The three arrays under names that start with prefix."""
        m = self.matrix
        return {f"{prefix}_indptr": m.indptr, f"{prefix}_indices": m.indices, f"{prefix}_values": m.data}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]], prefix: str, n_columns: int) -> Self:
        """The rows that arrays() named."""
        indptr, indices, values = (arrays[f"{prefix}_{part}"] for part in ("indptr", "indices", "values"))
        parts = (values, indices.astype(np.int32), indptr.astype(np.int32))
        return cls(sparse.csr_array(parts, shape=(indptr.shape[0] - 1, n_columns)))


@dataclass(frozen=True, slots=True)
class NeighbourModel:
    """Items with their nearest items: EASE and co-purchase. Score = sum of the customer's rows."""

    kind: ClassVar[str] = "neighbours"
    item_ids: Sequence[str]
    rows: Sparse
    meta: Mapping[str, Any]

    def scores(self, items: NDArray[np.int64], weights: Floats) -> Floats:
        """(m,) float32: each item of the history votes for its neighbours."""
        return self.rows.weighted_sum(items, weights)

    def save(self, path: Path) -> Path:
        """Writes ids and the sparse (m, m) matrix."""
        return npz.write(path, {"item_ids": npz.pack_text(self.item_ids), **self.rows.arrays("rows")}, self.meta)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The model of one file."""
        arrays, meta = npz.read(path, cls.kind)
        m = int(arrays["rows_indptr"].shape[0]) - 1
        return cls(npz.unpack_text(arrays["item_ids"], m), Sparse.of(arrays, "rows", m), meta)


class EASEModel(NeighbourModel):
    """EASE: the k largest weights of each item's regression row (Steck, WWW 2019)."""

    __slots__ = ()
    kind: ClassVar[str] = "ease"


class CoPurchaseModel(NeighbourModel):
    """Items that share baskets: the k neighbours with the highest cosine."""

    __slots__ = ()
    kind: ClassVar[str] = "co_purchase"


@dataclass(frozen=True, slots=True)
class ALSModel:
    """Implicit matrix factorisation; the customer's factor is solved from the history at request time."""

    kind: ClassVar[str] = "als"
    item_ids: Sequence[str]
    factors: Floats
    alpha: float
    reg: float
    meta: Mapping[str, Any]
    gram: Floats = field(repr=False)

    @classmethod
    def of(cls, item_ids: Sequence[str], factors: Floats, alpha: float, reg: float, meta: Mapping[str, Any]) -> Self:
        """The model of (m, d) factors with confidence 1 + alpha * weight and ridge `reg`."""
        return cls(item_ids, factors, alpha, reg, meta, factors.T @ factors)

    def scores(self, items: NDArray[np.int64], weights: Floats) -> Floats:
        """(m,) float32: factors times the one that best explains the history."""
        if items.size == 0:
            return np.zeros(self.factors.shape[0], np.float32)
        own = self.factors[items]
        confidence = (1.0 + self.alpha * weights).astype(np.float32)
        left = self.gram + (own * (confidence - 1.0)[:, None]).T @ own
        left[np.diag_indices_from(left)] += np.float32(self.reg)
        return np.asarray(self.factors @ np.linalg.solve(left, own.T @ confidence), np.float32)

    def save(self, path: Path) -> Path:
        """Writes ids and (m, d) float32 factors."""
        meta = {**self.meta, "alpha": self.alpha, "reg": self.reg}
        return npz.write(path, {"item_ids": npz.pack_text(self.item_ids), "factors": self.factors}, meta)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The model of one file."""
        arrays, meta = npz.read(path, cls.kind)
        factors = arrays["factors"]
        ids = npz.unpack_text(arrays["item_ids"], factors.shape[0])
        return cls.of(ids, factors, float(meta["alpha"]), float(meta["reg"]), meta)


@dataclass(frozen=True, slots=True)
class UserKNNModel:
    """Households like this one: cosine to anonymous rows, then the weighted sum of the nearest.

    `by_household` rows are unit length over items; `by_item` is its transpose.
    """

    kind: ClassVar[str] = "user_knn"
    item_ids: Sequence[str]
    idf: Floats
    by_household: Sparse
    by_item: Sparse
    k: int
    meta: Mapping[str, Any]

    SELF_SIMILARITY: ClassVar[float] = 0.95
    """A row this close is the same household seen at training time: it is not its own neighbour."""

    def scores(self, items: NDArray[np.int64], weights: Floats) -> Floats:
        """(m,) float32: what the k most similar households buy, weighted by similarity."""
        own = weights * self.idf[items]
        norm = float(np.sqrt((own * own).sum()))
        if norm == 0.0:
            return np.zeros(len(self.item_ids), np.float32)
        similarity = self.by_item.weighted_sum(items, own / np.float32(norm))
        similarity[similarity > self.SELF_SIMILARITY] = 0.0
        k = min(self.k, similarity.shape[0])
        nearest = np.argpartition(-similarity, k - 1)[:k] if k else np.empty(0, np.int64)
        nearest = np.sort(nearest[similarity[nearest] > 0])
        return self.by_household.weighted_sum(nearest, similarity[nearest])

    def save(self, path: Path) -> Path:
        """Writes ids, idf and both sparse orientations."""
        arrays: dict[str, NDArray[Any]] = {
            "item_ids": npz.pack_text(self.item_ids),
            "idf": self.idf,
            **self.by_household.arrays("household"),
            **self.by_item.arrays("item"),
        }
        return npz.write(path, arrays, {**self.meta, "k": self.k})

    @classmethod
    def load(cls, path: Path) -> Self:
        """The model of one file."""
        arrays, meta = npz.read(path, cls.kind)
        m = int(arrays["idf"].shape[0])
        n = int(arrays["household_indptr"].shape[0]) - 1
        return cls(
            item_ids=npz.unpack_text(arrays["item_ids"], m),
            idf=arrays["idf"],
            by_household=Sparse.of(arrays, "household", m),
            by_item=Sparse.of(arrays, "item", n),
            k=int(meta["k"]),
            meta=meta,
        )


MODELS: dict[str, type[ALSModel | EASEModel | UserKNNModel | CoPurchaseModel]] = {
    "als": ALSModel,
    "ease": EASEModel,
    "user_knn": UserKNNModel,
    "co_purchase": CoPurchaseModel,
}
"""Artefact name -> the class that loads it."""
