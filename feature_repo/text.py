"""What a product is called and how a query is normalised: one home for training, index and gateway.

A shop that has no product names, such as The Complete Journey, gets them composed from type, size and brand.
"""

from __future__ import annotations

import html
import re
import unicodedata

_TAG = re.compile(r"<[^<>]{1,200}>")
_SPACES = re.compile(r"\s+")
_MARKS = "".join(chr(at) for at in range(0x300, 0x10000) if unicodedata.category(chr(at)).startswith("M"))
"""Vowel signs and accents: parts of a word that `\\w` leaves out, without which Hindi falls to pieces."""
_NOT_WORD = re.compile(rf"[^\w{_MARKS}.%&']+", re.UNICODE)
_GAP_AROUND_SLASH = re.compile(r"\s*/\s*")

MAX_QUERY_CHARS = 256
"""Characters of a query that are read; the rest cannot change what a shopper meant."""


def _tidy(value: str | None) -> str:
    """One line, single spaces, no space around slashes; "" for a missing value."""
    return _GAP_AROUND_SLASH.sub("/", _SPACES.sub(" ", value or "")).strip(" -:,")


def _title(value: str) -> str:
    """Title case that leaves digits, units and apostrophes alone: "BREAD:ITALIAN" -> "Bread: Italian"."""
    spaced = value.replace(":", ": ").replace("  ", " ")
    return re.sub(r"[A-Za-z][A-Za-z']*", lambda m: m.group(0).capitalize(), spaced)


def product_name(  # noqa: PLR0913 - named
    *,
    name: str | None = None,
    product_type: str | None,
    package_size: str | None,
    brand: str | None,
    category: str | None = None,
    department: str | None = None,
) -> str:
    """The name a shopper reads: the shop's own, else "Ice - Crushed/Cubed, 22 LB (National)"; never empty.

    Falls back from type to category to department to "Product".
    """
    if own := _tidy(name):
        return _title(own) if own.isupper() else own
    head = next((t for t in map(_tidy, (product_type, category, department)) if t), "Product")
    size = _tidy(package_size)
    label = _tidy(brand)
    composed = _title(head)
    if size:
        composed += f", {size.upper()}"
    if label:
        composed += f" ({_title(label)})"
    return composed


def product_text(  # noqa: PLR0913 - named
    *,
    name: str | None = None,
    product_type: str | None,
    package_size: str | None,
    brand: str | None,
    category: str | None,
    department: str | None,
) -> str:
    """The text that search indexes and the encoder embeds: lower case, name first, then category and department."""
    parts = [_tidy(v) for v in (name, product_type, category, department, package_size, brand)]
    seen: dict[str, None] = {}
    for part in parts:
        if part:
            seen.setdefault(part.lower().replace(":", " ").replace("/", " "), None)
    return _SPACES.sub(" ", ", ".join(seen))


def normalise_query(query: str) -> str:
    """The query as every index reads it: its first MAX_QUERY_CHARS, normalised. Idempotent."""
    return normalise(query[:MAX_QUERY_CHARS])[:MAX_QUERY_CHARS].strip()


def query_text(query: str) -> str:
    """The words of a query as products hold them, single spaces between. Idempotent."""
    return " ".join(words(normalise_query(query)))


def words(text: str) -> list[str]:
    """The words of a text of any length; full stops, apostrophes and ampersands at their edges are no part of them."""
    return [word for each in normalise(text).split() if (word := each.strip(".&'"))]


def normalise(text: str) -> str:
    """A text of any length as every index reads it: NFKC, lower case, words only, single spaces. Idempotent."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return _SPACES.sub(" ", _NOT_WORD.sub(" ", folded)).strip()


def without_markup(text: str) -> str:
    """A text without HTML tags, its entities as characters."""
    return html.unescape(_TAG.sub(" ", text))
