"""The messages that the intent model learns from: which count, which side they are on, which are left out."""

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from mercato import paths
from mercato.settings import Settings
from tests.lake_maker import sample_shop
from training import intent_data
from training.datasets.builder import Inputs
from training.datasets.kinds import BUILDERS
from training.datasets.versions import build
from training.errors import BadConfig, NotEnoughData
from training.intent_data import COLUMNS, annotated, gather, public_rows, read_alike, shop_intents
from training.near_duplicates import crossing

AT = datetime(2017, 12, 4, 5, tzinfo=UTC)
NONE = pd.DataFrame(columns=list(COLUMNS))
SIDES = ("train", "validation", "test")


def test_the_shop_set_has_every_label_in_every_language() -> None:
    """300 messages to train and 40 to test per label and language; none is nearly one on the other side."""
    learned, tested = shop_intents("train"), shop_intents("test")
    assert learned.groupby(["intent", "language"]).size().min() >= 300
    assert not crossing(learned["text"].tolist(), tested["text"].tolist())
    assert set(tested.groupby(["intent", "language"]).size()) == {40}
    assert tested["intent"].nunique() == 9
    assert not {*map(read_alike, learned["text"])} & {*map(read_alike, tested["text"])}


def test_no_message_is_on_two_sides_and_public_ones_only_train(tmp_path: Path) -> None:
    """A public row that reads like a test message is left out; validation and test hold no public row."""
    taken = shop_intents("test")["text"].iloc[0]
    public = pd.DataFrame([(taken.upper() + "!", "cart", "en", "public:x"), ("q7 z9", "cart", "en", "public:x")],
                          columns=list(COLUMNS))  # fmt: skip
    parts = gather({}, public, validation_share=0.15)
    sides = [{*map(read_alike, part["text"])} for part in (parts.train, parts.validation, parts.test)]
    assert not sides[0] & sides[1]
    assert not (sides[0] | sides[1]) & sides[2]
    assert "q7 z9" in set(parts.train["text"])
    assert not parts.validation["origin"].str.startswith("public:").any()
    assert annotated(paths.lake(Settings(home=tmp_path)), AT) == {}
    held = gather({}, NONE, validation_share=0.15).validation.iloc[:1]
    with pytest.raises(NotEnoughData, match=r"\{'salutation': 0\} rows to train on"):
        gather({"train": held.assign(intent="salutation")}, NONE, validation_share=0.15)
    with pytest.raises(NotEnoughData, match="label more"):
        gather({"train": public.iloc[:1].assign(text="w5 w6", intent="new_label")}, NONE, validation_share=0.15)


def test_a_label_that_was_corrected_is_the_one_that_counts() -> None:
    """On whatever side the set has the message, and wherever the labels lie: it stays there, all else as it was."""
    plain = gather({}, NONE, validation_share=0.15)
    texts = {side: getattr(plain, side).query("intent == 'track'")["text"].iloc[0] for side in SIDES}
    said = [text.upper() + " !" for text in texts.values()]
    labelled = pd.DataFrame({"text": said, "intent": "cart", "language": "hi", "origin": "annotation b"})
    for split in SIDES:
        parts = gather({split: labelled}, NONE, validation_share=0.15)
        for side, text in texts.items():
            before, after = getattr(plain, side), getattr(parts, side)
            changed = before["text"] == text
            assert changed.sum() == 1
            assert after.equals(before.assign(intent=before["intent"].mask(changed, "cart")))


def test_a_row_that_is_nearly_one_of_a_later_side_is_left_out() -> None:
    """What was labelled or is public goes, and what the set trains on where the test is new; the set alone stays."""
    plain = gather({}, NONE, validation_share=0.15)
    texts = {side: [text for text in getattr(plain, side)["text"] if len(text) < 200] for side in SIDES}
    near = {side: max(texts[side], key=len) + "s" for side in SIDES}
    rows = pd.DataFrame({"text": near.values(), "intent": "cart", "language": "en", "origin": "annotation b"})
    parts = gather({"train": rows}, rows.assign(origin="public:x"), validation_share=0.15)
    assert set(parts.train["text"]) - set(plain.train["text"]) == {near["train"]}
    assert parts.validation.equals(plain.validation)
    assert parts.test.equals(plain.test)
    parts = gather({"test": rows, "validation": rows.assign(text=rows["text"] + "s")}, NONE, validation_share=0.15)
    assert set(parts.test["text"]) == {*plain.test["text"], *near.values()}
    gone = set(plain.train["text"]) - set(parts.train["text"])
    assert near["train"][:-1] in gone
    assert set(parts.validation["text"]) < set(plain.validation["text"])


def test_labels_of_a_file_and_of_annotators_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What annotators said of a message counts; Hinglish stays Hinglish, though it has Latin letters only."""
    lake, shop = paths.lake(Settings(home=tmp_path)), sample_shop()
    rows = pd.DataFrame({"text": [f"kahan hai mera order {n * 7919}" for n in range(60)], "language": "hinglish"})
    for part, intent, name in ((rows[20:], "track", "annotations"), (rows[:40], "help", "file")):
        part.assign(intent=intent, label_source=name).to_csv(tmp_path / f"{name}.csv", index=False)
        build(BUILDERS["intent_examples"], Inputs(lake, shop, shop.window()[0], AT, tmp_path / f"{name}.csv"))
    monkeypatch.setattr(intent_data, "of_annotations", lambda made: "annotations.csv" in made.inputs)
    found = pd.concat(annotated(lake, AT).values())
    assert found["intent"].value_counts().to_dict() == {"track": 40, "help": 20}
    assert found["text"].is_unique
    assert set(found["language"]) == {"hinglish"}


def test_a_version_without_rows_is_no_labels(tmp_path: Path) -> None:
    """A file with nothing but a header was taken in: there is nothing to learn from it, and nothing fails."""
    lake, shop = paths.lake(Settings(home=tmp_path)), sample_shop()
    (tmp_path / "none.csv").write_text("text,intent,label_source\n")
    build(BUILDERS["intent_examples"], Inputs(lake, shop, shop.window()[0], AT, tmp_path / "none.csv"))
    assert annotated(lake, AT) == {}


def test_public_sets_are_mapped_by_class_and_bounded(tmp_path: Path) -> None:
    """Classes of a public set become our labels, so many rows of each at most; a set that is not there is left out."""
    rows = [{"instruction": f"order {n} please", "intent": "place_order"} for n in range(30)]
    names = ["track_order", "cancel_order", "change_order", "change_shipping_address", "check_cancellation_fee",
             "check_invoice", "check_payment_methods", "check_refund_policy", "complaint",
             "contact_customer_service", "contact_human_agent", "create_account", "delete_account", "delivery_options",
             "edit_account", "get_invoice", "get_refund", "payment_issue", "recover_password", "registration_problems",
             "set_up_shipping_address", "switch_account", "track_refund", "newsletter_subscription"]  # fmt: skip
    rows += [{"instruction": f"about {name}", "intent": name} for name in names]
    pd.DataFrame(rows).to_csv(tmp_path / "bitext_customer_support_4514.csv", index=False)
    found = public_rows(tmp_path)
    assert found["intent"].value_counts().to_dict() == {"help": 22, "cart": 12, "track": 1}
    assert set(found["origin"]) == {"public:bitext"}
    (tmp_path / "none").mkdir()
    assert public_rows(tmp_path / "none").empty
    with pytest.raises(BadConfig, match="nowhere, which is no folder"):
        public_rows(tmp_path / "nowhere")
