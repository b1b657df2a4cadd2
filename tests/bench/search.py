"""Search quality on the Chorus judgments through the served path, beside stemmed BM25 over name and description.

`MERCATO_SOURCES` is the folder of the catalogue's zipped JSON. Artefacts are built once into `home/bench/search`.
"""

import json
import os
import time
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mercato.paths import sha256_file
from mercato.search_quality import summary
from mercato.settings import Settings
from serving.runtime.fusion import Fusion
from serving.runtime.keyword import IndexConfig, KeywordIndex
from serving.runtime.search import SearchEngine
from serving.runtime.shelf import Shelf
from training import fusion, index, search_quality
from training.golden import read

AT = datetime(2026, 1, 1, tzinfo=UTC)


def products(folder: Path) -> pd.DataFrame:
    """The Chorus catalogue with the columns of clean/products, in product_id order."""
    rows = []
    for path in sorted(folder.glob("chorus_icecat_products_*.json.zip")):
        with zipfile.ZipFile(path) as archive:
            rows += json.loads(archive.read(archive.namelist()[0]))
    frame = pd.DataFrame(
        {
            "product_id": [each["id"] for each in rows],
            "name": [each["title"] for each in rows],
            "brand": [each["supplier"] for each in rows],
            "product_type": [each.get("attr_t_product_type") for each in rows],
            "attributes": [
                "; ".join(f"{name}: {value}" for name, value in each.items() if name.startswith("attr_t_"))
                for each in rows
            ],
            "description": [each.get("short_description") for each in rows],
            "price_minor": [each["price"] for each in rows],
        }
    )
    frame = frame.assign(category=None, department=None, package_size=None)
    return frame.sort_values("product_id", ignore_index=True)


def engine(catalogue: pd.DataFrame, folder: Path) -> SearchEngine:
    """The search engine of these products, built into `folder` where it is not there yet, and loaded from it."""
    import faiss

    from serving.runtime.encoder import Encoder
    from training.embeddings import EncoderConfig, encode_texts, export_onnx

    folder.mkdir(parents=True, exist_ok=True)
    texts = sorted(set(index.semantic_texts(catalogue)))
    model, tokenizer = folder / "encoder.onnx", folder / "tokenizer.json"
    if not (folder / "vectors.npy").exists():
        export_onnx(EncoderConfig(), folder)
        np.save(folder / "vectors.npy", encode_texts(EncoderConfig(threads=1), model, tokenizer, texts))
    index.build_vector_index(np.load(folder / "vectors.npy"), folder / "faiss")
    index.build_keyword_index(catalogue, texts, IndexConfig(), folder / "keyword", encoder=sha256_file(model), until=AT)
    shelf = Shelf(
        product_ids=catalogue["product_id"].tolist(),
        name=catalogue["name"].tolist(),
        category=catalogue["category"].fillna("").to_numpy(dtype=np.str_),
        brand=catalogue["brand"].fillna("").to_numpy(dtype=np.str_),
        price_minor=catalogue["price_minor"].to_numpy(dtype=np.int64),
        popularity=np.zeros(len(catalogue), dtype=np.float32),
    )
    keyword = KeywordIndex.load(folder / "keyword")
    return SearchEngine(keyword, faiss.read_index(str(folder / "faiss")), Encoder.load(model, tokenizer), shelf)


def timed(search: search_quality.Search, queries: list[str]) -> dict[str, float]:
    """Milliseconds of one query, one thread: p50 and p95."""
    took = []
    for query in queries:
        since = time.perf_counter()
        search(query)
        took.append(1000 * (time.perf_counter() - since))
    return {f"p{q}_ms": round(float(np.percentile(took, q)), 2) for q in (50, 95)}


def measure(settings: Settings) -> dict[str, Any]:
    """The table of methods: as written and misspelt."""
    catalogue = products(Path(os.environ["MERCATO_SOURCES"]))
    built = engine(catalogue, settings.root / "bench" / "search")
    judged = read("chorus")

    def learned(known: search_quality.Judgments) -> search_quality.Search:
        return search_quality.served(built.fused_by(Fusion(fusion.fit(built, known))))

    rivals = {"rrf": search_quality.served(built), "bm25": search_quality.bm25(catalogue)}
    rows = []
    for asked, ask in (("as written", lambda query: query), ("misspelt", search_quality.misspelt)):
        frames = {"served": pd.concat(search_quality.cross_fitted(learned, judged, ask=ask)).sort_values("query")}
        frames |= {name: search_quality.score(each, judged, ask) for name, each in rivals.items()}
        rows += summary(frames, asked=asked)
    weights = fusion.fit(built, judged)
    return {"rows": rows, "weights": weights, **timed(learned(judged), sorted(judged.grades))}


if __name__ == "__main__":
    print(json.dumps(measure(Settings()), indent=1))
