"""Words and texts as the search indexes read them: one home for building an index and for querying it."""

from functools import lru_cache
from typing import Any

from nltk.stem.snowball import SnowballStemmer

from feature_repo.text import normalise, normalise_query, product_text

_stemmer: Any = SnowballStemmer("english")


@lru_cache(maxsize=100_000)
def _stem(word: str) -> str:
    return str(_stemmer.stem(word))


def search_tokens(text: str) -> list[str]:
    """The stems of a query, in order: "Frozen Pizzas" -> ["frozen", "pizza"]."""
    return stems(normalise_query(text))


def stems(text: str) -> list[str]:
    """The stems of a text of any length, in order; full stops at the end of a word are no part of it."""
    return [_stem(word) for each in normalise(text).split() if (word := each.strip(".&'"))]


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
