"""Merchandising rules: when they hold, what they move, and how pages stay right."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.errors import BadShop
from data_contracts.merchandising import Rule, load_rules, read_rules
from serving.runtime.merchandising import applying, arrange, blocked, pinned

START = datetime(2017, 12, 1, tzinfo=UTC)
END = START + timedelta(days=7)
IDS = ["a", "b", "c", "d", "e", "f"]
ROW = {pid: at for at, pid in enumerate(IDS)}


class Shelf:
    category = np.array(["Milk", "Milk", "Bread", "Bread", "Tea", "Tea"])
    brand = np.array(["X", "Y", "X", "Y", "X", "Y"])


ROWS = np.arange(6, dtype=np.int32)
SCORES = np.array([0.6, 0.5, 0.4, 0.3, 0.2, 0.1], dtype=np.float32)
NONE = np.zeros(6, dtype=bool)


def rule(action: str, what: dict[str, Any], **more: Any) -> Rule:
    said = {"id": "r", "owner": "shop", "reason": "test", "start": START, "end": END, "action": action, "what": what}
    return Rule.model_validate({**said, **more})


def order(*rules: Rule) -> str:
    return "".join(IDS[at] for at in arrange(rules, ROWS, SCORES, ROW, Shelf(), last=NONE).order)


def test_what_is_sold_out_comes_after_the_rest_unless_pinned() -> None:
    """Sold out are a and c: behind b, d, e and f, in their own order, a boost or not; a pin puts c where it says."""
    sold_out = np.array([True, False, True, False, False, False])

    def order(*rules: Rule) -> str:
        return "".join(IDS[at] for at in arrange(rules, ROWS, SCORES, ROW, Shelf(), last=sold_out).order)

    assert order() == "bdefac"
    assert order(rule("boost", {"category": "bread"}, factor=9)) == "dbefca"
    assert order(rule("pin", {"products": ["c"]}, position=1)) == "cbdefa"


def test_each_action_by_hand() -> None:
    """Six products a to f by falling score: a pin to 2, bread doubled (c .8, d .6), brand X buried."""
    assert order() == "abcdef"
    assert order(rule("pin", {"products": ["e", "f"]}, position=2)) == "aefbcd"
    assert order(rule("boost", {"category": "bread"}, factor=2)) == "cadbef"
    assert order(rule("bury", {"brand": "x"})) == "bdface"
    assert order(rule("bury", {"brand": "X", "category": "Tea"})) == "abcdfe"
    assert (
        blocked([rule("block", {"products": ["b", "nobody"]})], ROWS, ROW, Shelf()).tolist()
        == [False, True] + [False] * 4
    )


def test_rules_meet_in_order_and_a_pin_wins() -> None:
    """What is buried is pinned all the same; of two pins of one product the first holds; places are kept."""
    both = rule("bury", {"category": "Tea"}, id="b"), rule("pin", {"products": ["f"]}, position=1, id="p")
    again = rule("pin", {"products": ["f", "e"]}, position=3, id="q")
    arranged = arrange([*both, again], ROWS, SCORES, ROW, Shelf(), last=NONE)
    assert [IDS[at] for at in arranged.order] == ["f", "a", "b", "e", "c", "d"]
    assert arranged.rules[5] == ("bury b", "pin p")
    assert arranged.rules[4] == ("bury b", "pin q")


@pytest.mark.parametrize(
    ("pins", "expected"),
    [
        ([("abc", 1), ("d", 2)], "abcdef"), ([("d", 2), ("fec", 1)], "fecdab"), ([("fe", 3), ("d", 3)], "abfedc"),
        ([("d", 3), ("fe", 3)], "abdfec"), ([("f", 5), ("de", 4)], "abcdef"), ([("d", 40), ("ab", 40)], "cefdab"),
        ([("d", 3), ("da", 1)], "dabcef"),
    ],
)  # fmt: skip
def test_pins_that_want_the_same_place_take_the_next_free_one(pins: list[tuple[str, int]], expected: str) -> None:
    """In order of position, then of the file; each rule's products keep their order."""
    assert (
        order(*(rule("pin", {"products": [*ids]}, position=at, id=f"p{i}") for i, (ids, at) in enumerate(pins)))
        == expected
    )


def test_each_rule_says_how_many_products_it_moved() -> None:
    """Two products are bread, of two that are pinned one is known, nothing is of the brand that is buried."""
    boost = rule("boost", {"category": "bread"}, factor=2, id="boost")
    pin = rule("pin", {"products": ["b", "zz"]}, position=1, id="pin")
    none = rule("bury", {"brand": "Z"}, id="none")
    assert arrange([boost, pin, none], ROWS, SCORES, ROW, Shelf(), last=NONE).touched == {
        "boost": 2, "pin": 1, "none": 0,
    }  # fmt: skip


def test_a_pin_beyond_the_end_is_last_and_unknown_products_are_passed_over() -> None:
    """Six products have no place 40; a product that the release does not know pins nothing."""
    assert order(rule("pin", {"products": ["a"]}, position=40)) == "bcdefa"
    assert pinned([rule("pin", {"products": ["zz", "c", "a"]}, position=1)], ROW).tolist() == [0, 2]


@given(st.integers(1, 8), st.integers(1, 6))
def test_pages_are_cuts_of_one_list(position: int, size: int) -> None:
    """With a pin anywhere, pages of any size together hold each product once."""
    whole = arrange(
        [rule("pin", {"products": ["d"]}, position=position)], ROWS, SCORES, ROW, Shelf(), last=NONE
    ).order.tolist()
    assert sorted(whole) == list(range(6))
    assert whole.index(3) == min(position, 6) - 1
    pages = [whole[at : at + size] for at in range(0, 6, size)]
    assert [each for page in pages for each in page] == whole


@pytest.mark.parametrize(
    ("when", "query", "category", "segment", "holds"),
    [
        ({}, "milk", None, None, True), ({"queries": ["  'MILK'.!"]}, "milk", None, None, True),
        ({"queries": ["bread"]}, "milk", None, None, False), ({"category": "dairy"}, "", "DAIRY", None, True),
        ({"category": "dairy"}, "milk", None, None, False), ({"segment": "vip"}, "milk", None, "vip", True),
        ({"segment": "vip"}, "milk", None, None, False),
        ({"queries": ["milk"], "segment": "vip"}, "milk", None, "new", False),
    ],
)  # fmt: skip
def test_a_rule_holds_for_the_requests_it_names(
    when: dict[str, Any], query: str, category: str | None, segment: str | None, holds: bool
) -> None:
    """Everything that `when` says must hold: query after normalising, category and segment."""
    made = rule("bury", {"brand": "X"}, when=when)
    found = applying([made], queries={query}, category=category, segment=segment, as_of=START)
    assert (found == [made]) is holds


def test_a_rule_holds_from_its_start_up_to_its_end() -> None:
    """The window is half-open, and the time is passed in."""
    made = rule("bury", {"brand": "X"})
    moments = (START - timedelta(seconds=1), START, END - timedelta(seconds=1), END)
    found = [applying([made], queries=(), category=None, segment=None, as_of=at) == [made] for at in moments]
    assert found == [False, True, True, False]


RULE = """
- id: soup
  action: pin
  owner: grocery@shop.example
  reason: winter
  start: 2017-12-01T00:00:00Z
  end: 2018-03-01T00:00:00Z
  what: {products: ["1", "2"]}
  position: 1
"""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("position: 1", ""), "rule soup: .*needs position"), (("2018-03-01", "2017-03-01"), "not after its start"),
        (("owner: grocery@shop.example", "owner: ''"), "rule soup: owner"), (("action: pin", "action: hide"), "action"),
        (('{products: ["1", "2"]}', "{}"), "name either products"), (("reason", "because"), "reason: Field required"),
        (("T00:00:00Z\n  end", "\n  end"), "start"), (("- id: soup", "- id: [soup"), "not YAML"),
        (("2018-03-01", "2017-11-31"), "not YAML: day is out"), (("position: 1", "position: !!int x"), "not YAML"),
        (("position: 1", "position: 1\n" + RULE.strip().replace("soup", "soup")), "more than once"),
    ],
)  # fmt: skip
def test_a_wrong_rule_is_named(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    """Nothing of a file with a wrong rule is taken; the error names the rule and what is wrong."""
    path = tmp_path / "merchandising.yaml"
    path.write_text(RULE)
    assert [each.id for each in load_rules(path)] == ["soup"]
    path.write_text(RULE.replace(*change, 1))
    with pytest.raises(BadShop, match=said):
        load_rules(path)


def test_a_shop_without_rules_has_none(tmp_path: Path) -> None:
    """No file, or an empty one, is no error."""
    assert load_rules(tmp_path / "none.yaml") == []
    (tmp_path / "empty.yaml").write_text("# nothing yet\n")
    assert load_rules(tmp_path / "empty.yaml") == []
    with pytest.raises(BadShop, match="found no file"):
        read_rules(tmp_path / "none.yaml")
