"""Messages made worse on purpose: typos, casing, code-switching. Simulated, and reported as such."""

import re
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import pandas as pd

from feature_repo.message_text import romanised

_WORD: Final = re.compile(r"[^\W\d_\u0900-\u097f]{5,}|[\u0900-\u0963\u0970-\u097f]{5,}")
"""Five letters or more; in Devanagari vowel signs, which `\\w` leaves out, are letters that people get wrong too."""
_HINGLISH: Final[Mapping[str, str]] = {
    "where": "kahan", "is": "hai", "my": "mera", "not": "nahi", "want": "chahiye", "need": "chahiye", "how": "kaise",
    "much": "kitna", "what": "kya", "when": "kab", "and": "aur", "for": "ke liye", "this": "ye", "that": "wo",
    "good": "accha", "give": "do", "show": "dikhao", "tell": "batao", "please": "zara", "with": "ke saath",
    "in": "me", "from": "se", "me": "mujhe", "add": "daalo", "remove": "hatao", "cheap": "sasta", "now": "abhi",
    "will": "hoga", "come": "aaega", "buy": "lena", "under": "se kam", "new": "naya", "which": "kaunsa",
    "back": "wapas",
}  # fmt: skip
"""English word -> what Hindi speakers often write in its place, in Latin letters."""


def with_typos(text: str, rng: np.random.Generator) -> str:
    """The text with one edit in each word of five letters or more: two letters swapped, one lost, or one doubled."""

    def edited(found: re.Match[str]) -> str:
        word = found.group()
        at, kind = int(rng.integers(1, len(word) - 1)), int(rng.integers(3))
        if kind == 0:
            return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        return word[:at] + word[at + 1 :] if kind == 1 else word[:at] + word[at] + word[at:]

    return _WORD.sub(edited, text)


def code_switched(text: str, _: np.random.Generator) -> str:
    """Devanagari in Latin letters; English function words and shop verbs as Hinglish has them."""
    latin = romanised(text)
    return re.sub(r"[A-Za-z]+", lambda found: _HINGLISH.get(found.group().lower(), found.group()), latin)


WORSE: Final[Mapping[str, Callable[[str, np.random.Generator], str]]] = {
    "typos": with_typos,
    "capitals": lambda text, _: text.upper(),
    "small letters, no punctuation": lambda text, _: re.sub(r"[^\w\s\u0900-\u097f₹]", "", text.lower()),
    "code-switching": code_switched,
}
"""Name -> what is done to a message."""


def worse(messages: pd.DataFrame, kind: str, *, seed: int = 0) -> pd.DataFrame:
    """The messages made worse in one way."""
    rng = np.random.default_rng(seed)
    change = WORSE[kind]
    return messages.assign(text=[change(text, rng) or text for text in messages["text"]])
