"""A release of 60 real households, complete and small: models of `training`, an encoder of hashed words."""

import hashlib
import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from data_contracts.artefact_store import ArtefactStore
from data_contracts.lake import as_of
from data_contracts.release import Kind, Manifest, Provenance, ReleaseIdentity
from data_contracts.search_words import load_search_words
from feature_repo import store, writer
from feature_repo.search_text import search_tokens
from mercato import paths
from mercato.identity import identity
from mercato.settings import Settings
from mercato.stores.routing import RoutingDocument, routing_store
from serving.runtime.artefacts import Artefacts
from serving.runtime.keyword import IndexConfig
from tests.feature_repo.clean_sample import T, fill
from training import copurchase, dataset, ease, fit, index, lexicon, ranker
from training.als import ALSConfig
from training.als import fit as fit_als

SIZE = 32
"""Dimensions of the test encoder."""
HOUSEHOLDS = ("149", "250")
"""Shop ids that the identity map knows, with the `customer_key` c149 and c250 of the clean sample."""


def write_encoder(folder: Path, words: list[str]) -> tuple[Path, Path]:
    """An ONNX encoder and its tokenizer: the unit-length mean of one fixed vector per known word."""
    vocabulary = {"[PAD]": 0, "[UNK]": 1, **{word: at + 2 for at, word in enumerate(sorted(set(words)))}}
    table = np.stack([_vector(word) for word in vocabulary]).astype(np.float32)
    table[:2] = 0.0
    inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, ["b", "s"]) for n in ("input_ids", "attention_mask")]
    output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["b", SIZE])
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["looked_up"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["wide"]),
        helper.make_node("Mul", ["looked_up", "wide"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "middle"], ["summed"], keepdims=0),
        helper.make_node("LpNormalization", ["summed"], ["embedding"], axis=1, p=2),
    ]
    constants = {"table": table, "last": np.array([2]), "middle": np.array([1])}
    graph = helper.make_graph(
        nodes, "words", inputs, [output], [numpy_helper.from_array(value, name) for name, value in constants.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(folder / "encoder.onnx"))
    tokens = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "post_processor": None,
        "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "Whitespace"}, "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(tokens))
    return folder / "encoder.onnx", folder / "tokenizer.json"


def _vector(word: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8])
    return np.random.default_rng(seed).standard_normal(SIZE)


def build(settings: Settings, scratch: Path) -> Manifest:
    """The manifest of a release as of T, its artefacts in the lake, its customers online."""
    lake = paths.lake(settings)
    bought = fill(lake)
    writer.write_snapshots(lake, T)
    store.apply(settings)
    store.materialize(settings, T - timedelta(days=1), T)
    identity(settings, new_key=iter([f"c{each}" for each in HOUSEHOLDS]).__next__).keys(settings.shop, HOUSEHOLDS)
    files = _files(settings, bought, scratch)
    keep = ArtefactStore(lake)
    kinds = {"ranker_all": Kind.ONNX, "ranker_novel": Kind.ONNX, "encoder": Kind.ONNX,
             "tokenizer": Kind.TOKENIZER, "faiss_index": Kind.FAISS, "query_lexicon": Kind.JSON}  # fmt: skip
    artefacts = {name: keep.put(file, kinds.get(name, Kind.NPZ)) for name, file in files.items()}
    manifest = Manifest.of(
        ReleaseIdentity(shop=settings.shop, artefacts=artefacts, feature_services={}, contracts={}),
        Provenance(runs={}, snapshots={}, fit_until=T, code_revision="test", dag_runs={}),
    )
    keep.save_release(manifest)
    return manifest


def _files(settings: Settings, bought: object, scratch: Path) -> dict[str, Path]:
    purchases = bought[["customer_key", "basket_id", "product_id", "event_time"]]
    models = {
        "als": fit_als(ALSConfig(embedding_size=8, epochs=3), purchases, T),
        "ease": ease.fit(ease.EASEConfig(items=300, neighbours=20, min_households=3), purchases, T),
        "co_purchase": copurchase.fit(copurchase.CoPurchaseConfig(min_baskets=5), purchases, T),
    }
    catalogue = fit.fit_catalogue(settings, T)
    files = {name: model.save(scratch / name) for name, model in models.items()}
    files["product_features"] = catalogue.save(scratch / "product_features")
    files |= _rankers(settings, Artefacts.of(catalogue, models), purchases, scratch)
    products = as_of(paths.lake(settings), "products", event_before=T, known_before=T).execute()
    products = products.sort_values("product_id", ignore_index=True)
    known = lexicon.texts_of(catalogue, index.full_texts(products))
    made = lexicon.build_lexicon(known, load_search_words(settings.shop), minor_digits=2, until=T)
    files["query_lexicon"] = lexicon.write_lexicon(made, scratch / "query_lexicon")
    return files | _search(products, scratch)


def _rankers(settings: Settings, artefacts: Artefacts, purchases: object, scratch: Path) -> dict[str, Path]:
    """Two rankers that learned nothing of worth: labels are the last week before T, already in the features."""
    customers = fit.customers(settings, T, sorted(purchases["customer_key"].unique()))
    last_week = purchases.assign(event_time=purchases["event_time"] + timedelta(days=7))
    rows = dataset.build(artefacts, customers, last_week, T, T + timedelta(days=7))
    small = {"trees": 5, "leaves": 7, "min_data": 20, "min_households": 5, "threads": 1}
    files = {}
    for goal in ("all", "novel"):
        trained = ranker.train(ranker.RankerConfig(goal="all", **small), rows)
        files[f"ranker_{goal}"] = trained.save(scratch / f"ranker_{goal}")
    return files


def _search(products: object, scratch: Path) -> dict[str, Path]:
    from mercato.paths import sha256_file
    from serving.runtime.encoder import Encoder

    texts = sorted(set(index.semantic_texts(products)))
    encoder, tokenizer = write_encoder(scratch, [word for text in texts for word in search_tokens(text)])
    vectors = Encoder.load(encoder, tokenizer).encode_all(texts)
    index.build_vector_index(vectors, scratch / "faiss_index")
    index.build_keyword_index(
        products, texts, IndexConfig(), scratch / "keyword_index", encoder=sha256_file(encoder), until=T
    )
    keyword = scratch / "keyword_index"
    keyword = keyword if keyword.exists() else keyword.with_suffix(".npz")
    return {
        "encoder": encoder,
        "tokenizer": tokenizer,
        "faiss_index": scratch / "faiss_index",
        "keyword_index": keyword,
    }


def go_live(settings: Settings, weights: dict[str, int]) -> RoutingDocument:
    """The next generation of the routing document."""
    routing = routing_store(settings)
    live = routing.live(settings.shop)
    seen = live.generation if live else 0
    return routing.write(settings.shop, seen=seen, weights=weights, salt="s", reason="test", at=T)
