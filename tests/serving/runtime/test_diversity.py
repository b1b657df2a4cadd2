"""Categories of the first page, by hand: ten products of "a" score 1.00 to 0.91, those of "b" are put beside them."""

import numpy as np

from serving.runtime.diversity import NEAR, spread

TEN = np.linspace(1.0, 0.91, 10)


def spread_of(
    others: list[float], *, category: str = "b", fixed: tuple[int, ...] = (), worst: float = 0.0
) -> list[int]:
    """The order of the ten, the others, and one last product of "a" whose score sets the range."""
    scores = np.array([*TEN, *others, worst], dtype=np.float32)
    names = np.array([*["a"] * 10, *[category] * len(others), "a"])
    held = np.isin(np.arange(len(scores)), fixed)
    return spread(np.arange(len(scores)), scores, names, held).tolist()


def test_at_most_seven_of_one_category_where_others_are_nearly_as_good() -> None:
    """Four of "b" score .90: three take the places of the last three of "a", which come right after the ten."""
    assert spread_of([0.90, 0.90, 0.90, 0.90]) == [0, 1, 2, 3, 4, 5, 6, 10, 11, 12, 7, 8, 9, 13, 14]


def test_what_is_not_nearly_as_good_stays_behind() -> None:
    """A page of one category stays as it is when no other category comes near, or none is known."""
    plain = list(range(12))
    assert spread_of([0.91 - NEAR - 0.001]) == plain
    assert spread_of([0.91 - NEAR + 0.001]) == [*range(9), 10, 9, 11]
    assert spread_of([0.90], category="") == plain
    assert spread_of([0.90], category="a") == plain


def test_what_a_rule_or_its_stock_placed_does_not_move() -> None:
    """A pinned product keeps its place, one that is sold out stays behind."""
    assert spread_of([0.90, 0.90], fixed=(9, 10)) == [*range(8), 11, 9, 8, 10, 12]


def test_seven_of_ten_are_left_alone() -> None:
    """Three others on the page already: nothing moves."""
    scores = np.linspace(1, 0, 13, dtype=np.float32)
    names = np.array([*"aaabaabaab", *"bbb"])
    assert spread(np.arange(13), scores, names, np.zeros(13, dtype=bool)).tolist() == list(range(13))
