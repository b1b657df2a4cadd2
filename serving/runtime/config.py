"""How many candidates each source brings; stored in each ranker, because it must be served as it was trained."""

from __future__ import annotations

from pydantic import BaseModel, NonNegativeFloat, NonNegativeInt, PositiveInt


class PipelineConfig(BaseModel, frozen=True, extra="forbid"):
    """Settings of retrieval and of the rules after ranking."""

    history: PositiveInt = 600
    """Most recently bought products of the customer that become candidates, at most."""
    als: NonNegativeInt = 150
    """Candidates from ALS, never bought by the customer."""
    ease: NonNegativeInt = 150
    """Candidates from EASE, never bought by the customer."""
    user_knn: NonNegativeInt = 150
    """Candidates from households like this one, never bought by the customer."""
    co_purchase: NonNegativeInt = 60
    """Candidates that share baskets with the history (or with the page), never bought by the customer."""
    popular: NonNegativeInt = 50
    """Most popular products of the last days, over all categories."""
    categories: NonNegativeInt = 12
    """Categories of the customer, by affinity, whose popular and promoted products become candidates."""
    per_category: NonNegativeInt = 8
    """Popular products taken from each of those categories."""
    promoted_per_category: NonNegativeInt = 4
    """Promoted products taken from each of those categories."""
    context_weight: NonNegativeFloat = 1.0
    """Standard deviations of the ranker's score that the best co-purchase with the page or basket is worth."""
