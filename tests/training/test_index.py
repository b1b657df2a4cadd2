"""The vector index by size, and the gate on its recall."""

from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from training.errors import IndexNotGood
from training.index import build_vector_index, query_recall, recall


def unit(n: int) -> np.ndarray:
    """Fixed random unit vectors in few dimensions, where neighbours are easy."""
    found = np.random.default_rng(0).standard_normal((n, 16)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_above_a_size_the_index_is_approximate_finds_nearly_all_and_is_reproducible(tmp_path: Path) -> None:
    """HNSW: recall@100 over 0.98, single vectors can be read back, the same vectors leave the same bytes."""
    import faiss

    vectors = unit(2_000)
    found = [build_vector_index(vectors, tmp_path / name, exact_below=1_000) for name in ("one", "two")]
    assert 0.98 <= found[0] <= 1
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    index = faiss.read_index(str(tmp_path / "one"))
    assert "HNSW" in type(faiss.downcast_index(index)).__name__
    assert index.reconstruct_batch(np.array([7, 3])) == pytest.approx(vectors[[7, 3]])


def test_an_index_that_finds_too_little_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate is recall against exact search, not hope; of queries too, once the index is written."""
    import faiss

    monkeypatch.setattr("training.index._HNSW_SEARCH", 1)
    monkeypatch.setattr("training.index._HNSW_LINKS", 2)
    monkeypatch.setattr("training.index._HNSW_BUILD", 4)
    with pytest.raises(IndexNotGood, match="of the exact 100 nearest"):
        build_vector_index(unit(3_000), tmp_path / "index", exact_below=1_000)
    assert not (tmp_path / "index").exists()
    with monkeypatch.context() as patch:
        patch.setattr("training.index.MIN_RECALL", 0.0)
        build_vector_index(unit(3_000), tmp_path / "index", exact_below=1_000)
    with capture_logs() as said:
        found = query_recall(faiss.read_index(str(tmp_path / "index")), -unit(50))
    assert [(each["event"], each["recall_at_100"]) for each in said] == [("index.misses_for_queries", round(found, 4))]
    assert found < 0.98


def test_codes_find_as_much_as_whole_vectors_must(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """IVF-PQ whose finds are told apart by finer codes: over 0.98, read back, the same bytes; without them refused."""
    import faiss

    monkeypatch.setattr("training.index._PQ_BYTES", 8)
    vectors = unit(3_000) + 2 * unit(20)[np.arange(3_000) % 20]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    sizes = {"exact_below": 500, "quantised_from": 1_000}
    found = [build_vector_index(vectors, tmp_path / name, **sizes) for name in ("one", "two")]
    assert 0.98 <= found[0] <= 1
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    index = faiss.read_index(str(tmp_path / "one"))
    assert index.reconstruct_batch(np.array([7, 3])) == pytest.approx(vectors[[7, 3]], abs=0.01)
    cosines, rows = index.search(vectors[:1], 5)
    assert cosines[0] == pytest.approx(vectors[rows[0]] @ vectors[0], abs=0.02)
    monkeypatch.setattr("training.index._PQ_WIDER", 1)
    with pytest.raises(IndexNotGood, match=r"exact 100 nearest, needed 0\.98;"):
        build_vector_index(vectors, tmp_path / "three", **sizes)
    assert not (tmp_path / "three").exists()


def test_recall_of_an_exact_index_is_one() -> None:
    """Every one of the nearest is found."""
    import faiss

    vectors = unit(300)
    index = faiss.IndexFlatIP(16)
    index.add(vectors)
    assert recall(index, vectors, vectors[::3]) == 1.0
    assert query_recall(index, -vectors[:5]) == 1.0
