"""What each step of query understanding is worth on the Chorus judgments, through the served path.

The same engine answers every row; only the steps that are left out differ. `MERCATO_SOURCES` is the folder of the
catalogue's zipped JSON: `MERCATO_SOURCES=... python -m tests.bench.query`.
"""

import os
import time
from collections.abc import Collection
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from data_contracts.search_words import load_search_words
from mercato.settings import Settings
from monitoring.statistics import paired_gain
from serving.runtime.query.lexicon import Lexicon
from serving.runtime.query.understand import STEPS, StepName, understand
from serving.runtime.understanding import Understanding, as_written
from tests.bench.search import AT, engine, products
from training import search_quality
from training.golden import read
from training.lexicon import Texts, build_lexicon


def lexicon(catalogue: pd.DataFrame) -> Lexicon:
    """The lexicon of these products."""
    filled = catalogue.fillna("")
    texts = Texts(
        name=filled["name"].tolist(),
        full=(filled["name"] + ", " + filled["description"] + ", " + filled["product_type"]).tolist(),
        brand=filled["brand"].tolist(),
        category=filled["product_type"].tolist(),
        popularity=[0.0] * len(filled),
    )
    return Lexicon(build_lexicon(texts, load_search_words("chorus"), minor_digits=2, until=AT))


def variants() -> dict[str, Collection[StepName] | None]:
    """Name -> steps left out; None: the query as written."""
    return {
        "all steps": (),
        **{f"without {name}": (name,) for name in STEPS},
        **{f"only {name}": tuple(each for each in STEPS if each != name) for name in STEPS},
        "as written": None,
    }


def main() -> None:
    """Print the table, Markdown."""
    catalogue = products(Path(os.environ["MERCATO_SOURCES"]))
    built, words = engine(catalogue, Settings().root / "bench" / "search"), lexicon(catalogue)
    judged = read("chorus")
    print(
        "| queries | steps | nDCG@10 | judged@10 | changed | nDCG@10 against as written (95 %) | p95 ms of understand |"
    )
    print("|---|---|---|---|---|---|---|")
    for asked, ask in (("as written", str), ("misspelt", search_quality.misspelt)):
        plain = search_quality.score(search_quality.served(built), judged, ask)
        for name, refuse in variants().items():
            reads = as_written if refuse is None else partial(understand, lexicon=words, refuse=refuse)
            took: list[float] = []
            scores = search_quality.score(search_quality.served(built, partial(_timed, reads, took)), judged, ask)
            gain = paired_gain(scores["ndcg_at_10"].to_numpy(), plain["ndcg_at_10"].to_numpy())
            changed = int((scores["ndcg_at_10"] != plain["ndcg_at_10"]).sum())
            print(
                f"| {asked} | {name} | {scores['ndcg_at_10'].mean():.4f} | {scores['judged_at_10'].mean():.3f} | "
                f"{changed} | {gain.mean:+.4f} ({gain.low:+.4f} to {gain.high:+.4f}) | {np.percentile(took, 95):.2f} |"
            )


def _timed(reads: partial[Understanding], took: list[float], query: str) -> Understanding:
    start = time.perf_counter()
    made = reads(query)
    took.append((time.perf_counter() - start) * 1e3)
    return made


if __name__ == "__main__":
    main()
