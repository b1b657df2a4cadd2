"""A whole search over a million products, and how often long queries find nothing.

The million is synthetic: every Chorus product 52 times, each copy's vector turned a little at random, its words as they
are. The index over its vectors is the one that is built from 2,000,000 texts on (IVF-PQ): HNSW over a million takes a
core half an hour to build.
`MERCATO_SOURCES=<folder of the Chorus catalogue's zipped JSON and wands_query.csv> python -m tests.bench.million`
"""

import json
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, Final

import faiss
import numpy as np
import pandas as pd

from mercato.search_quality import timed
from mercato.settings import Settings
from serving.runtime.fusion import Fusion
from serving.runtime.keyword import KeywordIndex
from serving.runtime.query.understand import understand
from serving.runtime.search import SearchEngine
from serving.runtime.shelf import Shelf
from serving.runtime.understanding import as_written
from tests.bench.query import lexicon
from tests.bench.search import engine, many, products
from training import fusion, index
from training.golden import read

COPIES: Final = 52
TURN: Final = 0.35
"""Length of the random part that is added to each copy's unit vector."""
LONG: Final = 4
"""Words from which on a query is long."""


def million(built: SearchEngine, vectors: np.ndarray, folder: Path) -> tuple[SearchEngine, float]:
    """The engine over every product COPIES times, and its vector index's recall@100; the index is built once."""
    words, shelf = many(built, COPIES), built.base.shelf
    n = len(shelf.product_ids)
    random = np.random.default_rng(0)
    turned = np.concatenate(
        [vectors + TURN / np.sqrt(vectors.shape[1]) * random.standard_normal(vectors.shape, np.float32)
         for _ in range(COPIES)]
    )  # fmt: skip
    turned /= np.linalg.norm(turned, axis=1, keepdims=True)
    path = folder / "faiss_million"
    if not path.exists():
        recall = index.build_vector_index(turned, path, quantised_from=len(turned))
        (folder / "recall_million.json").write_text(json.dumps(recall))
    whole = Shelf(
        product_ids=[f"{each}-{copy}" for copy in range(COPIES) for each in shelf.product_ids],
        name=list(shelf.name) * COPIES,
        category=np.tile(shelf.category, COPIES),
        brand=np.tile(shelf.brand, COPIES),
        price_minor=np.tile(shelf.price_minor, COPIES),
        popularity=np.tile(shelf.popularity, COPIES),
    )
    texts = built.base.keyword.text_of_product
    rows = np.concatenate([texts + np.int32(copy * len(vectors)) for copy in range(COPIES)])
    docs = np.concatenate([built.base.keyword.doc_of_product + np.int32(copy * words.n_docs // COPIES)
                           for copy in range(COPIES)])  # fmt: skip
    keyword = KeywordIndex(whole.product_ids, docs, rows, words.postings, words.statistics, words.config,
                           words.encoder_sha256, {})  # fmt: skip
    assert len(whole.product_ids) == n * COPIES
    made = SearchEngine(keyword, faiss.read_index(str(path)), built.encoder, whole)
    return made, float(json.loads((folder / "recall_million.json").read_text()))


def nothing_found(built: SearchEngine, catalogue: pd.DataFrame, folder: Path) -> list[dict[str, Any]]:
    """Share of long WANDS queries (furniture, asked of an electronics shop) that find nothing, by method."""
    asked = pd.read_csv(folder / "wands_query.csv", sep="\t")["query"].str.strip()
    queries = [each for each in asked if len(each.split()) >= LONG]
    words = lexicon(catalogue, "chorus", catalogue["name"].tolist())
    alone = SearchEngine(built.base.keyword, built.base.vectors, None, built.base.shelf)

    def every_word(query: str) -> int:
        terms = as_written(query).terms
        hits = [set(alone.base.keyword.top((term,), 10**6).docs.tolist()) for term in terms]
        return len(set.intersection(*hits)) if hits else 0

    methods = {
        "served": lambda query: built.search(understand(query, lexicon=words), n=10).total,
        "keyword alone, any word": lambda query: alone.search(as_written(query), n=10).total,
        "keyword alone, every word": every_word,
    }
    return [
        {"method": name, "queries": len(queries), "nothing": float(np.mean([ask(each) == 0 for each in queries]))}
        for name, ask in methods.items()
    ]


def measure(settings: Settings) -> dict[str, Any]:
    """Both; milliseconds of a query on one thread."""
    faiss.omp_set_num_threads(1)
    sources = Path(os.environ["MERCATO_SOURCES"])
    catalogue, folder = products(sources), settings.root / "bench" / "search"
    small = engine(catalogue, folder)
    judged = read("chorus")
    learned = Fusion(fusion.fit(small, judged))
    found: dict[str, Any] = {"nothing found": nothing_found(small.fused_by(learned), catalogue, sources)}
    words = partial(understand, lexicon=lexicon(catalogue, "chorus", catalogue["name"].tolist()))
    begun = time.monotonic()
    large, recall = million(small, np.load(folder / "vectors.npy"), folder)
    found |= {"built in seconds": time.monotonic() - begun, "recall@100": recall,
              "index bytes": (folder / "faiss_million").stat().st_size}  # fmt: skip
    for name, each in (("20 thousand", small), ("a million", large)):
        served = each.fused_by(learned)
        ask = lambda query, served=served: served.search(words(query), n=10)  # noqa: E731
        timed(ask, sorted(judged.grades))
        found[name] = {"products": len(each.shelf.product_ids), **timed(ask, sorted(judged.grades))}
    return found


def lines(found: dict[str, Any]) -> list[str]:
    """The table for people."""
    out = [
        f"long queries, {each['method']:<26} {each['nothing']:6.1%} of {each['queries']} find nothing"
        for each in found["nothing found"]
    ]
    out.append(
        f"IVF-PQ over a million texts: recall@100 {found['recall@100']:.3f}, {found['index bytes'] / 1e6:.0f} MB"
    )
    out += [
        f"a whole search over {each['products']:>9,} products: p50 {each['p50_ms']:.1f} ms  p95 {each['p95_ms']:.1f} ms"
        for each in (found["20 thousand"], found["a million"])
    ]
    return out


if __name__ == "__main__":
    result = measure(Settings())
    print("\n".join(lines(result)), file=sys.stderr)
    print(json.dumps(result, indent=1))
