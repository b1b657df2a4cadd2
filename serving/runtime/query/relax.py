"""What a query finds; when that is nothing, what softer ones find, in a declared order. Pure.

What a merchandising rule pins was not found by the query.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from data_contracts.merchandising import Rule
from feature_repo.customer import CustomerFeatures
from serving.runtime.query.lexicon import Lexicon
from serving.runtime.query.spelling import UNSURE
from serving.runtime.query.understand import StepName, understand
from serving.runtime.search import SearchEngine, SearchResult
from serving.runtime.understanding import Bounds, Understanding

ORDER: Final = ("phrases", "price_bounds", "unsure_spelling", "rarest_word")
"""What is given up, in this order; bounds that the client sent are never given up."""
MAX_WORDS: Final = 2
"""Words that are left out before nothing is the answer."""


def find(  # noqa: PLR0913
    engine: SearchEngine,
    lexicon: Lexicon | None,
    understood: Understanding,
    refuse: Collection[StepName],
    page: Mapping[str, Any],
    *,
    customer: CustomerFeatures | None = None,
    rules: Callable[[Understanding], Sequence[Rule]] = lambda _: (),
) -> tuple[SearchResult, Understanding, list[str]]:
    """What was found, for what, and what had to be given up to find it.

    Args:
        engine: what answers.
        lexicon: the shop's; without one nothing is given up.
        understood: the query; one without words is a page of what its bounds and the page's filters leave.
        refuse: steps of understanding that the client refused.
        page: arguments of `SearchEngine.search` that say which page; `filters` may be left out.
        customer: whose purchases count, where somebody is known.
        rules: the merchandising rules that apply to a query as it is understood.
    """
    if not understood.text:
        filters = page.get("filters", Bounds()).over(understood.bounds)
        return engine.browse(**{**page, "filters": filters}, rules=rules(understood)), understood, []
    page = {**page, "customer": customer}
    first = engine.search(understood, **page, rules=rules(understood))
    given_up: list[str] = []
    if first.matched == 0 and lexicon is not None:
        for what, asked in softer(understood, lexicon, refuse, engine.new_stems):
            given_up.append(what)
            found = engine.search(asked, **page, rules=rules(asked))
            if found.matched:
                return found, asked, given_up
    return first, understood, []


def softer(
    understood: Understanding, lexicon: Lexicon, refuse: Collection[StepName], new_stems: Collection[str] = ()
) -> Iterator[tuple[str, Understanding]]:
    """(what was given up, what is looked for then), each on top of the one before.

    Args:
        understood: the query that found nothing.
        lexicon: the shop's.
        refuse: steps that the client refused; they stay refused.
        new_stems: stems of products that are newer than the lexicon.
    """
    query = understood
    refuse = {*refuse, "phrases"}
    if query.phrases:
        query = understand(query.raw, lexicon, refuse=refuse, new_stems=new_stems)
        yield ORDER[0], query
    if query.bounds != Bounds():
        query = replace(query, bounds=Bounds())
        yield ORDER[1], query
    without = {*refuse, "prices"}
    if "spelling" not in refuse:
        guessed = understand(query.text, lexicon, refuse=without, confidence=UNSURE, new_stems=new_stems)
        if guessed.text != query.text:
            query = replace(guessed, raw=query.raw, trace=(*query.trace, *guessed.trace))
            yield f"{ORDER[2]}:{query.text}", query
    for _ in range(MAX_WORDS):
        words = query.text.split()
        if len(words) < 2:  # noqa: PLR2004
            return
        rarest = min(words, key=lambda word: (lexicon.data.words.get(word, 0), word))
        kept = " ".join(word for word in words if word != rarest)
        if not kept:
            return
        query = replace(
            understand(kept, lexicon, refuse=without, new_stems=new_stems), raw=query.raw, trace=query.trace
        )
        yield f"{ORDER[3]}:{rarest}", query
