"""The training datasets there are."""

from collections.abc import Mapping

from training.datasets.builder import Builder
from training.datasets.corpus import CORPUS
from training.datasets.from_file import CUSTOMER_FEEDBACK
from training.datasets.intents import INTENT
from training.datasets.recommendation import RECOMMENDATION
from training.datasets.search_pairs import SEARCH_PAIRS
from training.errors import BadConfig

BUILDERS: Mapping[str, Builder] = {
    each.name: each for each in (RECOMMENDATION, INTENT, CORPUS, CUSTOMER_FEEDBACK, SEARCH_PAIRS)
}


def builder(name: str) -> Builder:
    """The builder of a dataset; BadConfig names those there are."""
    if name not in BUILDERS:
        raise BadConfig(f"found no builder of the dataset {name!r}; known: {', '.join(sorted(BUILDERS))}")
    return BUILDERS[name]
