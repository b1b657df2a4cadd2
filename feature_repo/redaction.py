"""Personal data in what shoppers write, replaced by typed placeholders such as <PHONE>.

Presidio's recognisers, patterns of our own, and spaCy for English names. How much they find is measured
(docs/annotation.md): this lowers a risk, it is no proof that nothing is left.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

KINDS: Final = (
    "EMAIL", "UPI", "IBAN", "GSTIN", "CARD", "AADHAAR", "PAN", "IP", "PHONE", "ADDRESS", "POSTCODE", "NAME"
)  # fmt: skip
"""What is replaced; where two overlap, the earlier one names both."""
_PLACEHOLDER = re.compile(rf"<(?:{'|'.join(KINDS)})>")
_ORDER = re.compile(
    r"(?:order|purchase|invoice|bill|receipt|booking|transaction|tracking|awb|shipment|consignment|refund|ticket"
    r"|reference|ref|ऑर्डर|बिल|रसीद)(?:\W*(?:no|num|number|nr|id|code|is|was|of|hai|है|नंबर|नम्बर|संख्या)\b)*[\s#:.=-]*$",
    re.IGNORECASE,
)
"""Ends before a number that the shop gave out: without the shop's books it says nothing of a person."""
_NUMBERS = frozenset({"CARD", "AADHAAR", "PHONE"})
_GROUPED_CARD = re.compile(r"\d{4}([ -])\d{4}\1\d{4}\1\d{4}")
_PHONE_REGIONS = ("IN", "US", "GB", "DE", "FR", "AU")
_MIN_PHONE_DIGITS = 7
_MIN_DIGITS = 4
"""Texts with fewer hold no number that is searched for."""
_TITLE = r"[^\W\d_a-z](?:[^\W\d_]|['\u2019.-])*"
_PLACE = (
    "Street|St|Road|Rd|Avenue|Ave|Lane|Ln|Boulevard|Blvd|Court|Ct|Place|Pl|Terrace|Square|Nagar|Marg|Colony"
    "|Sector|Layout|Enclave|Vihar|Parade|Crescent|Highway|Hwy"
)
_PIN = r"[1-9]\d{2} ?\d{3}"
_NO_NAME = "hai|h|he|hain|and|aur|but|i|par|order|please|pls|use|not|going|to|be|on|in|for|with|from|mera|my|wrong|is"
"""What follows a name, or "my name is", and is none."""
_PATTERNS: Final = {
    "PAN": r"\b(?P<it>[A-Za-z]{3}[ABCFGHJLPTabcfghjlpt][A-Za-z]\d{4}[A-Za-z])\b",
    "UPI": r"(?<![\w.@-])(?P<it>[\w.-]{2,64}@[A-Za-z]{2,32})\b(?![.-]?\w|@)",
    "CARD": (
        r"(?i:\b(?:card|cc)\b|कार्ड)(?:[^\d\n]{0,20}?)\b"
        r"(?P<it>\d{12,19}|\d{4}([ -])\d{4,6}\2\d{4,5}(?:\2\d{4})?)(?![\w-])"
    ),
    "PHONE": (
        r"(?<![\w.-])(?P<it>(?:\+?91[ -]?|0)?[6-9](?:\d{9}|\d{4}[ -]\d{5}|\d{2}[ -]\d{3}[ -]\d{4}))(?![\w-])"
        r"|(?i:\b(?:phone|mobile|mob|cell|call me|whatsapp|contact|tel|fax|text me)\b|मोबाइल|फ़ोन|फोन)"
        r"(?:[^\d\n+(]{0,20})(?P<it2>\+?\(?\d[\d ()./-]{5,18}\d)(?![\w-])"
        r"|(?<![\w+])(?P<it3>\+\d[\d ()-]{7,18}\d)(?!\w)"
    ),
    "POSTCODE": (
        rf"(?i:\bpin(?: ?code)?|पिन ?कोड)(?i:[\s:]|is|no)*(?P<it>{_PIN})\b"
        r"|(?i:\bzip(?: ?code)?|post(?:al)? ?code)(?i:[\s:]|is)*(?P<it2>\d{3,6}(?:[ -]\d{2,4})?)\b"
        r"|[^\W\d_]{3,} ?- ?(?P<it3>[1-9]\d{5})\b|, ?[A-Z]{2} (?P<it4>\d{5}(?:-\d{4})?)\b"
    ),
    "ADDRESS": (
        rf"\b(?P<it>(?i:flat|house|h\.?|plot|door)\.? ?(?i:no|number)\.? ?#?\d+[A-Za-z]?(?:[/-]\d+)?\b"
        rf"(?:[ ,]+(?:{_TITLE}|\d+\b))*)"
        rf"|(?<![\w.])(?P<it2>\d{{1,6}}[A-Da-d]?,? (?:{_TITLE} ){{1,4}}(?:{_PLACE})\b\.?"
        r"(?:,? (?:Apt|Suite|Ste|Unit|Flat|Floor)\.? ?#?\d+\w*)?)"
        r"|\b(?P<it3>P\.?O\.? Box \d+)\b"
        r"|(?i:\baddress)(?i:[ :]|is|to|hai)+"
        r"(?P<it4>\d(?:(?!(?i:\b(?:and|but|pls|please|instead)\b))[^\n?!;<]){3,70})"
    ),
    "NAME": (
        rf"(?i:\bmy (?:full )?name(?: is|'s)|\bi am called|\bmera (?:naam|name))\s+"
        rf"(?P<it>(?!(?i:{_NO_NAME})\b)[^\W\d_]{{2,}}(?:[ .](?!(?i:{_NO_NAME})\b)[^\W\d_]{{2,}}){{0,2}})"
        r"|मेरा नाम (?P<it2>[\u0900-\u0963\u0970-\u097F]+(?: (?!है|हैं|और)[\u0900-\u0963\u0970-\u097F]+){0,2})"
    ),
}
"""Kind -> where it is, as a group whose name begins with `it`."""
_OWN: Final = {kind: re.compile(pattern) for kind, pattern in _PATTERNS.items()}
_NAME_WORD = re.compile(_TITLE)


@dataclass(frozen=True, slots=True)
class Found:
    """Personal data in a text: characters [start, end)."""

    start: int
    end: int
    kind: str


@dataclass(frozen=True)
class Redactor:
    """Replaces personal data; the same text always gives the same one, and a redacted text stays as it is."""

    product_words: frozenset[str] = field(default_factory=frozenset)
    """Words of the catalogue, lower case: a name that is made of them alone is taken for a product's."""
    guess_names: bool = True
    """Ask spaCy for names, beside those that somebody introduces themselves with."""

    def redact(self, texts: Sequence[str]) -> list[str]:
        """The texts with placeholders; all else is left as it is.

        What a text hides changes how the rest of it reads, so a text is read again until nothing more is found.
        """
        done = list(texts)
        at = list(range(len(done)))
        while at:
            found = self.find([done[each] for each in at])
            changed = [(each, spans) for each, spans in zip(at, found, strict=True) if spans]
            for each, spans in changed:
                done[each] = _replaced(done[each], spans)
            at = [each for each, _ in changed]
        return done

    def find(self, texts: Sequence[str]) -> list[list[Found]]:
        """What would be replaced in each text, in order, none overlapping."""
        names = self._guessed(texts) if self.guess_names else [[] for _ in texts]
        return [self._together(text, [*_by_pattern(text), *more]) for text, more in zip(texts, names, strict=True)]

    def _guessed(self, texts: Sequence[str]) -> list[list[Found]]:
        """Persons in the eyes of spaCy whose every word has a capital, and that no product is called."""
        found: list[list[Found]] = [[] for _ in texts]
        at = [n for n, text in enumerate(texts) if _NAME_WORD.search(text) and _latin(text)]
        for n, doc in zip(at, _names_model().pipe([texts[n] for n in at]), strict=True):
            for entity in doc.ents:
                if entity.label_ == "PERSON":
                    found[n] += self._name(texts[n], entity.start_char, entity.end_char)
        return found

    def _name(self, text: str, start: int, end: int) -> list[Found]:
        """The span as a name, unless it is written like none or is a product's; none of one word begins a text."""
        span = text[start:end]
        words = span.split()
        known = all(_singular(word.lower()) in self.product_words for word in words)
        capital = all(_NAME_WORD.fullmatch(word) for word in words) and not span.isupper()
        alone = len(words) == 1 and not text[:start].strip()
        return [Found(start, end, "NAME")] if capital and not known and not alone else []

    def _together(self, text: str, found: Iterable[Found]) -> list[Found]:
        held = [(each.start(), each.end()) for each in _PLACEHOLDER.finditer(text)]
        free = (each for each in found if not any(each.start < end and start < each.end for start, end in held))
        merged: list[Found] = []
        for each in sorted(free, key=lambda span: (span.start, -span.end)):
            if merged and each.start < merged[-1].end:
                last = merged.pop()
                kind = min(last.kind, each.kind, key=KINDS.index)
                merged.append(Found(last.start, max(last.end, each.end), kind))
            else:
                merged.append(each)
        return merged


def product_words(texts: Iterable[str | None]) -> frozenset[str]:
    """The words of product names and brands, as `Redactor` compares them."""
    words = {word for text in texts for word in re.findall(r"[^\W\d_][\w'\u2019.-]*", (text or "").lower())}
    return frozenset(_singular(word) for word in words)


def _singular(word: str) -> str:
    return re.sub(r"['\u2019]?s$", "", word.strip(".'\u2019-"))


def _replaced(text: str, spans: Sequence[Found]) -> str:
    parts, at = [], 0
    for each in spans:
        parts += [text[at : each.start], f"<{each.kind}>"]
        at = each.end
    return "".join([*parts, text[at:]])


def _by_pattern(text: str) -> list[Found]:
    plain = _ascii_digits(text)
    found = [
        Found(*match.span(group), kind)
        for kind, pattern in _OWN.items()
        for match in pattern.finditer(plain)
        for group, value in match.groupdict().items()
        if value
    ]
    if "@" in plain or sum(map(str.isdigit, plain)) >= _MIN_DIGITS or "::" in plain:
        found += [each for kind, ask in _recognisers() for each in ask(plain, kind)]
    return [each for each in found if not _given_out(plain, each)]


def _given_out(text: str, found: Found) -> bool:
    """Whether a number is one of the shop's own, by the word before it."""
    if found.kind not in _NUMBERS or _GROUPED_CARD.fullmatch(text[found.start : found.end]):
        return False
    return bool(_ORDER.search(text[: found.start]))


def _ascii_digits(text: str) -> str:
    """`text` with every decimal digit in ASCII, as long as it was."""
    return "".join(str(unicodedata.decimal(char)) if char.isdecimal() else char for char in text)


def _latin(text: str) -> bool:
    letters = [char for char in text if char.isalpha()]
    return sum(char < "\u0250" for char in letters) * 2 > len(letters)


@cache
def _names_model() -> Any:
    from feature_repo.light_presidio import names_model

    return names_model.load(exclude=["tagger", "parser", "senter", "attribute_ruler", "lemmatizer"])


@cache
def _recognisers() -> tuple[tuple[str, Callable[[str, str], list[Found]]], ...]:
    """(kind, what finds it) for each of Presidio's recognisers that we use."""
    from feature_repo import light_presidio as presidio

    made = {
        "EMAIL": presidio.OfflineEmailRecognizer(),
        "IBAN": presidio.IbanRecognizer(),
        "GSTIN": presidio.InGstinRecognizer(),
        "CARD": presidio.CreditCardRecognizer(),
        "AADHAAR": presidio.InAadhaarRecognizer(),
        "PHONE": presidio.PhoneRecognizer(supported_regions=_PHONE_REGIONS),
        "IP": presidio.IpRecognizer(),
        "POSTCODE": presidio.UkPostcodeRecognizer(),
    }

    def asking(recogniser: Any) -> Callable[[str, str], list[Found]]:
        def ask(text: str, kind: str) -> list[Found]:
            found = recogniser.analyze(text, recogniser.supported_entities, None)
            return [Found(each.start, each.end, kind) for each in found if _sure(text, each, kind)]

        return ask

    return tuple((kind, asking(each)) for kind, each in made.items())


def _sure(text: str, found: Any, kind: str) -> bool:
    if kind == "PHONE":
        number = text[found.start : found.end]
        return sum(map(str.isdigit, number)) >= _MIN_PHONE_DIGITS and " x " not in number  # 1680 x 1050 is a size
    return bool(found.score > 0.1)  # noqa: PLR2004 - Presidio's own bound of what its patterns alone say
