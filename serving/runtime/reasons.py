"""Why a product is shown, in words a shopper understands, from the same numbers that ranked it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_repo.customer import CustomerFeatures
from feature_repo.ranker_features import COLUMN
from serving.runtime.catalogue import Catalogue

MOST: Final = 2
"""Reasons given at most."""
_REGULAR: Final = 3
"""Purchases from which an interval is worth naming."""
_NEAR_RANK: Final = float(np.log1p(30))
"""log(1 + rank) of a source below which it counts as a reason."""
_STRONG_CONTEXT: Final = 0.2
_POPULAR_ROWS: Final = 100


@dataclass(frozen=True, slots=True)
class Case:
    """One product shown to one customer.

    Attributes:
        customer: None when unknown.
        history: position in the customer's history, -1 where never bought.
        features: (f,) ranker features of the candidate, None without a customer.
        context: co-purchase with the page or basket, in [0, 1].
        row: catalogue row.
    """

    customer: CustomerFeatures | None
    history: int
    features: NDArray[np.float32] | None
    context: float
    row: int


def reasons(case: Case, page: Sequence[str], catalogue: Catalogue) -> tuple[str, ...]:
    """One or two reasons, strongest first; `page` holds the names of the products on the page or in the basket."""
    found: list[str] = []
    if case.context >= _STRONG_CONTEXT and page:
        found.append(f"goes with {page[0]}" if len(page) == 1 else "goes with your basket")
    if case.customer is not None and case.history >= 0:
        found.append(_bought(case.customer, case.history))
    elif case.features is not None:
        found.extend(_retrieved(case.features))
    if catalogue.stats["mailer_share"][case.row] > 0:
        found.append("on promotion")
    if len(found) < MOST and np.any(catalogue.popular[:_POPULAR_ROWS] == case.row):
        found.append("popular this week")
    if not found:
        category = catalogue.categories[int(catalogue.category_code[case.row])]
        found.append(f"popular in {category.capitalize()}")
    return tuple(found[:MOST])


def _bought(customer: CustomerFeatures, history: int) -> str:
    """The reason of a product that the customer bought before."""
    n = int(customer.n_purchases[history])
    days = float(customer.interval_days[history])
    if n >= _REGULAR and days >= 1.0:
        return f"you buy this about every {round(days)} days" if round(days) > 1 else "you buy this almost daily"
    return "you bought this before" if n == 1 else f"you bought this {n} times"


def _retrieved(features: NDArray[np.float32]) -> list[str]:
    """The reasons of a product that the customer never bought."""
    named = (
        ("user_knn_rank", "bought by households like yours"),
        ("ease_rank", "goes with what you buy"),
        ("co_purchase_rank", "often in one basket with what you buy"),
        ("als_rank", "matches your taste"),
    )
    near = [(float(features[COLUMN[name]]), text) for name, text in named]
    best = min(near)
    return [best[1]] if best[0] <= _NEAR_RANK else []
