"""What query understanding knows of one shop: the words of its catalogue and the data that people wrote beside it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from data_contracts.errors import ArtefactRefused
from feature_repo.search_text import search_tokens
from serving.runtime.query.spelling import Speller

_MIN_STEM: Final = 4
"""Letters of a stem that make two words the same: shorter ones meet by chance ("gmaing" and "GMA")."""


class Entry(BaseModel):
    """One thing to suggest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    """As a shopper reads it."""
    kind: str
    """query, category, brand or product."""
    weight: float
    """How wanted it is: decayed purchases, or customers who searched it."""


class LexiconFile(BaseModel):
    """`query_lexicon`: plain data; every phrase is normalised as a query is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    fit_until: str
    words: dict[str, int]
    """Word as products write it -> products (and logged queries) that hold it."""
    pairs: dict[str, int]
    """Two words that follow one another -> products that hold them so."""
    brands: dict[str, str]
    """Brand, normalised -> as products name it."""
    categories: dict[str, str]
    """Category, normalised -> as products name it."""
    abbreviations: dict[str, str]
    synonyms: dict[str, list[str]]
    """Phrase -> phrases that may stand for it."""
    synonym_boost: float
    fillers: list[str]
    buying: list[str]
    asking: list[str]
    function_words: list[str]
    colours: list[str]
    suggestions: list[Entry]
    minor_digits: int
    """Decimal digits of the shop's minor unit: what a price in a query is counted in."""


@dataclass(frozen=True)
class Lexicon:
    """A lexicon in memory, with what is derived from it."""

    kind: ClassVar[str] = "query_lexicon"
    data: LexiconFile

    @classmethod
    def load(cls, path: Path) -> Self:
        """The lexicon of a verified file.

        Raises:
            ArtefactRefused: the file is no lexicon.
        """
        try:
            data = LexiconFile.model_validate(json.loads(path.read_bytes()))
        except (OSError, ValueError, ValidationError) as error:
            raise ArtefactRefused(f"found no {cls.kind} in {path.name} ({error}); run rebuild_index") from error
        if data.kind != cls.kind:
            raise ArtefactRefused(f"found an artefact of kind {data.kind} in {path.name}, needed {cls.kind}")
        made = cls(data)
        # Built now, so that no request waits for it.
        _ = made.speller, made.stems, made.longest_phrase
        return made

    @cached_property
    def stems(self) -> frozenset[str]:
        """The stems of all words."""
        return frozenset(stem for word in self.data.words for stem in search_tokens(word))

    @cached_property
    def speller(self) -> Speller:
        """Corrections out of the shop's own words."""
        return Speller(self.data.words, self.data.pairs, never=frozenset(self.data.function_words))

    @cached_property
    def own_words(self) -> frozenset[str]:
        """Words that are right whether or not a product uses them: of brands, abbreviations and synonyms."""
        known = (*self.data.brands, *self.data.abbreviations, *self.data.synonyms)
        return frozenset(word for phrase in known for word in phrase.split())

    @cached_property
    def long_forms(self) -> Mapping[str, Sequence[str]]:
        """Long form -> its abbreviations on labels, those that products use."""
        found: dict[str, list[str]] = {}
        for short, long in self.data.abbreviations.items():
            if short in self.data.words:
                found.setdefault(long, []).append(short)
        return found

    @cached_property
    def longest_phrase(self) -> int:
        """Words of the longest phrase that is looked up."""
        keys: tuple[Mapping[str, Any], ...] = (
            self.data.brands, self.data.categories, self.data.abbreviations, self.long_forms, self.data.synonyms,
        )  # fmt: skip
        return max((len(phrase.split()) for mapping in keys for phrase in mapping), default=1)

    def knows(self, word: str) -> bool:
        """Whether a product uses the word, in this form or another of the same stem."""
        if word in self.data.words:
            return True
        return any(len(stem) >= _MIN_STEM and stem in self.stems for stem in search_tokens(word))


@dataclass(frozen=True, slots=True)
class Found:
    """A phrase of a mapping, found in a query: words [start, end)."""

    start: int
    end: int
    phrase: str
    value: Any


def phrases(words: Sequence[str], known: Mapping[str, Any], longest: int) -> list[Found]:
    """The longest phrases of `known` in `words`, from left to right, none overlapping another."""
    found: list[Found] = []
    at = 0
    while at < len(words):
        for end in range(min(len(words), at + longest), at, -1):
            phrase = " ".join(words[at:end])
            if phrase in known:
                found.append(Found(at, end, phrase, known[phrase]))
                at = end - 1
                break
        at += 1
    return found
