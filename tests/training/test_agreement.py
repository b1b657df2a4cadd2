"""Agreement beyond chance, by hand, against statsmodels, and on three real raters."""

import csv

import numpy as np
import pytest
from statsmodels.stats.inter_rater import fleiss_kappa

from tests.golden import ROOT
from training.annotation.agreement import agreement, decision, fleiss, plain

GRADES = ("0", "1", "2", "3")


def raters() -> dict[str, dict[str, str]]:
    """240 search results, each graded 0 to 3 by three people."""
    with (ROOT / "tests/data/chorus_raters.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    return {f"{n:03}": dict(zip("abc", row[1:], strict=True)) for n, row in enumerate(rows)}


def test_two_items_by_hand() -> None:
    """Two raters, two labels; one item of two agreed: half of the pairs agree, by chance .75² + .25² = .625 would."""
    kappa, each = fleiss(np.asarray([[2, 0], [1, 1]]))
    assert kappa == pytest.approx((0.5 - 0.625) / (1 - 0.625))
    assert each == pytest.approx([1 - 0.25 / (0.75 * 0.25)] * 2)


def test_the_example_of_the_paper() -> None:
    """Ten subjects, fourteen raters, five categories: kappa .210 (Fleiss 1971, as reprinted in the literature)."""
    counts = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    assert fleiss(np.asarray(counts))[0] == pytest.approx(0.210, abs=5e-4)


def test_three_real_raters() -> None:
    """As statsmodels has it; nothing and perfect are mixed up most, the grades between are no better than chance."""
    said = raters()
    found = agreement(said, GRADES)
    counts = np.asarray([[list(votes.values()).count(grade) for grade in GRADES] for votes in said.values()])
    assert found.shared == 240
    assert found.kappa == pytest.approx(fleiss_kappa(counts))
    assert found.kappa == pytest.approx(0.627, abs=5e-4)
    assert {pair: round(kappa, 2) for pair, kappa in found.by_pair.items()} == {"a b": 0.67, "a c": 0.64, "b c": 0.57}
    assert {grade: round(kappa, 1) for grade, kappa in found.by_label.items()} == {"0": 0.7, "1": 0, "2": 0, "3": 0.7}
    assert sum(found.votes.values()) == 720
    one, other, n, examples = found.confused[0]
    assert (one, other) == ("0", "3")
    assert all({one, other} <= set(said[each].values()) for each in examples)
    assert n == sum({one, other} <= set(votes.values()) for votes in said.values())


def test_raters_may_miss_items() -> None:
    """An item that one rater saw says nothing; one that three saw weighs as much as one that two saw."""
    said = {"1": {"a": "x", "b": "x"}, "2": {"a": "x", "b": "y", "c": "y"}, "3": {"a": "x"}}
    found = agreement(said, ("x", "y", "z"))
    share = (1 + 1 / 3) / 2
    assert found.shared == 2
    assert found.kappa == pytest.approx(1 - (1 - (1 + 1 / 3) / 2) / (1 - share**2 - (1 - share) ** 2))
    assert set(found.by_label) == {"x", "y"}


def test_one_label_leaves_no_room_for_chance() -> None:
    """NaN inside, null outside; nothing is confused."""
    found = agreement({"1": {"a": "x", "b": "x"}}, ("x", "y"))
    assert np.isnan(found.kappa)
    nothing = {"kappa": None, "by_label": {"x": None}, "by_pair": {"a b": None}}
    assert plain(found) == {"shared": 1, "confused": [], **nothing}


@pytest.mark.parametrize(
    ("votes", "decided"),
    [("x", ("x", 1.0)), ("xxy", ("x", 2 / 3)), ("xy", None), ("xxyyz", None), ("xxxyy", ("x", 0.6))],
)
def test_a_majority_decides(votes: str, decided: tuple[str, float] | None) -> None:
    """At least 60 % of the votes; a tie or less goes to an adjudicator."""
    assert decision(list(votes), 0.6) == decided
