"""The annotation guide shows the label set as it is, and its example of a source works."""

import csv
import re
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from data_contracts.intents import load_labels
from data_contracts.lake import as_of
from data_contracts.shop import load_shop
from data_contracts.tables import Table
from feature_repo.redaction import KINDS
from tests.golden import ROOT, check_golden
from tests.lake_maker import make_identity, make_lake
from training.clean import clean
from training.extract import extract

PAGE = ROOT / "docs/annotation.md"


def test_the_guidelines_are_the_label_set() -> None:
    """One row per label, rendered from labels.yaml."""
    labels = load_labels()
    rows = ["| label | the shopper ... | for example | but |", "|---|---|---|---|"]
    for each in labels.labels:
        examples = " · ".join(text for texts in each.examples.values() for text in texts)
        rows.append(f"| `{each.name}` | {each.wants} | {examples} | {each.others} |")
    table = "\n".join(rows)
    page = PAGE.read_text(encoding="utf-8")
    rendered = re.sub(r"(<!-- labels -->\n).*?(<!-- /labels -->)", rf"\g<1>{table}\n\g<2>", page, flags=re.DOTALL)
    check_golden(PAGE, rendered)


def test_the_page_names_every_placeholder() -> None:
    assert set(re.findall(r"<([A-Z]+)>", PAGE.read_text(encoding="utf-8"))) == set(KINDS)


def test_the_example_of_a_source_becomes_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The YAML of the page over a file with that header: two messages, the one without a text in quarantine."""
    (block,) = re.findall(r"```yaml\n(messages:\n.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    spec = Table.model_validate(yaml.safe_load(block)["messages"])
    monkeypatch.setenv("MERCATO_SOURCES", str(tmp_path))
    file = Path(spec.source.path.replace("$MERCATO_SOURCES", str(tmp_path)))  # type: ignore[union-attr]
    texts = ["where is my order 113542617735902?", "I need help, to cancel it", " "]
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, list(spec.columns))
        writer.writeheader()
        writer.writerows({"instruction": text, "start_offset": 1, "end_offset": 2, "role": "x"} for text in texts)
    shop = load_shop("complete_journey")
    shop = shop.model_copy(update={"tables": {**shop.tables, "messages": spec}})
    lake, people = make_lake(tmp_path / "data"), make_identity(tmp_path)
    at = spec.event_time.constant
    assert at is not None
    since = shop.day_start(shop.business_day(at))
    window = {"since": since, "until": since + timedelta(days=1)}
    extract(lake, shop, "messages", **window)
    assert clean(lake, shop, "messages", people, **window).quarantined == 1
    found = as_of(lake, "messages", event_before=window["until"], known_before=window["until"]).execute()
    assert set(found["text"]) == set(texts[:2])
    assert set(found["channel"]) == {"chat"}
