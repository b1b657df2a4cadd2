"""What search knows of each product beside its words: what is shown, filtered and counted. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from serving.runtime.catalogue import Catalogue
from serving.runtime.understanding import Bounds

FACET_VALUES: Final = 20
"""Values shown per facet."""
Rows = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Shelf:
    """Columns of n products, all (n,) in one row order."""

    product_ids: Sequence[str]
    name: Sequence[str]
    category: NDArray[np.str_]
    brand: NDArray[np.str_]
    price_minor: NDArray[np.int64]
    """0 where the price is unknown."""
    popularity: NDArray[np.float32]

    @classmethod
    def of(cls, catalogue: Catalogue) -> Self:
        """The shelf of a release's catalogue."""
        return cls(
            product_ids=list(catalogue.product_ids),
            name=catalogue.text["name"],
            category=np.array(catalogue.text["category"], dtype=np.str_),
            brand=np.array(catalogue.text["brand"], dtype=np.str_),
            price_minor=catalogue.stats["price_minor"].astype(np.int64),
            popularity=catalogue.stats["decayed_14d"].astype(np.float32),
        )

    def within(self, rows: Rows, bounds: Bounds) -> NDArray[np.bool_]:
        """(len(rows),) whether each row lies within the bounds; a product without a price is outside of any."""
        keep = np.ones(len(rows), dtype=bool)
        for field in ("category", "brand"):
            wanted = getattr(bounds, field)
            if wanted is not None:
                keep &= self.has(rows, field, wanted)
        price = self.price_minor[rows]
        if bounds.price_min_minor is not None:
            keep &= (price > 0) & (price >= bounds.price_min_minor)
        if bounds.price_max_minor is not None:
            keep &= (price > 0) & (price <= bounds.price_max_minor)
        return keep

    def has(self, rows: Rows, field: str, value: str) -> NDArray[np.bool_]:
        """(len(rows),) whether the row's category or brand is `value`, whatever the case; no row has other fields."""
        if field not in ("category", "brand"):
            return np.zeros(len(rows), dtype=bool)
        return np.asarray(np.char.lower(getattr(self, field)[rows]) == value.lower())


def facet(values: NDArray[np.str_]) -> dict[str, int]:
    """Value -> how often, most frequent first; empty values are none."""
    names, counts = np.unique(values, return_counts=True)
    order = np.lexsort((names, -counts))[:FACET_VALUES]
    return {str(names[at]): int(counts[at]) for at in order if names[at]}
