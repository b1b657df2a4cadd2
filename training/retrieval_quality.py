"""How well vectors alone find what judged queries ask for, and what tells two encoders apart."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from serving.runtime.encoder import Encoder
from training.search_quality import Judgments, K, Search, ndcg

SCORES: Final = ("ndcg_at_10", "mrr", "recall_at_100")
"""Columns of scores, in their order."""
DEPTH: Final = 100
"""Cut-off of recall and of MRR, in positions."""


def score(search: Search, judgments: Judgments, queries: Sequence[str]) -> pd.DataFrame:
    """One row per query of `queries` that has something relevant, by query: columns query and SCORES.

    nDCG@10 has gains 2^grade - 1 and takes unjudged products for wrong; for MRR and recall every grade above 0 is
    relevant.

    Source: Voorhees, TREC-8 1999 (MRR).
    """
    rows = []
    for query in sorted(queries):
        grades = judgments.grades[query]
        relevant = {product for product, grade in grades.items() if grade > 0}
        if relevant:
            found = list(search(query))[:DEPTH]
            ranks = [rank for rank, product in enumerate(found, 1) if product in relevant]
            gain = ndcg([grades.get(product, 0) for product in found[:K]], list(grades.values()))
            rows.append((query, gain, 1 / ranks[0] if ranks else 0.0, len(ranks) / len(relevant)))
    return pd.DataFrame(rows, columns=["query", *SCORES])


def exact(encoder: Encoder, vectors: NDArray[np.float32], rows: NDArray[np.int64], ids: Sequence[str]) -> Search:
    """Exact search by cosine.

    Args:
        encoder: of the queries.
        vectors: (n, d) unit vectors of the texts.
        rows: (len(ids),) row of each product's text.
        ids: product ids.
    """
    names = np.asarray(ids, dtype=object)

    def search(query: str) -> list[str]:
        cosines = (vectors @ encoder.encode([query])[0])[rows]
        order = np.lexsort((names, -cosines))[:DEPTH]
        return [str(each) for each in names[order]]

    return search
