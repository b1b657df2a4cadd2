"""How shoppers write what they mean: typos, Hinglish spellings, abbreviations. Made up by rules, from a seed."""

from typing import Final

import numpy as np

HINGLISH: Final = (
    ("ph", "f"), ("ee", "i"), ("oo", "u"), ("ck", "k"), ("tion", "shan"), ("sh", "s"), ("th", "t"), ("v", "w"),
    ("z", "j"), ("c", "k"), ("x", "ks"), ("ea", "i"), ("ou", "au"), ("qu", "kw"),
)  # fmt: skip
"""Letters -> how they are written by ear in Roman script by somebody who writes Hindi with it: "frozen" -> "frojen"."""
_KEYS: Final = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEIGHBOURS: Final = {
    key: row[max(at - 1, 0) : at] + row[at + 1 : at + 2] for row in _KEYS for at, key in enumerate(row)
}
_SHORTEST: Final = 4
"""Letters of the shortest word that is changed."""
_VOWELS: Final = frozenset("aeiou")


def noisy(query: str, rng: np.random.Generator) -> str:
    """The query with one word written in another way; the query itself when no word can be.

    Args:
        query: normalised.
        rng: says which word, and whether it gets a typo, a spelling by ear or an abbreviation.
    """
    words = query.split()
    able = [at for at, word in enumerate(words) if len(word) >= _SHORTEST and word.isascii() and word.isalpha()]
    if not able:
        return query
    at = int(rng.choice(able))
    change = (typo, by_ear, abbreviation)[int(rng.integers(3))]
    return " ".join([*words[:at], change(words[at], rng), *words[at + 1 :]])


def typo(word: str, rng: np.random.Generator) -> str:
    """The word with a letter left out, doubled, hit beside its key, or swapped with the next."""
    at = int(rng.integers(1, len(word) - 1))
    before, letter, after = word[:at], word[at], word[at + 1 :]
    made = (
        before + after,
        before + letter * 2 + after,
        before + str(rng.choice(list(_NEIGHBOURS[letter]))) + after,
        before + after[:1] + letter + after[1:],
    )
    return made[int(rng.integers(len(made)))]


def by_ear(word: str, rng: np.random.Generator) -> str:
    """The word with one of the HINGLISH spellings; unchanged when none fits."""
    fitting = [pair for pair in HINGLISH if pair[0] in word]
    if not fitting:
        return word
    letters, spelled = fitting[int(rng.integers(len(fitting)))]
    return word.replace(letters, spelled, 1)


def abbreviation(word: str, rng: np.random.Generator) -> str:
    """The word without the vowels inside it ("frozen" -> "frzn"), or its first letters ("choc")."""
    if rng.integers(2):
        return word[0] + "".join(letter for letter in word[1:] if letter not in _VOWELS)
    return word[: max(_SHORTEST, len(word) // 2)]
