"""From a query to its understanding: one pipeline of declared steps, each leaving a trace where it did something.

A step can be refused by the client (`refuse`); what is left then is the query as written.
"""

import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Final, Literal, get_args

from feature_repo.search_text import search_tokens
from feature_repo.text import MAX_QUERY_CHARS, query_text
from serving.runtime.query.lexicon import Found, Lexicon, phrases
from serving.runtime.query.prices import price_bounds
from serving.runtime.query.spelling import CONFIDENCE
from serving.runtime.understanding import Bounds, QueryClass, Step, Term, Understanding

StepName = Literal["phrases", "prices", "fillers", "spelling", "abbreviations", "compounds", "synonyms", "entities"]
STEPS: Final[tuple[StepName, ...]] = get_args(StepName)
"""In the order in which they run."""
_MARKS: Final = '"\u201c\u201d\u201e\u00ab\u00bb'
_QUOTED: Final = re.compile(rf"(?<!\w)[{_MARKS}]([^\s{_MARKS}](?:[^{_MARKS}]*[^\s{_MARKS}])?)[{_MARKS}](?!\w)")
"""Words in quotes. The mark behind a number (27" screen) opens none."""
_HELD: Final = "\U00010330"
"""Stands for words in quotes while prices are read beside them: a letter that no shop is asked in (Gothic ahsa)."""
_MEANT_FOR: Final = ("for", "fits", "compatible with", "with")
_MEANT_FOR_AFTER: Final = ("ke liye", "के लिए")
"""A brand after one of the first, before one of the second, is what the product goes with, not who made it."""


_OPEN: Final = Bounds()


@dataclass(slots=True)
class _Draft:
    """A query on its way through the steps."""

    lexicon: Lexicon
    asked: str
    """The words of the query as written."""
    words: list[str]
    confidence: float
    new_stems: Collection[str] = ()
    phrases: tuple[str, ...] = ()
    bounds: Bounds = _OPEN
    also: list[tuple[int, int, str, float]] = field(default_factory=list)
    """Words [start, end) of the query, a phrase that may stand for them, its boost."""
    boosts: dict[str, str] = field(default_factory=dict)
    trace: list[Step] = field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def note(self, step: str, before: str, **detail: object) -> None:
        self.trace.append(Step(step, before, self.text, detail))

    def replace(self, found: Found, by: str) -> None:
        self.words[found.start : found.end] = by.split()


def understand(
    query: str,
    lexicon: Lexicon,
    *,
    refuse: Collection[StepName] = (),
    confidence: float = CONFIDENCE,
    new_stems: Collection[str] = (),
) -> Understanding:
    """What the query means to this shop.

    Args:
        query: what the shopper wrote; what is beyond MAX_QUERY_CHARS is not read.
        lexicon: the shop's.
        refuse: steps to leave out.
        confidence: least probability of a spelling correction, in [0, 1].
        new_stems: stems of products that are newer than the lexicon: words that are right.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", query[:MAX_QUERY_CHARS]).casefold())
    # Price patterns take time that grows with the cube of a run of blanks.
    text = " ".join(folded.replace(_HELD, " ").split())
    draft = _Draft(lexicon, query_text(query), [], confidence, new_stems)
    quoted = _phrases(draft, text) if "phrases" not in refuse else []
    held = _QUOTED.sub(f" {_HELD} " if quoted else r"\1", text)
    priced = _prices(draft, held) if "prices" not in refuse else held
    in_order = iter(quoted)
    draft.words = query_text(re.sub(_HELD, lambda _: next(in_order), priced)).split()
    if priced != held:
        draft.trace[-1] = replace(draft.trace[-1], after=draft.text)
    for name in STEPS[2:]:
        if name not in refuse and draft.words:
            _RUN[name](draft)
    return Understanding(
        raw=query,
        text=draft.text,
        terms=_terms(draft),
        query_class=_class(draft),
        phrases=draft.phrases,
        bounds=draft.bounds,
        boosts=draft.boosts,
        trace=tuple(draft.trace),
    )


def _phrases(draft: _Draft, text: str) -> list[str]:
    """What stands in quotes, each in turn: it is meant as written."""
    quoted: list[str] = _QUOTED.findall(text)
    draft.phrases = tuple(phrase for each in quoted if (phrase := query_text(each)))
    if draft.phrases:
        draft.trace.append(Step("phrases", text, draft.asked, {"phrases": list(draft.phrases)}))
    return quoted


def _prices(draft: _Draft, text: str) -> str:
    """`text` without the words that state price bounds."""
    found = price_bounds(text, draft.lexicon.data.minor_digits)
    if found is None:
        return text
    draft.bounds = Bounds(price_min_minor=found.low, price_max_minor=found.high)
    detail: dict[str, object] = {"said": found.said, "price_min_minor": found.low, "price_max_minor": found.high}
    draft.trace.append(Step("prices", draft.asked, "", detail))
    return text.replace(found.said, " ", 1)


def _fillers(draft: _Draft) -> None:
    fillers = set(draft.lexicon.data.fillers)
    kept = [word for word in draft.words if word not in fillers]
    if kept and len(kept) < len(draft.words) and not _is_name(draft, draft.text):
        before, draft.words = draft.text, kept
        draft.note("fillers", before)


def _abbreviations(draft: _Draft) -> None:
    lexicon, before = draft.lexicon, draft.text
    short = phrases(draft.words, lexicon.data.abbreviations, 1)
    forms = dict(lexicon.long_forms)
    for found in reversed([each for each in short if not _is_name(draft, each.phrase)]):
        draft.replace(found, found.value)
        if _is_new(draft, found.phrase):
            forms[found.value] = [*forms.get(found.value, ()), found.phrase]
    long = phrases(draft.words, forms, lexicon.longest_phrase)
    draft.also += [(each.start, each.end, abbreviation, 1.0) for each in long for abbreviation in each.value]
    if draft.text != before or long:
        draft.note("abbreviations", before, also=[each for found in long for each in found.value])


def _spelling(draft: _Draft) -> None:
    lexicon, before, made = draft.lexicon, draft.text, {}
    quoted = {word for phrase in draft.phrases for word in phrase.split()}
    for at in range(len(draft.words) - 1, -1, -1):
        word = draft.words[at]
        if word in quoted or word in lexicon.own_words or lexicon.knows(word) or _is_new(draft, word):
            continue
        beside = draft.words[at - 1] if at else "", *draft.words[at + 1 : at + 2]
        best = lexicon.speller.correct(word, *beside)
        if best is not None and best.confidence >= draft.confidence:
            made[word] = {"to": best.text, "confidence": round(best.confidence, 3)}
            draft.words[at : at + 1] = best.text.split()
    if made:
        draft.note("spelling", before, corrections=made)


def _shifted(each: tuple[int, int, str, float], at: int, by: int) -> tuple[int, int, str, float]:
    """An alternative, after the word at `at` became `by` words more."""
    start, end, phrase, boost = each
    return (start + by, end + by, phrase, boost) if start > at else each


def _is_new(draft: _Draft, word: str) -> bool:
    return any(stem in draft.new_stems for stem in search_tokens(word))


def _compounds(draft: _Draft) -> None:
    found = {}
    for at, word in enumerate(draft.words):
        if apart := draft.lexicon.speller.apart(word):
            draft.also.append((at, at + 1, apart, 1.0))
            found[word] = apart
    for at, (first, second) in enumerate(zip(draft.words, draft.words[1:], strict=False)):
        if together := draft.lexicon.speller.joined(first, second):
            draft.also.append((at, at + 2, together, 1.0))
            found[f"{first} {second}"] = together
    if found:
        draft.note("compounds", draft.text, also=found)


def _synonyms(draft: _Draft) -> None:
    lexicon, before, used = draft.lexicon, draft.text, {}
    for found in reversed(phrases(draft.words, lexicon.data.synonyms, lexicon.longest_phrase)):
        known = [each for each in found.value if all(lexicon.knows(word) for word in each.split())]
        if not known:
            continue
        used[found.phrase] = known
        if not any(lexicon.knows(word) or _is_new(draft, word) for word in draft.words[found.start : found.end]):
            draft.replace(found, known[0])
            by = len(known[0].split()) - (found.end - found.start)
            apart = [each for each in draft.also if each[1] <= found.start or each[0] >= found.end]
            draft.also = [_shifted(each, found.start, by) for each in apart]
            end = found.start + len(known[0].split())
            draft.also += [(found.start, end, each, lexicon.data.synonym_boost) for each in known[1:]]
        else:
            draft.also += [(found.start, found.end, each, lexicon.data.synonym_boost) for each in known]
    if used:
        draft.note("synonyms", before, synonyms=used)


def _entities(draft: _Draft) -> None:
    lexicon = draft.lexicon
    brands = [
        each
        for each in phrases(draft.words, lexicon.data.brands, lexicon.longest_phrase)
        if not _goes_with(draft, each.phrase)
    ]
    categories = phrases(draft.words, lexicon.data.categories, lexicon.longest_phrase)
    colours = [word for word in draft.words if word in lexicon.data.colours]
    sizes = [f"{number} {unit}" for number, unit in zip(draft.words, draft.words[1:], strict=False)
             if _is_size(number, unit)]  # fmt: skip
    if len(brands) == 1:
        draft.boosts["brand"] = brands[0].value
    if len(colours) == 1:
        draft.boosts["color"] = colours[0]
    if sizes:
        draft.boosts["size"] = sizes[0]
    # A category is shown only: leading with its products made judged queries worse (docs/query_understanding.md).
    named = {"category": categories[-1].value} if categories else {}
    if draft.boosts or named:
        draft.note("entities", draft.text, **draft.boosts, **named)


def _goes_with(draft: _Draft, name: str) -> bool:
    padded = f" {draft.asked} {draft.text} "
    before = any(f" {word} {name} " in padded for word in _MEANT_FOR)
    return before or any(f" {name} {word} " in padded for word in _MEANT_FOR_AFTER)


_SIZES: Final = frozenset(
    ("oz", "lb", "lbs", "ml", "l", "ltr", "litre", "liter", "kg", "g", "gm", "gb", "tb", "inch", "cm", "mm", "ct", "pk")
)


def _is_size(number: str, unit: str) -> bool:
    return unit in _SIZES and number.replace(".", "", 1).isdigit()


_RUN: Final = {
    "fillers": _fillers,
    "spelling": _spelling,
    "abbreviations": _abbreviations,
    "compounds": _compounds,
    "synonyms": _synonyms,
    "entities": _entities,
}


def _is_name(draft: _Draft, phrase: str) -> bool:
    """Whether the phrase is a brand or category of the shop: then it is left as it is."""
    return phrase in draft.lexicon.data.brands or phrase in draft.lexicon.data.categories


def _class(draft: _Draft) -> QueryClass:
    """Navigational: names one thing (a code, a brand, a category); transactional: about to buy; else informational."""
    data, asked = draft.lexicon.data, draft.asked.split()
    if not set(data.asking).isdisjoint(asked):
        return "informational"
    if draft.bounds != _OPEN or not set(data.buying).isdisjoint(asked):
        return "transactional"
    if _is_name(draft, draft.text) or (len(draft.words) == 1 and _is_code(draft.words[0])):
        return "navigational"
    return "transactional" if {"brand", "size"} & draft.boosts.keys() else "informational"


def _is_code(word: str) -> bool:
    """Whether a word looks like a product code: letters and digits, or many digits."""
    digits = sum(each.isdigit() for each in word)
    return digits >= 5 or (digits >= 2 and any(each.isalpha() for each in word) and len(word) >= 5)  # noqa: PLR2004


def _terms(draft: _Draft) -> tuple[Term, ...]:
    """The words' stems, and beside each what may stand for it."""
    groups: list[int] = []
    """First group of each word: a word may be several stems."""
    boosts: dict[tuple[int, str], float] = {}
    count = 0
    for word in draft.words:
        groups.append(count)
        for stem in search_tokens(word):
            boosts[count, stem] = 1.0
            count += 1
    groups.append(count)
    for start, end, phrase, boost in draft.also:
        spans = range(groups[start], groups[end])
        stems = search_tokens(phrase)
        if len(stems) == len(spans):
            pairs, share = list(zip(spans, stems, strict=True)), boost
        else:
            pairs, share = [(group, stem) for group in spans for stem in stems], boost / max(len(stems), 1)
        for pair in pairs:
            boosts[pair] = max(boosts.get(pair, 0.0), share)
    return tuple(Term(stem, boost, group) for (group, stem), boost in sorted(boosts.items(), key=_in_order))


def _in_order(item: tuple[tuple[int, str], float]) -> tuple[int, float, str]:
    (group, stem), boost = item
    return group, -boost, stem
