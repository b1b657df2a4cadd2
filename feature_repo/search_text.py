"""Words and texts as the search indexes read them: one home for building an index and for querying it."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from nltk.stem.snowball import SnowballStemmer

from feature_repo.text import normalise_query, product_text, without_markup, words

FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "name": ("name",),
    "brand": ("brand",),
    "category": ("product_type", "category", "department"),
    "attributes": ("package_size", "attributes"),
    "description": ("description",),
}
"""Field of the keyword index -> the columns of clean/products whose words it holds."""
_SEMANTIC: Final = ("name", "product_type", "brand", "category", "department")
"""Columns of clean/products that say what a product is."""
_ATTRIBUTE: Final = re.compile(r"(?:^|; )[^:;]{1,100}: ")
"""What an attribute is called, before its value: `colour: ` in "colour: black; length: 3 m"."""
_stemmer: Any = SnowballStemmer("english")


@lru_cache(maxsize=100_000)
def _stem(word: str) -> str:
    return str(_stemmer.stem(word))


def search_tokens(text: str) -> list[str]:
    """The stems of a query, in order: "Frozen Pizzas" -> ["frozen", "pizza"]."""
    return stems(normalise_query(text))


def stems(text: str) -> list[str]:
    """The stems of a text of any length, in order."""
    return [_stem(word) for word in words(text)]


def field_texts(product: Mapping[str, str | None]) -> tuple[str, ...]:
    """The text of each of FIELDS for one row of clean/products; "" where it says nothing."""
    said = {**product, "attributes": _ATTRIBUTE.sub(", ", product.get("attributes") or "")}
    return tuple(
        without_markup(", ".join(text for column in columns if (text := said.get(column))))
        for columns in FIELDS.values()
    )


def semantic_text(product: Mapping[str, str | None]) -> str:
    """The text whose vector stands for a product: its meaning, without the package size."""
    return product_text(package_size=None, **{column: product.get(column) for column in _SEMANTIC})
