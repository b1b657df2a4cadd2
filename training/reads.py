"""What each artefact is made of, said once: the jobs record these tables, `mercato contract diff` names the readers."""

from collections.abc import Mapping
from typing import Final

_CATALOGUE: Final = ("products", "transactions")

READS: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("als", "ease", "user_knn", "co_purchase"), ("transactions",)),
    "encoder_choice": ("products",),
    "product_vectors": ("products",),
    **dict.fromkeys(("product_features", "keyword_index", "faiss_index"), _CATALOGUE),
    "query_lexicon": (*_CATALOGUE, "interactions"),
    **dict.fromkeys(("ranker_all", "ranker_novel"), ("transactions", "impressions", "interactions")),
}
"""Artefact -> the clean tables that it reads by itself; a shop without sales has no transactions."""
SERVICES_READ: Final[Mapping[str, str]] = {"product_features": "ranker_all_v1"}
"""Artefact -> the feature service that it reads, where that bears another model's name."""
DATASETS_READ: Final[Mapping[str, tuple[str, ...]]] = {
    "encoder_choice": ("search_pairs",),
    "intent": ("intent_examples",),
    **dict.fromkeys(("ranker_all", "ranker_novel"), ("impression_outcomes",)),
}
"""Artefact -> the training datasets that it reads."""
