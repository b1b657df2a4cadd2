"""Search quality on the Chorus judgments through the served path, beside stemmed BM25 over name and description.

`MERCATO_SOURCES` is the folder of the catalogue's zipped JSON. What takes long is made once, below `home/bench`.
"""

import itertools
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_contracts.shop import load_shop
from mercato import paths
from mercato.identity import identity
from mercato.paths import sha256_file
from mercato.search_quality import summary, timed
from mercato.settings import Settings
from serving.runtime.catalogue import STOCK_UNKNOWN
from serving.runtime.fusion import Fusion
from serving.runtime.keyword import IndexConfig, KeywordIndex, Postings
from serving.runtime.part import KEYWORD_DOCS
from serving.runtime.search import SearchEngine
from serving.runtime.shelf import Shelf
from serving.runtime.understanding import as_written
from tests.bench.kept import kept_in
from training import fusion, index, search_quality
from training.clean import clean
from training.extract import extract
from training.fit import catalogue_rows
from training.golden import read

AT = datetime(2026, 1, 1, tzinfo=UTC)


def products() -> pd.DataFrame:
    """The Chorus catalogue as clean/products, in product_id order; made once below the bench's home."""
    settings = Settings(home=kept_in(Settings()) / "chorus", shop="chorus", mlflow_url="none")
    shop, lake = load_shop("chorus"), paths.lake(settings)
    since, until = shop.window()
    if not lake.days("clean", "products"):
        extract(lake, shop, "products", since=since, until=until)
        clean(lake, shop, "products", identity(settings), since=since, until=until)
    return catalogue_rows(settings, until)


def engine(catalogue: pd.DataFrame, folder: Path, *, int8: bool = False) -> SearchEngine:
    """The search engine of these products, built into `folder` where it is not there yet, and loaded from it.

    Args:
        catalogue: clean/products.
        folder: where it is kept.
        int8: products and queries are encoded with int8 matrices.
    """
    import faiss

    from serving.runtime.encoder import Encoder
    from training.embeddings import EncoderConfig, encode_texts, export_onnx, quantise

    folder.mkdir(parents=True, exist_ok=True)
    texts = sorted(set(index.semantic_texts(catalogue)))
    model, tokenizer = folder / "encoder.onnx", folder / "tokenizer.json"
    if not (folder / "vectors.npy").exists():
        export_onnx(EncoderConfig(), folder)
        if int8:
            quantise(model, tokenizer, folder / "int8.onnx", texts).replace(model)
        np.save(folder / "vectors.npy", encode_texts(EncoderConfig(threads=1), model, tokenizer, texts))
    index.build_vector_index(np.load(folder / "vectors.npy"), folder / "faiss")
    index.build_keyword_index(catalogue, texts, IndexConfig(), folder / "keyword", encoder=sha256_file(model), until=AT)
    shelf = Shelf(
        product_ids=catalogue["product_id"].tolist(),
        name=catalogue["name"].tolist(),
        category=catalogue["category"].fillna("").to_numpy(dtype=np.str_),
        brand=catalogue["brand"].fillna("").to_numpy(dtype=np.str_),
        price_minor=catalogue["list_price_minor"].fillna(0).to_numpy(dtype=np.int64),
        popularity=np.zeros(len(catalogue), dtype=np.float32),
        in_stock=np.full(len(catalogue), STOCK_UNKNOWN, dtype=np.int8),
    )
    keyword = KeywordIndex.load(folder / "keyword")
    return SearchEngine(keyword, faiss.read_index(str(folder / "faiss")), Encoder.load(model, tokenizer), shelf)


def many(built: SearchEngine, copies: int) -> KeywordIndex:
    """The keyword index of every product `copies` times over: synthetic, its words as frequent as they are."""
    index_, postings = built.base.keyword, built.base.keyword.postings
    n = index_.n_docs
    spans = [slice(first, last) for first, last in itertools.pairwise(postings.indptr.tolist())]
    shifts = np.arange(copies, dtype=np.int32)[:, None] * np.int32(n)
    docs = np.concatenate([(postings.docs[span] + shifts).ravel() for span in spans])
    impacts = np.concatenate([np.tile(postings.impacts[span], copies) for span in spans])
    fields = np.concatenate([np.tile(postings.fields[span], copies) for span in spans])
    repeated = Postings(postings.words, postings.indptr * copies, docs, impacts, fields)
    each = np.arange(copies, dtype=np.int32)[:, None]
    return KeywordIndex(
        product_ids=[f"{pid}-{copy}" for copy in range(copies) for pid in index_.product_ids],
        doc_of_product=(index_.doc_of_product + each * np.int32(n)).ravel(),
        text_of_product=(index_.text_of_product + each * np.int32(built.base.vectors.ntotal)).ravel(),
        postings=repeated,
        statistics=index_.statistics,
        config=index_.config,
        encoder_sha256=index_.encoder_sha256,
        meta={},
    )


def apart(vectors: NDArray[np.float32], copies: int) -> NDArray[np.float32]:
    """(copies * n, d) unit vectors: each a quarter of the way to some other product's, so that no two are the same."""
    rng = np.random.default_rng(0)
    found = np.empty((copies * len(vectors), vectors.shape[1]), np.float32)
    for copy in range(copies):
        part = 0.75 * vectors + 0.25 * vectors[rng.permutation(len(vectors))]
        found[copy * len(vectors) :][: len(vectors)] = part / np.linalg.norm(part, axis=1, keepdims=True)
    return found


def measure_million(settings: Settings) -> list[dict[str, Any]]:
    """A whole search over a million products, by each kind of index: every product many times over (synthetic)."""
    import faiss

    folder = kept_in(settings) / "search"
    built, judged = engine(products(), folder), read("chorus")
    shelf, copies = built.shelf, 1_000_000 // built.base.keyword.n_docs + 1
    path, vectors = folder / "faiss_million", apart(np.load(folder / "vectors.npy"), copies)
    keyword = many(built, copies)
    large = Shelf(
        product_ids=keyword.product_ids,
        name=list(shelf.name) * copies,
        **{
            column: np.tile(getattr(shelf, column), copies)
            for column in ("category", "brand", "price_minor", "popularity", "in_stock")
        },
    )
    fused, found = Fusion(fusion.fit(built, judged)), []
    asked = built.encoder.encode_all(sorted(judged.grades)) if built.encoder else vectors[:0]
    for kind, quantised_from in (("HNSW", index.QUANTISED_FROM), ("IVF-PQ", len(vectors))):
        begun = time.process_time()
        recall = index.build_vector_index(vectors, path, quantised_from=quantised_from)
        seconds = time.process_time() - begun
        whole = SearchEngine(keyword, faiss.read_index(str(path)), built.encoder, large).fused_by(fused)
        found.append(
            {
                "products": len(large.product_ids),
                "index": kind,
                "index_mb": path.stat().st_size / 1e6,
                "recall_at_100": recall,
                "recall_of_queries": index.recall(whole.base.vectors, vectors, asked),
                "build_cpu_seconds": seconds,
                "query": timed(search_quality.served(whole, n=10), sorted(judged.grades)),
            }
        )
        path.unlink()
    return found


def million_lines(found: list[dict[str, Any]]) -> list[str]:
    """For people."""
    return [
        f"search, whole, {each['products']:,} products, {each['index']:<6}: p50 {each['query']['p50_ms']:.1f} ms  "
        f"p95 {each['query']['p95_ms']:.1f} ms  recall@100 {each['recall_at_100']:.3f} "
        f"(queries {each['recall_of_queries']:.3f})  {each['index_mb']:,.0f} MB  "
        f"built in {each['build_cpu_seconds']:.0f} CPU seconds"
        for each in found
    ]


def measure(settings: Settings) -> dict[str, Any]:
    """Quality as written and misspelt beside the rivals; milliseconds of a query; keywords at a million products."""
    catalogue = products()
    built = engine(catalogue, kept_in(settings) / "search")
    judged = read("chorus")

    def learned(known: search_quality.Judgments) -> search_quality.Search:
        return search_quality.served(built.fused_by(Fusion(fusion.fit(built, known))))

    small = engine(catalogue, kept_in(settings) / "search_int8", int8=True)

    def learned_small(known: search_quality.Judgments) -> search_quality.Search:
        return search_quality.served(small.fused_by(Fusion(fusion.fit(small, known))))

    rivals = {"reciprocal rank": search_quality.served(built), "bm25": search_quality.bm25(catalogue)}
    rows = []
    for asked, ask in (("as written", str), ("misspelt", search_quality.misspelt)):
        frames = {"served": pd.concat(search_quality.cross_fitted(learned, judged, ask=ask)).sort_values("query")}
        fitted = pd.concat(search_quality.cross_fitted(learned_small, judged, ask=ask))
        frames["int8 encoder"] = fitted.sort_values("query")
        frames |= {name: search_quality.score(each, judged, ask) for name, each in rivals.items()}
        rows += summary(frames, asked=asked)
    large = many(built, 1_000_000 // built.base.keyword.n_docs + 1)
    queries = sorted(judged.grades)
    return {
        "rows": rows,
        "query": timed(search_quality.served(built, n=10), queries),
        "query, int8 encoder": timed(search_quality.served(small, n=10), queries),
        "keywords of a million": timed(lambda query: large.top(as_written(query).terms, KEYWORD_DOCS), queries),
    }


def lines(found: dict[str, Any]) -> list[str]:
    """The table for people."""
    out = []
    for row in found.get("rows", []):
        gains = [gain for gain in (row["ndcg_at_10_gain"], row["ndcg_judged_gain"]) if gain]
        said = "  served gains " + ", ".join(f"{g[0]:+.3f} [{g[1]:+.3f}, {g[2]:+.3f}]" for g in gains) if gains else ""
        out.append(
            f"search, {row['asked']:<10} {row['method']:<16} nDCG@10 {row['ndcg_at_10']:.3f}, judged alone "
            f"{row['ndcg_judged']:.3f}, judged@10 {row['judged_at_10']:.2f}{said}"
        )
    timings = [
        (what, found[what]) for what in ("query", "query, int8 encoder", "keywords of a million") if what in found
    ]
    out += [f"search, {what}: p50 {each['p50_ms']:.1f} ms  p95 {each['p95_ms']:.1f} ms" for what, each in timings]
    return out


if __name__ == "__main__":
    print(json.dumps(measure(Settings()), indent=1))
