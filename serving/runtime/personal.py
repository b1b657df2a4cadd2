"""How much of each product, and of its category, a customer buys. Pure."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feature_repo.customer import CustomerFeatures

PERSONAL: Final = 0.1
"""What the product that a customer buys most is worth at most, in ranges of the fused scores: less than half of a field
that the query names, because what is asked now says more than what was bought before. Judged, not measured."""

Scores = NDArray[np.float32]


def affinity(customer: CustomerFeatures, product_ids: Sequence[str], categories: Sequence[str]) -> Scores:
    """(n,) in [0, 1]: the mean of what the customer buys of each product and of its category, each by their most.

    Args:
        customer: purchases decay with a half-life of 90 days.
        product_ids: (n,) of the candidates.
        categories: (n,) of the candidates.
    """
    products = _by_most(customer.product_ids, customer.decayed_90d)
    groups = _by_most(customer.categories, customer.category_affinity)
    pairs = zip(product_ids, categories, strict=True)
    return np.array([(products.get(pid, 0.0) + groups.get(name, 0.0)) / 2 for pid, name in pairs], dtype=np.float32)


def _by_most(names: Sequence[str], amounts: Scores) -> dict[str, float]:
    most = float(amounts.max(initial=0.0)) or 1.0
    return {name: float(amount) / most for name, amount in zip(names, amounts, strict=True)}
