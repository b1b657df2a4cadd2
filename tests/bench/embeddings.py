"""Whether fine-tuning helps on the Chorus catalogue: vectors alone, no judged query or near-duplicate learned from.

`MERCATO_SOURCES` is the folder of the catalogue's zipped JSON. Two steps, each from where the last one ended: pieces of
the product texts, judged on every query; then the judgments of four folds of queries, judged on the fifth, among the
judged products and those that another method puts first (encoding all products five times would take most of the time).
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import structlog
from numpy.typing import NDArray

from mercato.settings import Settings
from monitoring.statistics import bootstrap_mean, paired_gain
from serving.runtime.encoder import Encoder
from tests.bench.kept import kept_in
from tests.bench.search import AT, products
from training import index, negatives, pairs, retrieval_quality, search_quality
from training.embeddings import EncoderConfig, encode_texts, export_onnx, quantise
from training.golden import read
from training.tuning import TuningConfig, tune, usable

log = structlog.get_logger()
STRUCTURE = TuningConfig(max_steps=70, max_tokens=32, threads=1)
JUDGED = {"max_steps": 8, "max_tokens": 32, "threads": 1}
POOL = 30
"""Products of each method that the folds are judged among."""


@dataclass(frozen=True, slots=True)
class Shop:
    """The catalogue by text."""

    frame: pd.DataFrame
    texts: list[str]
    rows: NDArray[np.int64]
    """Product -> row of its text."""

    @classmethod
    def of(cls, frame: pd.DataFrame) -> "Shop":
        told = index.semantic_texts(frame)
        texts = sorted(set(told))
        at = {text: row for row, text in enumerate(texts)}
        return cls(frame.assign(text=told), texts, np.array([at[text] for text in told]))

    def search(self, encoder: Encoder, vectors: NDArray[np.float32], among: Sequence[str] | None = None) -> Any:
        keep = np.ones(len(self.frame), bool) if among is None else self.frame["product_id"].isin(among).to_numpy()
        ids = self.frame["product_id"].to_numpy()[keep].tolist()
        return retrieval_quality.exact(encoder, vectors, self.rows[keep], ids)

    def over(self, vectors: NDArray[np.float32]) -> negatives.Texts:
        groups = self.frame.drop_duplicates("text").sort_values("text")["product_type"].fillna("")
        return negatives.Texts(self.texts, vectors, groups.tolist())

    def with_text(self, found: pd.DataFrame) -> pd.DataFrame:
        return found.merge(self.frame[["product_id", "text"]], on="product_id")


def encoded(folder: Path, base: str, texts: Sequence[str]) -> tuple[Encoder, NDArray[np.float32]]:
    """The exported encoder of a base model and the vectors of `texts`; made once."""
    folder.mkdir(parents=True, exist_ok=True)
    config = EncoderConfig(base_model=base, threads=1)
    model, tokenizer = folder / "encoder.onnx", folder / "tokenizer.json"
    if not model.exists():
        export_onnx(config, folder)
    if not (folder / "vectors.npy").exists():
        np.save(folder / "vectors.npy", encode_texts(config, model, tokenizer, texts))
    return Encoder.load(model, tokenizer), np.load(folder / "vectors.npy")


def measure(settings: Settings) -> list[dict[str, Any]]:
    """One row per method and way of asking, with the paired gain over the un-tuned encoder."""
    home = kept_in(settings) / "embeddings"
    shop, judged = Shop.of(products()), read("chorus")
    queries = list(judged.grades)
    untuned = encoded(home / "untuned", EncoderConfig().base_model, shop.texts)
    first = home / "structure"
    _tune_once(first, lambda: _structure(shop, judged, untuned, first))
    tuned = encoded(first, str(first / "tuned"), shop.texts)
    searches = {
        "bm25": search_quality.bm25(shop.frame),
        "un-tuned": shop.search(*untuned),
        "structure": shop.search(*tuned),
    }
    rows = _told(_scored(searches, judged, queries))
    rows += _told(_folds(shop, judged, home, searches, tuned))
    searches["structure, int8"] = shop.search(*_quantised(first, home / "int8", shop.texts))
    whole = {name: retrieval_quality.score(each, judged, queries) for name, each in searches.items()}
    return rows + _told(_rows(whole, "as written")[-1:])


def _told(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`rows`, logged as soon as they are there."""
    for row in rows:
        log.info("bench.row", **row)
    return rows


def _tune_once(folder: Path, run: Any) -> None:
    if not (folder / "tuned").exists():
        begun, cpu = time.monotonic(), time.process_time()
        done = run()
        said = {"steps": done.steps, "step_seconds": done.seconds, "device": done.device,
                "seconds": time.monotonic() - begun, "cpu_seconds": time.process_time() - cpu}  # fmt: skip
        (folder / "run.json").write_text(json.dumps(said))


def _structure(shop: Shop, judged: Any, untuned: Any, folder: Path) -> Any:
    config = pairs.PairConfig(held_out_folds=search_quality.FOLDS)
    dated = shop.frame.assign(event_time=AT, known_at=AT)
    held = pairs.held_out(judged, config)
    made = usable(STRUCTURE, pairs.pairs([pairs.structural(pairs.Catalogue.of(dated), config)], held, config))
    triplets = negatives.triplets(shop.with_text(made), untuned[0], shop.over(untuned[1]), negatives.MiningConfig())
    return tune(STRUCTURE, triplets, folder)


def _quantised(first: Path, folder: Path, texts: Sequence[str]) -> tuple[Encoder, NDArray[np.float32]]:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "encoder.onnx").exists():
        quantise(first / "encoder.onnx", first / "tokenizer.json", folder / "encoder.onnx", texts)
        (folder / "tokenizer.json").write_bytes((first / "tokenizer.json").read_bytes())
    return encoded(folder, "", texts)


def _folds(shop: Shop, judged: Any, home: Path, searches: Any, tuned: Any) -> list[dict[str, Any]]:
    """Scores of every query under the encoder that learned from the other folds' judgments, within the pools."""
    config, fold = pairs.PairConfig(), search_quality.folds(list(judged.grades))
    frames: dict[str, list[pd.DataFrame]] = {}
    for held_fold in range(search_quality.FOLDS):
        held = sorted(query for query, at in fold.items() if at == held_fold)
        folder = home / f"fold{held_fold}"
        made = shop.with_text(pairs.pairs([pairs.judged(judged, held, config, AT)], held, config))
        triplets = negatives.triplets(made, tuned[0], shop.over(tuned[1]), negatives.MiningConfig())
        learn = TuningConfig(base_model=str(home / "structure" / "tuned"), **JUDGED)
        _tune_once(folder, lambda learn=learn, folder=folder, triplets=triplets: tune(learn, triplets, folder))
        among = {product for query in held for product in judged.grades[query]}
        among |= {product for search in searches.values() for query in held for product in search(query)[:POOL]}
        known = shop.frame[shop.frame["product_id"].isin(among)]
        pool = Shop.of(known.drop(columns="text"))
        there = encoded(folder, str(folder / "tuned"), pool.texts)
        methods = {name: _within(search, among) for name, search in searches.items()}
        methods["structure, then judgments"] = pool.search(*there)
        for name, search in methods.items():
            frames.setdefault(name, []).append(retrieval_quality.score(search, judged, held))
    whole = {name: pd.concat(each, ignore_index=True) for name, each in frames.items()}
    return _rows(whole, "as written, among the pools")


def _within(search: Any, among: set[str]) -> Any:
    return lambda query: [product for product in search(query) if product in among]


def _scored(searches: Any, judged: Any, queries: list[str]) -> list[dict[str, Any]]:
    rows = []
    for asked, ask in (("as written", lambda query: query), ("misspelt", search_quality.misspelt)):
        asking = {name: (lambda query, s=search, a=ask: s(a(query))) for name, search in searches.items()}
        rows += _rows({n: retrieval_quality.score(each, judged, queries) for n, each in asking.items()}, asked)
    return rows


def _rows(frames: dict[str, pd.DataFrame], asked: str) -> list[dict[str, Any]]:
    rows = []
    for name, frame in frames.items():
        interval = bootstrap_mean(frame["ndcg_at_10"].to_numpy())
        gain = paired_gain(frame["ndcg_at_10"].to_numpy(), frames["un-tuned"]["ndcg_at_10"].to_numpy())
        scores = {score: round(float(frame[score].mean()), 4) for score in retrieval_quality.SCORES}
        rows.append({"asked": asked, "method": name, "queries": len(frame), **scores,
                     "interval": [round(interval.low, 4), round(interval.high, 4)],
                     "over_un_tuned": [round(each, 4) for each in (gain.mean, gain.low, gain.high)]})  # fmt: skip
    return rows


def lines(found: list[dict[str, Any]]) -> list[str]:
    """The table for people."""
    return [
        f"embeddings, {row['asked']:<28} {row['method']:<26} nDCG@10 {row['ndcg_at_10']:.3f}, over un-tuned "
        + "{:+.3f} [{:+.3f}, {:+.3f}]".format(*row["over_un_tuned"])
        for row in found
    ]
