"""How a shopper's message is read by the linear intent model: pieces of words, also by sound and across scripts.

One home for training and serving. Hindi in Devanagari is written out in Latin letters, so that "चाहिए" and "chahiye"
share pieces; the sound of a word leaves out what everybody spells in their own way, so that "chahie", "chaiye" and
"chahiye" are one.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

MAX_CHARS: Final = 500
"""Characters of a message that are read."""

_CONSONANTS: Final = {
    "क": "k", "ख": "kh", "ग": "g", "घ": "gh", "ङ": "n", "च": "ch", "छ": "ch", "ज": "j", "झ": "jh", "ञ": "n",
    "ट": "t", "ठ": "th", "ड": "d", "ढ": "dh", "ण": "n", "त": "t", "थ": "th", "द": "d", "ध": "dh", "न": "n",
    "प": "p", "फ": "f", "ब": "b", "भ": "bh", "म": "m", "य": "y", "र": "r", "ल": "l", "व": "v", "श": "sh",
    "ष": "sh", "स": "s", "ह": "h", "ळ": "l",
}  # fmt: skip
_VOWELS: Final = {
    "अ": "a", "आ": "a", "इ": "i", "ई": "i", "उ": "u", "ऊ": "u", "ऋ": "ri", "ए": "e", "ऐ": "ai", "ओ": "o", "औ": "au",
    "ऑ": "o", "ऍ": "e",
}  # fmt: skip
_SIGNS: Final = {
    "\u093e": "a", "\u093f": "i", "\u0940": "i", "\u0941": "u", "\u0942": "u", "\u0943": "ri", "\u0947": "e",
    "\u0948": "ai", "\u094b": "o", "\u094c": "au", "\u0949": "o", "\u0945": "e",
}  # fmt: skip
_NASAL: Final = "\u0902\u0901"
_DEVANAGARI: Final = re.compile(r"[\u0900-\u0963\u0971-\u097f]+")
_WORD: Final = re.compile(r"[\w\u0900-\u097f]+")
_SAME_SOUND: Final = (
    (re.compile(r"(.)\1+"), r"\1"),
    (re.compile("ph"), "f"), (re.compile("w"), "v"), (re.compile("z"), "j"), (re.compile("q"), "k"),
    (re.compile("ck"), "k"), (re.compile("x"), "ks"), (re.compile("sh"), "s"), (re.compile("ch"), "c"),
    (re.compile(r"([kgcjtdpb])h"), r"\1"),
)  # fmt: skip
_SILENT: Final = re.compile("[aeiouyh]")


def tidy(message: str) -> str:
    """The message as every intent model reads it: NFKC, one line, single spaces, case and punctuation kept."""
    return " ".join(unicodedata.normalize("NFKC", message[:MAX_CHARS]).split())


def romanised(text: str) -> str:
    """The text with its Devanagari words in Latin letters; a vowel that is not written is "a", none at a word's end."""
    return _DEVANAGARI.sub(lambda found: _latin(found.group()), text)


def _latin(word: str) -> str:
    out: list[str] = []
    open_consonant = False
    for sign in unicodedata.normalize("NFD", word).replace("\u093c", ""):
        consonant = _CONSONANTS.get(sign)
        if open_consonant and (consonant or sign in _VOWELS or sign in _NASAL):
            out.append("a")
        open_consonant = consonant is not None
        out.append(consonant or _VOWELS.get(sign) or _SIGNS.get(sign) or ("n" if sign in _NASAL else ""))
    return "".join(out)


def sound(word: str) -> str:
    """The consonants of a Latin word, those that are spelled in several ways as one; its first letter stays."""
    for found, said in _SAME_SOUND:
        word = found.sub(said, word)
    return word[:1] + _SILENT.sub("", word[1:])


def message_features(message: str) -> list[str]:
    """The pieces of a message: `c:` runs of 1-5 letters within words, `w:` words and pairs, `s:` the same by sound.

    `p:` are runs of 2-4 letters of the sounds. A piece that is there twice is listed twice.
    """
    written = tidy(message).lower()
    latin = romanised(written)
    words = _WORD.findall(written)
    sounds = [sound(word) for word in _WORD.findall(latin)]
    return [
        *(f"c:{piece}" for word in latin.split() for piece in _runs(f" {word} ", 1, 5)),
        *_pairs("w:", words),
        *_pairs("s:", sounds),
        *(f"p:{piece}" for word in sounds for piece in _runs(f" {word} ", 2, 4)),
    ]


def _runs(word: str, shortest: int, longest: int) -> Iterator[str]:
    for n in range(shortest, min(longest, len(word)) + 1):
        for at in range(len(word) - n + 1):
            yield word[at : at + n]


def _pairs(prefix: str, words: list[str]) -> Iterator[str]:
    for at, word in enumerate(words):
        yield prefix + word
        if at:
            yield f"{prefix}{words[at - 1]} {word}"
