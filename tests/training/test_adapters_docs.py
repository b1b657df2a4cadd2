"""docs/sources.md tells the truth: its examples are valid, and every kind and key is there."""

import re
from pathlib import Path
from typing import get_args

import pytest
import yaml
from pydantic import BaseModel, TypeAdapter

from data_contracts.sources import Auth, Csv, Pages, Source
from data_contracts.tables import EventTime, KnownAt

TEXT = (Path(__file__).parents[2] / "docs" / "sources.md").read_text()
KINDS: list[type[BaseModel]] = list(get_args(get_args(Source)[0]))
EXAMPLES = [yaml.safe_load(each) for each in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)]


def test_every_example_is_a_source() -> None:
    """Each YAML block validates, times and all, and together they show every kind."""
    read = TypeAdapter(Source)
    shown = {read.validate_python(each["source"]).kind for each in EXAMPLES}
    assert shown == {get_args(kind.model_fields["kind"].annotation)[0] for kind in KINDS}
    for each in EXAMPLES:
        for name, rule in (("event_time", EventTime), ("known_at", KnownAt)):
            if name in each:
                rule.model_validate(each[name])


@pytest.mark.parametrize("part", [*KINDS, Auth, Csv, Pages], ids=lambda part: part.__name__)
def test_every_key_is_there(part: type[BaseModel]) -> None:
    """A key that the YAML takes is named in the reference."""
    missing = [name for name in part.model_fields if not re.search(rf"[`{{ .]{name}\b", TEXT)]
    assert missing == []
