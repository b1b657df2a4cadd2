"""Spelling: what a word that the shop does not know was meant to be, and how sure that is."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from symspellpy import SymSpell, Verbosity

CONFIDENCE: Final = 0.8
"""A correction below this probability is not made."""
UNSURE: Final = 0.5
"""The same where nothing else was found: relaxation asks for it."""
_EDIT: Final = 0.02
"""How much less likely each further edit is: Damerau's 80 % of misspellings have one."""
_AS_WRITTEN: Final = 0.05
"""Products that would have to hold a word for it to be as likely as no error at all, before edits."""
_PAIR: Final = 20.0
"""How much likelier a word is beside one that it stands beside in products."""
_MIN_LENGTH: Final = 4
_TWO_EDITS: Final = 8
"""Letters from which two edits are looked for."""
_MIN_PART: Final = 3
"""Letters of each part of a compound: below, letters and units only happen to stand side by side."""


@dataclass(frozen=True, slots=True)
class Correction:
    """A word, or two, for one that was misspelled."""

    text: str
    confidence: float
    """Its share of the probability of all readings, "as written" among them."""


class Speller:
    """SymSpell over a shop's words. Source of the algorithm: Garbe, Symmetric Delete spelling correction, 2012."""

    def __init__(self, words: Mapping[str, int], pairs: Mapping[str, int], never: Collection[str] = ()) -> None:
        """Corrections to `words` but those in `never`; `pairs` are neighbours in products."""
        self._words, self._pairs = words, pairs
        compounds = (each for each in sorted(pairs, key=pairs.__getitem__) if min(map(len, each.split())) >= _MIN_PART)
        self._joined = {pair.replace(" ", ""): pair for pair in compounds}
        self._symspell = SymSpell(max_dictionary_edit_distance=2, prefix_length=7)
        for word, count in words.items():
            if word.isalpha() and len(word) >= _MIN_LENGTH - 1 and word not in never:
                self._symspell.create_dictionary_entry(word, count)

    def correct(self, word: str, before: str = "", after: str = "") -> Correction | None:
        """The likeliest reading of a word that no product holds, between its neighbours; None when there is none.

        Args:
            word: as written; short ones and those with anything but letters are left alone.
            before: the word before it.
            after: the word after it.
        """
        if pair := self.apart(word):
            return Correction(pair, 1.0)
        if len(word) < _MIN_LENGTH or not word.isalpha():
            return None
        reach = 2 if len(word) >= _TWO_EDITS else 1
        found = self._symspell.lookup(word, Verbosity.ALL, max_edit_distance=reach)
        weights = {
            each.term: each.count * _EDIT**each.distance * self._beside(before, each.term, after) for each in found
        }
        if not weights:
            return None
        best = max(sorted(weights), key=weights.__getitem__)
        same = sum(weight for term, weight in weights.items() if _same_word(term, best))
        return Correction(best, same / (sum(weights.values()) + _AS_WRITTEN * _EDIT))

    def apart(self, word: str) -> str | None:
        """The two words that products write for one ("harddrive" -> "hard drive"); None when they do not."""
        pair = self._joined.get(word)
        return pair if pair and self._pairs[pair] > self._words.get(word, 0) else None

    def joined(self, first: str, second: str) -> str | None:
        """The one word that products write for two ("head set" -> "headset"); None when they do not."""
        if min(len(first), len(second)) < _MIN_PART:
            return None
        together = first + second
        known = self._words.get(together, 0)
        return together if known > self._pairs.get(f"{first} {second}", 0) else None

    def _beside(self, before: str, word: str, after: str) -> float:
        beside = f"{before} {word}" in self._pairs or f"{word} {after}" in self._pairs
        return _PAIR if beside else 1.0


def _same_word(one: str, other: str) -> bool:
    """Whether two readings differ by a plural only: confusing them costs nothing, words are stemmed."""
    short, long = sorted((one, other), key=len)
    return long in {short, short + "s", short + "es"}
