"""What a shopper may be about to type: queries, categories, brands and products, by prefix, typos forgiven. Pure."""

from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from feature_repo.text import query_text
from serving.runtime.query.lexicon import Entry, Lexicon
from serving.runtime.query.spelling import UNSURE, Speller

KINDS: Final = ("query", "category", "brand", "product")
"""What is suggested; of equal texts the first kind stays."""
_BEFORE: Final = {"query": 3.0, "category": 2.0, "brand": 2.0, "product": 1.0}
"""How much a kind is worth beside its own heaviest entry, which is worth 1."""
_STARTS: Final = 1.0
"""What an entry gains that begins with what was typed."""
_FORGIVEN: Final = 3
"""Letters from which a prefix that nothing begins with may hold one error; its first letter never is one."""
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_LAST: Final = "\U0010ffff"

Ids = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Suggester:
    """Entries by word: CSR postings over the sorted vocabulary, so that a prefix is one slice."""

    entries: Sequence[Entry]
    texts: Sequence[str]
    """Normalised text of each entry."""
    value: NDArray[np.float32]
    """(n_entries,) how good each is by itself."""
    vocabulary: Sequence[str]
    start: NDArray[np.int64]
    postings: Ids
    speller: Speller | None
    product: Mapping[str, int]
    """Product name -> its entry."""

    @classmethod
    def of(cls, lexicon: Lexicon | None) -> Self:
        """The suggester over a lexicon; without one it suggests nothing."""
        entries: dict[str, Entry] = {}
        for each in sorted(lexicon.data.suggestions if lexicon else (), key=lambda e: KINDS.index(e.kind)):
            if text := query_text(each.text):
                entries.setdefault(text, each)
        vocabulary = sorted({word for text in entries for word in text.split()})
        code = {word: at for at, word in enumerate(vocabulary)}
        held = [sorted({code[word] for word in text.split()}) for text in entries]
        codes = np.array([each for words in held for each in words], dtype=np.int32)
        of_entry = np.repeat(np.arange(len(held), dtype=np.int32), [len(words) for words in held])
        return cls(
            entries=list(entries.values()),
            texts=list(entries),
            value=_values(list(entries.values())),
            vocabulary=vocabulary,
            start=np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=len(vocabulary)))]),
            postings=of_entry[np.argsort(codes, kind="stable")],
            speller=lexicon.speller if lexicon else None,
            product={each.text: at for at, each in enumerate(entries.values()) if each.kind == "product"},
        )

    def suggest(self, typed: str, n: int, gone: Collection[str] = ()) -> list[Entry]:
        """The best `n` entries that hold every word typed, the last one as a prefix; none for nothing typed.

        Args:
            typed: what the shopper wrote so far.
            n: entries, at most.
            gone: names that no product bears any more: not suggested as products.
        """
        words = query_text(typed).split()
        if not words or not self.entries:
            return []
        fits = np.ones(len(self.entries), dtype=bool)
        for word in words[:-1]:
            fits &= self._with(self._spans_of(word))
        fits &= self._with(self._spans_from(words[-1]))
        fits[[self.product[name] for name in gone if name in self.product]] = False
        found = np.flatnonzero(fits)
        if len(found) > n * 50:
            found = found[np.argpartition(-self.value[found], n * 50)[: n * 50]]
        begins = " ".join(words)
        score = self.value[found] + np.array([_STARTS * self.texts[at].startswith(begins) for at in found.tolist()])
        return [self.entries[at] for at in found[np.lexsort((found, -score))][:n].tolist()]

    def _with(self, spans: list[tuple[int, int]]) -> NDArray[np.bool_]:
        """(n_entries,) whether an entry holds a word of one of the spans of the vocabulary."""
        held = np.zeros(len(self.entries), dtype=bool)
        for low, high in spans:
            held[self.postings[self.start[low] : self.start[high]]] = True
        return held

    def _spans_of(self, word: str) -> list[tuple[int, int]]:
        """The word itself, else what it was meant to be, else words that begin with it."""
        if span := self._exact(word):
            return span
        best = self.speller.correct(word) if self.speller else None
        if best is not None and best.confidence >= UNSURE and (span := self._exact(best.text)):
            return span
        return self._spans_from(word)

    def _exact(self, word: str) -> list[tuple[int, int]]:
        at = bisect_left(self.vocabulary, word)
        return [(at, at + 1)] if at < len(self.vocabulary) and self.vocabulary[at] == word else []

    def _spans_from(self, prefix: str) -> list[tuple[int, int]]:
        """Words that begin with the prefix, else with what is one edit from it."""
        span = self._range(prefix)
        if span[0] < span[1]:
            return [span]
        if len(prefix) < _FORGIVEN or not prefix.isalpha():
            return []
        near = (self._range(each) for each in sorted(_edits(prefix)))
        return [each for each in near if each[0] < each[1]]

    def _range(self, prefix: str) -> tuple[int, int]:
        return bisect_left(self.vocabulary, prefix), bisect_left(self.vocabulary, prefix + _LAST)


def _values(entries: Sequence[Entry]) -> NDArray[np.float32]:
    """log(1 + weight) by the largest of its kind, plus what the kind is worth."""
    heaviest = {kind: max((e.weight for e in entries if e.kind == kind), default=0.0) for kind in KINDS}
    return np.array(
        [_BEFORE[e.kind] + np.log1p(e.weight) / max(float(np.log1p(heaviest[e.kind])), 1e-9) for e in entries],
        dtype=np.float32,
    )


def _edits(word: str) -> set[str]:
    """Words one letter away (left out, added, replaced, swapped), the first letter kept."""
    splits = [(word[:at], word[at:]) for at in range(1, len(word) + 1)]
    left_out = {head + tail[1:] for head, tail in splits if tail and len(word) > _FORGIVEN}
    swapped = {head + tail[1] + tail[0] + tail[2:] for head, tail in splits if len(tail) > 1}
    added = {head + letter + tail for head, tail in splits for letter in _LETTERS}
    replaced = {head + letter + tail[1:] for head, tail in splits if tail for letter in _LETTERS}
    return (left_out | swapped | added | replaced) - {word}
