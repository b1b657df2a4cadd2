"""What is nearly the same is one group, and a group is on one side of a split."""

from datetime import UTC, datetime

import pandas as pd
import pytest

from feature_repo.language import language_of
from tests.lake_maker import sample_shop
from training.datasets.builder import SPLIT
from training.datasets.by_group import LeakageFound, check_groups
from training.datasets.kinds import BUILDERS
from training.datasets.splits import with_splits
from training.near_duplicates import crossing, groups

INTENT = BUILDERS["intent_examples"]
SHOP = sample_shop()


def test_a_group_is_a_chain_of_near_duplicates() -> None:
    """Case, spaces, marks and one letter do not make another message; another word does."""
    texts = [
        "where is my parcel", "WHERE is  my parcel?", "add two mangoes", "where is my parcell", "मेरा पार्सल कहाँ है",
        "where is my refund", "",
    ]  # fmt: skip
    assert groups(texts).tolist() == [0, 0, 2, 0, 4, 5, 6]
    assert groups([]).tolist() == []
    assert groups(["👍", "😡", "👍", "???"]).tolist() == [0, 1, 0, 3], "without a word a message is what it is"
    assert groups(["need help", "need help ?????", "needd help ?????", "need help"]).tolist() == [0, 0, 0, 0]
    assert crossing(texts[:2], texts[3:]) == [(text, "where is my parcell") for text in texts[:2]]


def test_how_alike_two_texts_are_does_not_depend_on_others() -> None:
    """The same pairs alone and among a hundred others."""
    pair = ["cancel my order please", "please cancel my order", "cancel my order pleas"]
    others = [f"{n * 7919:x} {n * 104729:x}" for n in range(100)]
    assert groups(pair).tolist() == groups([*pair, *others]).tolist()[:3]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("any cordless drills in stock?", "en"),
        ("what do i do", "en"),
        ("red par baking tray", "en"),
        ("मेरा order कहाँ है", "hi"),
        ("isme kitne GB ki ram aati hai", "hinglish"),
        ("mujhe ek lal saree dikhao", "hinglish"),
        ("500 tak ke earphones", "hinglish"),
        ("12345", "en"),
        ("", "en"),
    ],
)
def test_a_language_is_guessed_by_letters_and_words(text: str, language: str) -> None:
    """English when nothing speaks for Hindi."""
    assert language_of(text) == language


def frame(groups: list[tuple[str, str, list[int]]]) -> pd.DataFrame:
    """Rows of (group, intent, days of January on which its texts were written; 0 for an unknown time)."""
    rows = [
        {"text": f"{group} {n}", "intent": intent, "language": "en", "group_id": group,
         "message_time": pd.Timestamp(datetime(2017, 1, day, tzinfo=UTC)) if day else pd.NaT}
        for group, intent, days in groups
        for n, day in enumerate(days)
    ]  # fmt: skip
    made = pd.DataFrame(rows)
    return made.assign(message_time=pd.to_datetime(made["message_time"], utc=True))


def test_later_messages_are_tested_in_every_stratum() -> None:
    """20 groups of a label, one a day: the first 14 train, 3 validate, 3 test; the other label likewise by itself."""
    rows = frame([(f"{intent}{day:02}", intent, [day]) for intent in ("track", "help") for day in range(1, 21)])
    split, cuts = with_splits(rows, INTENT, SHOP)
    assert cuts == []
    for intent in ("track", "help"):
        sides = split[split["intent"] == intent].sort_values("message_time")[SPLIT].tolist()
        assert sides == ["train"] * 14 + ["validation"] * 3 + ["test"] * 3


def test_a_group_is_as_late_as_its_newest_text_and_stays_whole() -> None:
    """A text of the first day is tested when its near-duplicate came last; a very large group is trained on."""
    late = [("late", "track", [1, 20])]
    rows = frame([*[(f"t{day:02}", "track", [day]) for day in range(2, 20)], *late])
    split, _ = with_splits(rows, INTENT, SHOP)
    assert set(split[split["group_id"] == "late"][SPLIT]) == {"test"}
    rows = frame([*[(f"t{day:02}", "track", [day]) for day in range(2, 20)], ("big", "track", [20] * 10)])
    split, _ = with_splits(rows, INTENT, SHOP)
    assert set(split[split["group_id"] == "big"][SPLIT]) == {"train"}


def test_leaks_between_sides_are_found() -> None:
    """A near-duplicate on the other side, and a test that is older than what was trained on."""
    rows = frame([("a", "track", [1]), ("b", "track", [2])]).assign(text=["where is my parcel", "where is my parcell"])
    with pytest.raises(LeakageFound, match=r"1 texts of test have a near-duplicate in train, e.g. \[\('where is my"):
        check_groups(rows.assign(split=["train", "test"]), INTENT)
    rows = frame([("a", "track", [2]), ("b", "track", [1])]).assign(text=["where is my parcel", "show me shoes"])
    with pytest.raises(LeakageFound, match=r"train holds a text of 2017-01-02.*younger than one of test, 2017-01-01"):
        check_groups(rows.assign(split=["train", "test"]), INTENT)
    said = check_groups(rows.assign(split=["test", "train"]), INTENT)
    assert said["near-duplicates on one side only"] == "2 groups"


def test_messages_without_a_time_go_by_their_hash() -> None:
    """400 of them: 70/15/15, the same again."""
    rows = frame([(f"g{n}", "track", [0]) for n in range(400)])
    rows["text"] = [f"{n * 7919:x} {n * 104729 % 9973:x}" for n in range(400)]
    split, _ = with_splits(rows, INTENT, SHOP)
    assert split[SPLIT].value_counts().to_dict() == {"train": 280, "validation": 60, "test": 60}
    again, _ = with_splits(rows.sample(frac=1, random_state=1), INTENT, SHOP)
    assert again.sort_index()[SPLIT].tolist() == split[SPLIT].tolist()
