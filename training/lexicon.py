"""The artefact `query_lexicon`: the words of a catalogue and of what shoppers ask, its brands and categories, and the
data that people wrote beside it (synonyms, abbreviations). Plain JSON, byte-reproducible.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, PositiveInt

from data_contracts.search_words import SearchWords, Vocabulary
from feature_repo.text import normalise, query_text
from mercato.paths import canonical_json
from serving.runtime.catalogue import Catalogue
from serving.runtime.query.lexicon import Entry, Lexicon, LexiconFile
from serving.runtime.query.understand import understand


class LexiconConfig(BaseModel):
    """What is kept of a catalogue."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_pair: PositiveInt = 3
    """Product texts that hold two words side by side before the pair is kept."""
    max_pairs: PositiveInt = 50_000
    """Pairs kept, the most frequent first."""
    min_customers: PositiveInt = 5
    """Different customers who searched a query and found something before others see it or its words: a rarer one may
    name a person."""
    lookback_days: PositiveInt = 90
    """How far back searches are read, in days before `until`: what nobody asks any more is forgotten."""
    max_suggested_products: PositiveInt = 100_000
    """Product names kept for suggestions, the most popular first."""


class Texts(BaseModel):
    """What the builder reads of the catalogue, all (n_products,)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Sequence[str]
    """As shoppers read it."""
    full: Sequence[str]
    """All words that the product is found by."""
    brand: Sequence[str]
    category: Sequence[str]
    popularity: Sequence[float]


def build_lexicon(  # noqa: PLR0913
    texts: Texts,
    words: SearchWords,
    *,
    minor_digits: int,
    until: datetime,
    queries: Mapping[str, int] | None = None,
    config: LexiconConfig = LexiconConfig(),  # noqa: B008 - frozen
) -> LexiconFile:
    """The lexicon of a shop.

    Args:
        texts: the catalogue.
        words: synonyms, abbreviations and vocabularies of the shop.
        minor_digits: decimal digits of its currency.
        until: nothing later was read.
        queries: query -> customers who searched it and found something (`training.query_log`).
        config: what is kept.
    """
    counts, pairs = _counts(texts.full)
    often = [(pair, n) for pair, n in pairs.items() if n >= config.min_pair]
    often = sorted(often, key=lambda each: (-each[1], each[0]))[: config.max_pairs]
    made = LexiconFile(
        kind=Lexicon.kind,
        fit_until=until.isoformat(),
        words=dict(sorted(counts.items())),
        pairs=dict(sorted(often)),
        brands=_names(texts.brand),
        categories=_names(texts.category),
        abbreviations=_abbreviations(words),
        synonyms=_synonyms(words),
        synonym_boost=words.synonyms.boost,
        **{
            name: sorted({query_text(each) for each in getattr(words.vocabulary, name)})
            for name in Vocabulary.model_fields
        },
        suggestions=_suggestions(texts, config),
        minor_digits=minor_digits,
    )
    asked = {text: n for query, n in (queries or {}).items() if (text := query_text(query))}
    return _with_queries(made, {query: n for query, n in sorted(asked.items()) if n >= config.min_customers})


def _with_queries(made: LexiconFile, asked: Mapping[str, int]) -> LexiconFile:
    """The lexicon with the words of what is asked, and the queries themselves to suggest.

    A query that spelling corrects teaches nothing: a misspelling stays one however many make it. Nor do words that no
    product holds and the shop's data files translate: they go on standing for what they mean.
    """
    if not asked:
        return made
    catalogue, words = Lexicon(made), Counter(made.words)
    right = {query: n for query, n in asked.items() if not _corrected(query, catalogue)}
    for query, n in right.items():
        taught = [word for word in query.split() if word in made.words or word not in catalogue.own_words]
        words.update(dict.fromkeys(taught, n))
    entries = [Entry(text=query, kind="query", weight=n) for query, n in right.items()]
    return made.model_copy(update={"words": dict(sorted(words.items())), "suggestions": [*entries, *made.suggestions]})


def _corrected(query: str, lexicon: Lexicon) -> bool:
    return any(step.step == "spelling" for step in understand(query, lexicon).trace)


def write_lexicon(lexicon: LexiconFile, path: Path) -> Path:
    """The canonical JSON of the lexicon, at `path`."""
    path.write_bytes(canonical_json(lexicon.model_dump()))
    return path


def _counts(texts: Sequence[str]) -> tuple[Counter[str], Counter[str]]:
    """Products by word and by pair of neighbours; equal texts are split once."""
    words: Counter[str] = Counter()
    pairs: Counter[str] = Counter()
    for text, n in Counter(texts).items():
        held = [stripped for each in normalise(text).split() if (stripped := each.strip(".&'%"))]
        for word in set(held):
            words[word] += n
        for pair in {f"{one} {two}" for one, two in itertools.pairwise(held) if one.isalpha() and two.isalpha()}:
            pairs[pair] += n
    return words, pairs


def _names(values: Sequence[str]) -> dict[str, str]:
    """Normalised -> as most products write it."""
    written: dict[str, Counter[str]] = defaultdict(Counter)
    for value, n in Counter(values).items():
        if key := query_text(value):
            written[key][value] += n
    return {key: min(found, key=lambda each: (-found[each], each)) for key, found in sorted(written.items())}


def _abbreviations(words: SearchWords) -> dict[str, str]:
    made = {query_text(short): query_text(long) for short, long in words.abbreviations.items()}
    return {short: long for short, long in sorted(made.items()) if short and long and len(short.split()) == 1}


def _synonyms(words: SearchWords) -> dict[str, list[str]]:
    made: dict[str, list[str]] = defaultdict(list)
    for group in words.synonyms.same:
        for phrase in group:
            made[query_text(phrase)] += [query_text(each) for each in group if each != phrase]
    for word, meant in words.synonyms.means.items():
        made[query_text(word)] += [query_text(each) for each in meant]
    return {phrase: list(dict.fromkeys(meant)) for phrase, meant in sorted(made.items())}


def _suggestions(texts: Texts, config: LexiconConfig) -> list[Entry]:
    """Categories, brands and product names with what they weigh."""
    products = _heaviest(texts.name, texts.popularity, config.max_suggested_products)
    return [
        *(Entry(text=text, kind="category", weight=w) for text, w in _heaviest(texts.category, texts.popularity)),
        *(Entry(text=text, kind="brand", weight=w) for text, w in _heaviest(texts.brand, texts.popularity)),
        *(Entry(text=text, kind="product", weight=w) for text, w in products),
    ]


def _heaviest(values: Sequence[str], weights: Iterable[float], limit: int | None = None) -> list[tuple[str, float]]:
    """Each value with the sum of its weights (rounded: floats are added in one order), the heaviest first."""
    total: dict[str, float] = defaultdict(float)
    for value, weight in zip(values, weights, strict=True):
        if value:
            total[value] += float(weight)
    return [(value, round(weight, 3)) for value, weight in sorted(total.items(), key=lambda e: (-e[1], e[0]))][:limit]


def texts_of(catalogue: Catalogue, full: Sequence[str]) -> Texts:
    """The builder's input from a catalogue and the words that its products are found by, in its order."""
    return Texts(
        name=catalogue.text["name"],
        full=full,
        brand=catalogue.text["brand"],
        category=catalogue.text["category"],
        popularity=catalogue.stats["decayed_14d"].tolist(),
    )
