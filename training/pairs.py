"""Training pairs of the encoder: what somebody might ask, and a product that answers it. Every draw has a seed."""

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Final, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from feature_repo.search_text import search_tokens
from feature_repo.text import normalise_query
from training.held_out import near_duplicates
from training.index import semantic_texts
from training.query_noise import noisy
from training.search_quality import FOLDS, Judgments, folds

Origin = Literal["click", "purchase", "judgment", "name", "attribute", "co_purchase"]
COLUMNS: Final = ("query", "product_id", "origin", "noisy", "event_time", "known_at")
"""Columns of pairs."""
BEHAVIOUR: Final = ("click", "purchase", "judgment")
"""Origins in which a person said what answers a query."""
_FIELDS: Final = ("name", "product_type", "category", "department", "brand")
"""Columns of clean/products whose words ask for a product."""
_WORDS: Final = (2, 4)
"""Fewest and most words cut out of a name."""
_SHORTEST: Final = 3
"""Letters of the shortest word that a piece may hold."""
_DRAWS: Final = 8
"""Cuts tried before a name is given up."""
_LED: Final = {"click": "click", "cart": "click", "purchase": "purchase"}


class PairConfig(BaseModel, frozen=True, extra="forbid"):
    """What becomes a training pair."""

    seed: int = 0
    """Of every draw."""
    held_out_folds: int = Field(default=FOLDS, ge=0, le=FOLDS)
    """Of the FOLDS of judged queries, those kept for judging; the others teach. All by default: the golden set judges
    every release, and an encoder that learned from it would be judged by what it learned."""
    min_grade: PositiveInt = 2
    """Judged products of at least this grade are positives."""
    max_share: PositiveFloat = 0.005
    """A query made of a product's own words may match this share of the texts: in a batch of 64, three of four then
    have no other right answer that would count as wrong."""
    noisy_share: NonNegativeFloat = Field(default=0.2, le=1)
    """Pairs that are there once more with the query misspelt, spelled by ear or abbreviated."""
    co_purchases: PositiveInt = 1
    """Nearest co-purchased products of each, of its own department."""


DEFAULT: Final = PairConfig()
"""What the jobs use."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Products by their semantic text, and which texts hold a word."""

    products: pd.DataFrame
    """clean/products with `text`, one row per distinct text, that of its first product."""
    words: Mapping[str, frozenset[int]]
    """Stem -> rows of the texts that hold it."""

    @classmethod
    def of(cls, products: pd.DataFrame) -> "Catalogue":
        """From clean/products."""
        texts = products.assign(text=semantic_texts(products)).sort_values("product_id")
        texts = texts.drop_duplicates("text").sort_values("text", ignore_index=True)
        words: dict[str, set[int]] = {}
        for row, text in enumerate(texts["text"]):
            for word in search_tokens(text):
                words.setdefault(word, set()).add(row)
        return cls(texts, {word: frozenset(rows) for word, rows in words.items()})

    def share(self, query: str) -> float:
        """Share of the texts that hold every word of a query, in [0, 1]."""
        rows = sorted((self.words.get(word, frozenset()) for word in search_tokens(query)), key=len)
        return len(frozenset.intersection(*rows)) / len(self.products) if rows else 1.0


def held_out(judgments: Judgments, config: PairConfig) -> list[str]:
    """The judged queries that no pair may come near to."""
    fold = folds(list(judgments.grades))
    return sorted(query for query, at in fold.items() if at < config.held_out_folds)


def pairs(parts: Iterable[pd.DataFrame], held: Iterable[str], config: PairConfig) -> pd.DataFrame:
    """All parts and their noisy doubles in COLUMNS, each once.

    A near-duplicate of one of the `held` queries is left out and has no double; nor is a double near one of them.
    """
    held = sorted(set(held))
    rows = _joined(parts)
    rows = rows.assign(query=rows["query"].map(normalise_query))
    rows = _apart(_once(rows[rows["query"] != ""]), held)
    return _once(_joined([rows, _apart(_noisy(rows, config), held)]))


def _apart(rows: pd.DataFrame, held: list[str]) -> pd.DataFrame:
    """The rows whose query is near none of `held`."""
    return rows[~near_duplicates(rows["query"].tolist(), held)]


def _joined(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """The rows of all parts; pandas would take the types of an empty one for news."""
    full = [each[list(COLUMNS)] for each in parts if len(each)]
    return pd.concat(full, ignore_index=True) if full else pd.DataFrame(columns=list(COLUMNS))


def _once(rows: pd.DataFrame) -> pd.DataFrame:
    ordered = rows.sort_values(["query", "product_id", "origin", "noisy", "event_time"])
    kept: pd.DataFrame = ordered.drop_duplicates(["query", "product_id", "origin"], ignore_index=True)
    return kept


def _noisy(rows: pd.DataFrame, config: PairConfig) -> pd.DataFrame:
    dice = [
        _dice(config, f"{query}|{product}") for query, product in zip(rows["query"], rows["product_id"], strict=True)
    ]
    chosen = np.array([rng.random() < config.noisy_share for rng in dice], dtype=bool)
    drawn = rows[chosen]
    written = [noisy(query, dice[at]) for query, at in zip(drawn["query"], np.flatnonzero(chosen), strict=True)]
    differs = np.array(written, dtype=object) != drawn["query"].to_numpy()
    changed: pd.DataFrame = drawn.assign(query=written, noisy=True)[differs]
    return changed


def _dice(config: PairConfig, about: str) -> np.random.Generator:
    """A generator of this text's own, so that a new product changes no other product's pairs."""
    return np.random.default_rng([config.seed, zlib.crc32(about.encode())])


def searched(events: pd.DataFrame) -> pd.DataFrame:
    """Pairs of what was searched with what was clicked, put into the cart or bought out of that answer.

    Args:
        events: clean/interactions; those of a request belong to its search. Simulated ones are left out.
    """
    events = events[(events["origin"] != "simulated") & events["request_id"].notna()]
    asked = events[(events["type"] == "search") & events["query"].notna()].drop_duplicates("request_id")
    led = events[events["type"].isin(list(_LED)) & events["product_id"].notna()]
    led = led.drop(columns="query").merge(asked[["request_id", "query"]], on="request_id")
    return led.assign(origin=led["type"].map(_LED), noisy=False)[list(COLUMNS)]


def judged(judgments: Judgments, held: Iterable[str], config: PairConfig, at: datetime) -> pd.DataFrame:
    """Pairs of the judged queries that are not `held`; grades carry no time, so they count as made at `at`."""
    held = set(held)
    found = [
        (query, product, "judgment", False, at, at)
        for query, grades in judgments.grades.items()
        if query not in held
        for product, grade in grades.items()
        if grade >= config.min_grade
    ]
    return pd.DataFrame(found, columns=list(COLUMNS))


def structural(catalogue: Catalogue, config: PairConfig) -> pd.DataFrame:
    """Pairs of a product's own words with it: a piece of its name, and its type, group and brand together."""
    told = catalogue.products.astype(object).where(catalogue.products.notna(), None)
    found = []
    for row in told.to_dict("records"):
        fields = {name: normalise_query(str(row[name] or "")) for name in _FIELDS}
        specific = _selective(catalogue, config)
        queries: list[tuple[str, Origin]] = [(each, "attribute") for each in _attributes(fields) if specific(each)]
        cuts = _pieces(fields["name"], _dice(config, str(row["text"])))
        piece = next((each for each in cuts if specific(each)), "")
        queries += [(piece, "name")] if piece else []
        found += [
            (query, row["product_id"], origin, False, row["event_time"], row["known_at"]) for query, origin in queries
        ]
    return pd.DataFrame(found, columns=list(COLUMNS))


def _selective(catalogue: Catalogue, config: PairConfig) -> Callable[[str], bool]:
    return lambda query: catalogue.share(query) <= max(config.max_share, 1 / len(catalogue.products))


def _attributes(fields: Mapping[str, str]) -> Iterator[str]:
    kinds = [fields[name] for name in ("product_type", "category", "department") if fields[name]]
    if fields["name"] or len(kinds) > 1:
        yield from kinds  # a text that is its type alone would be paired with itself
    if fields["brand"]:
        yield from (f"{fields['brand']} {kind}" for kind in kinds[:1])


def _pieces(name: str, rng: np.random.Generator) -> Iterator[str]:
    """Pieces of a few words in a row, without codes, numbers and units."""
    shortest, longest = _WORDS
    runs = [each for each in _runs(name.split()) if len(each) >= shortest]
    for _ in range(_DRAWS if runs else 0):
        run = runs[int(rng.integers(len(runs)))]
        size = int(rng.integers(shortest, min(longest, len(run)) + 1))
        start = int(rng.integers(0, len(run) - size + 1))
        yield " ".join(run[start : start + size])


def _runs(words: Iterable[str]) -> Iterator[list[str]]:
    for plain, run in groupby(words, lambda word: len(word) >= _SHORTEST and word.isalpha()):
        if plain:
            yield list(run)


def bought_together(
    catalogue: Catalogue, products: pd.DataFrame, neighbours: Mapping[str, Iterable[str]], config: PairConfig
) -> pd.DataFrame:
    """Pairs of the text of a product with products of its department that share its baskets.

    Args:
        catalogue: the texts.
        products: clean/products.
        neighbours: product -> the products it is bought with, nearest first.
        config: how many of them.
    """
    texts = dict(zip(products["product_id"], semantic_texts(products), strict=True))
    departments = dict(zip(products["product_id"], products["department"], strict=True))
    first = dict(zip(catalogue.products["text"], catalogue.products["product_id"], strict=True))
    found: list[tuple[object, ...]] = []
    for row in catalogue.products.to_dict("records"):
        bought = (each for each in neighbours.get(row["product_id"], ()) if each in texts)
        near = (each for each in bought if departments[each] == row["department"])
        others = dict.fromkeys(texts[each] for each in near if texts[each] != row["text"])
        found += [
            (row["text"], first[text], "co_purchase", False, row["event_time"], row["known_at"])
            for text in list(others)[: config.co_purchases]
        ]
    return pd.DataFrame(found, columns=list(COLUMNS))
