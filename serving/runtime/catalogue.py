"""All products as arrays in memory: what requests share, swapped whole with the release."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from feature_repo.ranker_features import GROUPS, PRODUCT_FEATURES
from feature_repo.snapshots import PRODUCT_COLUMNS, UNKNOWN_CATEGORY
from serving.runtime import npz

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

TEXT_COLUMNS = ("product_id", "name", "text", "brand", "category", "department", "product_type", "package_size")
"""Columns of strings; the others are PRODUCT_COLUMNS."""
STOCK_UNKNOWN = -1
_PER_CATEGORY = 30
"""Popular and promoted products kept per category."""
_REPEAT_DAMPING = 0.5
"""Cold start: popularity of the k-th product of one category counts times this to the k."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """p products in product_id order, with the orders that retrieval reads.

    Attributes:
        stats: product_stats column -> (p,) int64 or float32.
        in_stock: (p,) 1 in stock, 0 sold out, STOCK_UNKNOWN where nobody says.
        features: (p, len(PRODUCT_FEATURES)) float32.
        category_code: (p,) position in `categories`.
        group_codes: (len(GROUPS), p) number of the group that a product is in, -1 where an attribute is missing.
        popular: rows by 14-day decayed popularity, best first.
        cold_start: the same, spread over categories.
        popular_in / promoted_in: category code -> rows, best first.
    """

    kind: ClassVar[str] = "product_features"
    meta: Mapping[str, Any]
    product_ids: Sequence[str]
    text: Mapping[str, Sequence[str]]
    stats: Mapping[str, NDArray[Any]]
    in_stock: NDArray[np.int8]
    index: Mapping[str, int]
    categories: Sequence[str]
    category_index: Mapping[str, int]
    category_code: Rows
    group_codes: Rows
    features: Floats
    popular: Rows
    cold_start: Rows
    popular_in: Sequence[Rows]
    promoted_in: Sequence[Rows]

    @classmethod
    def of(
        cls,
        text: Mapping[str, Sequence[str]],
        stats: Mapping[str, NDArray[Any]],
        meta: Mapping[str, Any],
        in_stock: NDArray[np.int8] | None = None,
    ) -> Self:
        """The catalogue of equally long columns, in any order.

        Args:
            text: TEXT_COLUMNS -> strings.
            stats: PRODUCT_COLUMNS -> numbers.
            meta: kind, fit_until and config.
            in_stock: as the attribute; None: unknown for all.
        """
        order = np.argsort(np.asarray(text["product_id"]), kind="stable")
        text = {c: [text[c][i] for i in order] for c in TEXT_COLUMNS}
        stats = {c: np.asarray(stats[c])[order] for c in PRODUCT_COLUMNS}
        ids = text["product_id"]
        stock = np.full(len(ids), STOCK_UNKNOWN, np.int8) if in_stock is None else in_stock[order]
        names = [c or UNKNOWN_CATEGORY for c in text["category"]]
        categories = sorted(set(names))
        category_index = {c: i for i, c in enumerate(categories)}
        code = np.asarray([category_index[c] for c in names], np.int64)
        popularity = stats["decayed_14d"].astype(np.float64) + 1e-3 * stats["n_364d"]
        popular = np.argsort(-popularity, kind="stable")
        promotion = popularity * (stats["on_promotion"] > 0)
        return cls(
            meta=meta,
            product_ids=ids,
            text=text,
            stats=stats,
            in_stock=stock,
            index={p: i for i, p in enumerate(ids)},
            categories=categories,
            category_index=category_index,
            category_code=code,
            group_codes=np.stack([_codes(*(text[c] for c in columns)) for columns in GROUPS.values()]),
            features=np.column_stack([stats[c].astype(np.float32) for c in PRODUCT_FEATURES]).astype(np.float32),
            popular=popular,
            cold_start=spread(popular, popularity, code),
            popular_in=_best_per_category(popular, code, len(categories), popularity),
            promoted_in=_best_per_category(np.argsort(-promotion, kind="stable"), code, len(categories), promotion),
        )

    def rows_of(self, product_ids: Sequence[str]) -> Rows:
        """(n,) row of each id, -1 where the catalogue does not know it."""
        return np.fromiter(map(self.index.get, product_ids, repeat(-1)), np.int64, len(product_ids))

    def save(self, path: Path) -> Path:
        """Writes all columns; orders are derived again on load."""
        text = {f"text_{c}": npz.pack_text(self.text[c]) for c in TEXT_COLUMNS}
        stats = {f"stat_{c}": self.stats[c] for c in PRODUCT_COLUMNS}
        return npz.write(path, {**text, **stats, "in_stock": self.in_stock}, self.meta)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The catalogue of one file; one from before stock was known says nothing of it."""
        arrays, meta = npz.read(path, cls.kind)
        p = int(arrays["stat_n_7d"].shape[0])
        text = {c: npz.unpack_text(arrays[f"text_{c}"], p) for c in TEXT_COLUMNS}
        return cls.of(text, {c: arrays[f"stat_{c}"] for c in PRODUCT_COLUMNS}, meta, arrays.get("in_stock"))


def _codes(*columns: Sequence[str]) -> Rows:
    """(p,) a number for each combination of values, -1 where one of them is empty."""
    numbers: dict[tuple[str, ...], int] = {}
    rows = (numbers.setdefault(row, len(numbers)) if all(row) else -1 for row in zip(*columns, strict=True))
    return np.fromiter(rows, np.int64, len(columns[0]))


def _place_in_category(order: Rows, code: Rows) -> Rows:
    """(p,) for each row, how many products of its category come before it in `order`."""
    by_category = order[np.argsort(code[order], kind="stable")]
    codes = code[by_category]
    starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]]) if codes.size else np.empty(0, np.int64)
    lengths = np.diff(np.r_[starts, codes.size])
    place = np.empty(order.size, np.int64)
    place[by_category] = np.arange(order.size) - np.repeat(starts, lengths)
    return place


def spread(popular: Rows, popularity: NDArray[np.float64], code: Rows) -> Rows:
    """Positions by popularity, each further product of the same category damped.

    Args:
        popular: (p,) positions, most popular first.
        popularity: (p,) by position.
        code: (p,) category by position.
    """
    damped = popularity * np.power(_REPEAT_DAMPING, np.minimum(_place_in_category(popular, code), 60))
    return np.argsort(-damped, kind="stable")


def _best_per_category(order: Rows, code: Rows, n: int, value: NDArray[np.float64]) -> list[Rows]:
    """Per category code the first rows of `order` with a value above zero, at most _PER_CATEGORY."""
    kept = order[(_place_in_category(order, code)[order] < _PER_CATEGORY) & (value[order] > 0)]
    grouped = kept[np.argsort(code[kept], kind="stable")]
    bounds = np.searchsorted(code[grouped], np.arange(n + 1))
    return [grouped[bounds[c] : bounds[c + 1]] for c in range(n)]
