"""Merchandising rules, applied in one place: after ranking, before the page is cut. Pure; the time is passed in."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from data_contracts.merchandising import Rule, What, When
from feature_repo.text import query_text

Rows = NDArray[np.int32]


class Products(Protocol):
    """What rules read of the products, all (n_products,)."""

    @property
    def category(self) -> NDArray[np.str_]:
        """Category of each."""

    @property
    def brand(self) -> NDArray[np.str_]:
        """Brand of each."""


def applying(
    rules: Sequence[Rule], *, queries: Collection[str], category: str | None, segment: str | None, as_of: datetime
) -> list[Rule]:
    """The rules in force at `as_of` that a request meets, in the order of the file.

    Args:
        rules: all of them.
        queries: the query as written and as understood, both normalised.
        category: its category filter.
        segment: the shopper's segment.
        as_of: the time of the request.
    """
    return [rule for rule in rules if rule.in_force(as_of) and _meets(rule.when, queries, category, segment)]


def _meets(when: When, queries: Collection[str], category: str | None, segment: str | None) -> bool:
    return (
        (not when.queries or not {query_text(each) for each in when.queries}.isdisjoint(queries))
        and (when.category is None or (category is not None and when.category.casefold() == category.casefold()))
        and (when.segment is None or when.segment == segment)
    )


@dataclass(frozen=True, slots=True)
class Arranged:
    """A ranked list after its rules."""

    order: NDArray[np.int64]
    """Positions in the list that was ranked, in the new order; what is blocked is left out."""
    rules: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """Position -> "action rule-id" of each rule that moved it."""
    touched: Mapping[str, int] = field(default_factory=dict)
    """Rule id -> positions that it moved, for each rule that moves."""


def pinned(rules: Sequence[Rule], row: Mapping[str, int]) -> Rows:
    """Rows of the products that rules pin and the catalogue knows: candidates even where they do not match."""
    found = [row[pid] for rule in rules if rule.action == "pin" for pid in rule.what.products if pid in row]
    return np.unique(np.array(found, dtype=np.int32))


def blocked(rules: Sequence[Rule], rows: Rows, row: Mapping[str, int], products: Products) -> NDArray[np.bool_]:
    """(len(rows),) whether a rule blocks it."""
    hit = np.zeros(len(rows), dtype=bool)
    for each in blocks(rules, rows, row, products).values():
        hit |= each
    return hit


def blocks(
    rules: Sequence[Rule], rows: Rows, row: Mapping[str, int], products: Products
) -> dict[str, NDArray[np.bool_]]:
    """Id of each rule that blocks -> (len(rows),) what it blocks."""
    return {rule.id: _named(rule.what, rows, row, products) for rule in rules if rule.action == "block"}


def arrange(  # noqa: PLR0913
    rules: Sequence[Rule],
    rows: Rows,
    scores: NDArray[np.float32],
    row: Mapping[str, int],
    products: Products,
    *,
    last: NDArray[np.bool_],
) -> Arranged:
    """The order of `rows` by score after boosts, burials and pins; what is `last` comes after the rest, unless pinned.

    Pins take their places in order of position, then of the file; where a place is taken, the next free one. So a
    rule's products keep their order, and a product that two rules pin stands where the first of them puts it: the
    second leaves its place to the rest.

    Args:
        rules: those that apply to the request.
        rows: (n,) products that passed every filter, blocks included, each once.
        scores: (n,) of the ranking, >= 0.
        row: product id -> row.
        products: columns by row.
        last: (n,) what is sold out.
    """
    weight, buried = scores.astype(np.float64), np.zeros(len(rows), dtype=bool)
    notes: dict[int, tuple[str, ...]] = {}
    for rule in rules:
        if rule.action in ("boost", "bury"):
            hit = _named(rule.what, rows, row, products)
            if rule.factor is not None:
                weight[hit] *= rule.factor
            else:
                buried |= hit
            _note(notes, np.flatnonzero(hit).tolist(), rule)
    order = np.lexsort((rows, -weight, buried, last)).tolist()
    at_row = {each: at for at, each in enumerate(rows.tolist())}
    taken: dict[int, int] = {}
    for rule in sorted((each for each in rules if each.action == "pin"), key=_position):
        place = _position(rule)
        for at in [at_row[row[pid]] for pid in rule.what.products if row.get(pid) in at_row]:
            if at not in taken.values():
                place = next(each for each in count(place) if each not in taken)
                taken[place] = at
                _note(notes, [at], rule)
            place += 1
    pins = set(taken.values())
    rest = [at for at in order if at not in pins]
    for place in sorted(taken):
        rest.insert(place - 1, taken[place])
    said = Counter(rule.partition(" ")[2] for each in notes.values() for rule in each)
    touched = {rule.id: said[rule.id] for rule in rules if rule.action != "block"}
    return Arranged(np.array(rest, dtype=np.int64), notes, touched)


def _position(pin: Rule) -> int:
    return pin.position or 1


def _named(what: What, rows: Rows, row: Mapping[str, int], products: Products) -> NDArray[np.bool_]:
    if what.products:
        return np.isin(rows, [row[pid] for pid in what.products if pid in row])
    hit = np.ones(len(rows), dtype=bool)
    if what.brand is not None:
        hit &= np.char.lower(products.brand[rows]) == what.brand.lower()
    if what.category is not None:
        hit &= np.char.lower(products.category[rows]) == what.category.lower()
    return hit


def _note(notes: dict[int, tuple[str, ...]], positions: Sequence[int], rule: Rule) -> None:
    for at in positions:
        notes[at] = (*notes.get(at, ()), f"{rule.action} {rule.id}")
