"""A rebuilt file against the recorded one: by its bytes, or, where a neural encoder is behind it, by its vectors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_contracts.artefact_store import ArtefactRef, ArtefactStore
from data_contracts.errors import ArtefactRefused
from training.index import read_vectors

TOLERANCE: Final = 1e-3
"""Greatest 1 - cosine between a rebuilt vector and the recorded one: the sums of an encoder depend on the processor."""
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a comparison says."""

    name: str
    verdict: str
    """identical, within tolerance, or differs."""
    compared: str
    """bytes, or the measure and its tolerance."""
    recorded: str
    """sha256."""
    difference: float | None = None
    """Greatest 1 - cosine found, where vectors were compared."""

    @property
    def held(self) -> bool:
        """Whether the rebuilt one is the recorded one."""
        return self.verdict in {"identical", "within tolerance"}


def by_bytes(name: str, rebuilt: str, recorded: str) -> Verdict:
    """The verdict on two sha256."""
    return Verdict(name, "identical" if rebuilt == recorded else "differs", "bytes", recorded)


def artefact(name: str, rebuilt: str, made: ArtefactStore, ref: ArtefactRef, store: ArtefactStore) -> Verdict:
    """The verdict on the artefact of `made` with the hash `rebuilt`; vectors of other texts are others.

    Raises:
        ArtefactRefused: vectors must be compared, and the recorded file is missing or changed.
    """
    plain = by_bytes(name, rebuilt, ref.artefact.sha256)
    if plain.held or name not in VECTORS:
        return plain
    again = made.fetch_one(name, ref.artefact.model_copy(update={"sha256": rebuilt}))
    (texts, vectors), (texts_then, then) = VECTORS[name](again), VECTORS[name](store.fetch_one(name, ref.artefact))
    if texts != texts_then:
        return Verdict(name, "differs", "texts", ref.artefact.sha256)
    difference = _furthest(vectors, then)
    said = "within tolerance" if difference <= TOLERANCE else "differs"
    return Verdict(name, said, f"1 - cosine of each vector, at most {TOLERANCE}", ref.artefact.sha256, difference)


def _furthest(one: Floats, other: Floats) -> float:
    """Greatest 1 - cosine between unit vectors of the same row (half their squared distance); 2 for other shapes."""
    if one.shape != other.shape:
        return 2.0
    apart = one.astype(np.float64) - other.astype(np.float64)
    return float(np.max(np.einsum("ij,ij->i", apart, apart) / 2, initial=0.0))


def _product_vectors(path: Path) -> tuple[list[str], Floats]:
    texts, vectors, _ = read_vectors(path)
    order = sorted(range(len(texts)), key=texts.__getitem__)
    return sorted(texts), np.ascontiguousarray(vectors[order])


def _faiss_index(path: Path) -> tuple[list[str], Floats]:
    import faiss

    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        raise ArtefactRefused(f"{path.name} is no FAISS index: {error}") from error
    vectors: Floats = index.reconstruct_n(0, index.ntotal)
    return [], vectors


VECTORS: Final[Mapping[str, Callable[[Path], tuple[list[str], Floats]]]] = {
    "product_vectors": _product_vectors,
    "faiss_index": _faiss_index,
}
"""Artefact that comes out of an encoder -> its texts, where it holds them, and its vectors, one row per text."""
