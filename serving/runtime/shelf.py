"""What search knows of each product beside its words: what is shown, filtered and counted. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np
from numpy.typing import NDArray

from feature_repo.search_text import stems
from feature_repo.text import query_text
from serving.runtime.catalogue import Catalogue


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
    in_stock: NDArray[np.int8]
    """1 in stock, 0 sold out, STOCK_UNKNOWN where nobody says."""

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
            in_stock=catalogue.in_stock,
        )

    def sold_out(self, rows: NDArray[np.int32], asked: Collection[str] = ()) -> NDArray[np.bool_]:
        """(len(rows),) whether it is known to be sold out, and neither its name nor its id is `asked` (normalised)."""
        found: NDArray[np.bool_] = self.in_stock[rows] == 0
        for at in np.flatnonzero(found) if asked else ():
            row = rows[at]
            found[at] = {query_text(self.name[row]), query_text(self.product_ids[row])}.isdisjoint(asked)
        return found

    def named(self, rows: NDArray[np.int32], phrases: Sequence[str]) -> NDArray[np.bool_]:
        """(len(rows),) whether the name holds the words of each phrase side by side, in any inflection."""
        wanted = [_stemmed(phrase) for phrase in phrases]
        held = (all(phrase in _stemmed(self.name[row]) for phrase in wanted) for row in rows.tolist())
        return np.fromiter(held, dtype=bool, count=len(rows))

    def followed_by(self, other: Self) -> Self:
        """These products, then the other's."""
        return type(self)(
            product_ids=[*self.product_ids, *other.product_ids],
            name=[*self.name, *other.name],
            category=np.concatenate([self.category, other.category]),
            brand=np.concatenate([self.brand, other.brand]),
            price_minor=np.concatenate([self.price_minor, other.price_minor]),
            popularity=np.concatenate([self.popularity, other.popularity]),
            in_stock=np.concatenate([self.in_stock, other.in_stock]),
        )


@lru_cache(maxsize=200_000)
def _stemmed(text: str) -> str:
    """Its stems, each between blanks."""
    return f" {' '.join(stems(text))} "
