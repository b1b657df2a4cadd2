"""Words and texts as the search indexes read them: one home for building an index and for querying it."""

from functools import lru_cache
from typing import Any

from nltk.stem.snowball import SnowballStemmer

from feature_repo.text import normalise_query, product_text

_stemmer: Any = SnowballStemmer("english")


@lru_cache(maxsize=100_000)
def _stem(word: str) -> str:
    return str(_stemmer.stem(word))


def search_tokens(text: str) -> list[str]:
    """The stems of a query or a product text, in order: "Frozen Pizzas" -> ["frozen", "pizza"]."""
    return [_stem(word) for word in normalise_query(text).split()]


def semantic_text(
    *,
    name: str | None = None,
    product_type: str | None,
    brand: str | None,
    category: str | None,
    department: str | None,
) -> str:
    """The text whose vector stands for a product: its meaning, without the package size."""
    return product_text(
        name=name,
        product_type=product_type,
        package_size=None,
        brand=brand,
        category=category,
        department=department,
    )
