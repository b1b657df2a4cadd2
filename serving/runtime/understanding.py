"""What a query means: the words to look for, bounds and boosts read out of it, and how each was found. Pure."""

from dataclasses import dataclass, field
from typing import Any, Literal

from feature_repo.search_text import search_tokens
from feature_repo.text import query_text

QueryClass = Literal["navigational", "informational", "transactional"]


@dataclass(frozen=True, slots=True)
class Term:
    """One word to look for in the keyword index."""

    word: str
    """A stem, as `feature_repo.search_text.search_tokens` makes it."""
    boost: float = 1.0
    """Weight of its score: 1.0 as written, less for a synonym."""
    group: int = 0
    """Position in the query; words that stand for one another share it, and only the best of a group counts."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Filters on results; None leaves a bound open."""

    category: str | None = None
    brand: str | None = None
    price_min_minor: int | None = None
    price_max_minor: int | None = None
    in_stock: bool | None = None
    """A product whose stock is unknown passes either way."""

    def over(self, other: "Bounds") -> "Bounds":
        """These, and those of `other` where these are open."""
        return Bounds(
            *(mine if mine is not None else theirs for mine, theirs in zip(_all(self), _all(other), strict=True))
        )


def _all(bounds: Bounds) -> tuple[Any, ...]:
    return bounds.category, bounds.brand, bounds.price_min_minor, bounds.price_max_minor, bounds.in_stock


@dataclass(frozen=True, slots=True)
class Step:
    """What one step of understanding did."""

    step: str
    """Name of the step: abbreviations, spelling, synonyms, class, entities, ..."""
    before: str
    after: str
    detail: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Understanding:
    """A query, understood."""

    raw: str
    text: str
    """Normalised and corrected: what the encoder embeds."""
    terms: tuple[Term, ...]
    query_class: QueryClass = "informational"
    bounds: Bounds = Bounds()
    """Bounds that the query itself states ("under 1500"); a client can refuse them."""
    phrases: tuple[str, ...] = ()
    """What stood in quotes, normalised: a product's name holds these words side by side, in any inflection."""
    boosts: dict[str, str] = field(default_factory=dict)
    """Field -> value that the query names: results lead with those of brand and category; color and size are shown."""
    trace: tuple[Step, ...] = ()


def as_written(query: str) -> Understanding:
    """The query taken at its words: normalised, nothing corrected, expanded or read out of it."""
    terms = tuple(Term(word, group=at) for at, word in enumerate(search_tokens(query)))
    return Understanding(raw=query, text=query_text(query), terms=terms)
