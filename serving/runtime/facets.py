"""Facets: how many matching products have each value. A facet ignores the filter on itself. Pure."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

MAX_VALUES: Final = 20
"""Values shown per facet."""
_RANGES: Final = 5
"""Price ranges aimed at: fewer where prices are alike."""

Masks = Mapping[str, NDArray[np.bool_]]


def without(masks: Masks, name: str) -> NDArray[np.bool_]:
    """Rows that pass every filter but the one called `name`.

    Args:
        masks: filter -> (n,) whether each row passes it; at least one.
        name: the facet's own filter.
    """
    others = [mask for each, mask in masks.items() if each != name]
    return np.logical_and.reduce(others) if others else np.ones_like(next(iter(masks.values())))


def counts(values: NDArray[np.str_]) -> dict[str, int]:
    """Value -> products, most frequent first; products without a value are not counted."""
    names, number = np.unique(values, return_counts=True)
    order = [at for at in np.lexsort((names, -number)).tolist() if names[at]]
    return {str(names[at]): int(number[at]) for at in order[:MAX_VALUES]}


def price_ranges(prices_minor: NDArray[np.int64]) -> list[tuple[int, int | None, int]]:
    """(from, to, products) in minor units, both ends included, cheapest first; the last range is open.

    Edges are round numbers (1, 2 or 5 times a power of ten) near the quintiles; unknown prices (0) are not counted.
    """
    known = prices_minor[prices_minor > 0]
    if not len(known):
        return []
    quantiles = np.quantile(known, np.arange(1, _RANGES) / _RANGES)
    edges = sorted({_round(float(each)) for each in quantiles} - {0})
    starts = [0, *edges]
    number = np.histogram(known, bins=[*starts, np.iinfo(np.int64).max])[0]
    ends = [*(edge - 1 for edge in edges), None]
    return [(low, high, int(n)) for low, high, n in zip(starts, ends, number, strict=True) if n]


def _round(value: float) -> int:
    """The 1-2-5 number nearest below or at `value`."""
    power = 10 ** int(np.floor(np.log10(max(value, 1.0))))
    return int(max(step * power for step in (1, 2, 5) if step * power <= max(value, 1.0)))
