"""The label set is data that annotation, training and serving share."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_contracts.contract import load_contract
from data_contracts.datasets import DATASETS
from data_contracts.errors import BadContract
from data_contracts.intents import LABELS, load_labels


def test_the_labels_are_the_ones_of_the_house() -> None:
    """Eight intents and the rest, each with an example in each language."""
    labels = load_labels()
    assert labels.names == (
        "greeting", "browse", "info", "cart", "offers", "recommend", "help", "track", "out_of_scope"
    )  # fmt: skip
    assert set(labels.languages) == {"en", "hi", "hinglish"}
    examples = [text for label in labels.labels for texts in label.examples.values() for text in texts]
    assert len(examples) == len(set(examples)) >= 27


def test_names_fit_the_dataset() -> None:
    """A label can be written in `intent_examples`."""
    (rule,) = load_contract("intent_examples", DATASETS).column("intent").quality
    assert all(re.fullmatch(rule.arguments.pattern, name) for name in load_labels().names)


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"rest": "other"}, r"rest is 'other', need one of greeting"),
        ({"version": "1"}, "version"),
        ({"languages": {"en": "English", "ta": "Tamil"}}, r"greeting lacks an example in \['ta'\]"),
    ],
)
def test_a_set_that_does_not_hold_together_is_refused(tmp_path: Path, change: dict[str, Any], wrong: str) -> None:
    """The message says what is wrong."""
    said = {**yaml.safe_load(LABELS.read_text(encoding="utf-8")), **change}
    file = tmp_path / "labels.yaml"
    file.write_text(yaml.safe_dump(said), encoding="utf-8")
    with pytest.raises(BadContract, match=wrong):
        load_labels(file)


def test_two_labels_of_one_name_are_refused(tmp_path: Path) -> None:
    """An annotation would not say which one it means."""
    said = yaml.safe_load(LABELS.read_text(encoding="utf-8"))
    said["labels"].append(said["labels"][0])
    file = tmp_path / "labels.yaml"
    file.write_text(yaml.safe_dump(said), encoding="utf-8")
    with pytest.raises(BadContract, match="the name 'greeting' is there twice"):
        load_labels(file)
