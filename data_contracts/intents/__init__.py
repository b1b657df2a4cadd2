"""The label set: what a shopper's message can want, `labels.yaml` beside this file."""

from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from data_contracts.errors import BadContract

INTENTS = Path(__file__).parent
"""Folder of the label set, the shop-intents set, and how public sets fit onto its labels."""
LABELS = INTENTS / "labels.yaml"


class Label(BaseModel):
    """One intent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    wants: Annotated[str, Field(min_length=1)]
    """Ends the sentence "the shopper ..."."""
    others: Annotated[str, Field(min_length=1)]
    """What looks like it and has another label."""
    hotkey: Annotated[str, Field(pattern=r"^[0-9a-z]$")]
    """Key that annotators press."""
    examples: dict[str, tuple[str, ...]]
    """Language -> messages that have it."""


class LabelSet(BaseModel):
    """`labels.yaml`: a label removed or meaning something else is a new major version, one added a minor one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    languages: dict[str, str]
    """Code of a language, as in the column `language` -> its name for people."""
    rest: str
    """The label of messages that want none of the others."""
    labels: Annotated[tuple[Label, ...], Field(min_length=2)]

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        for what, given in (("name", self.names), ("hotkey", [each.hotkey for each in self.labels])):
            twice = sorted({each for each in given if list(given).count(each) > 1})
            if twice:
                raise ValueError(f"the {what} {twice[0]!r} is there twice")
        if self.rest not in self.names:
            raise ValueError(f"rest is {self.rest!r}, need one of {', '.join(self.names)}")
        for label in self.labels:
            lacking = [code for code in self.languages if not label.examples.get(code)]
            unknown = sorted(label.examples.keys() - self.languages.keys())
            if lacking or unknown:
                raise ValueError(
                    f"{label.name} lacks an example in {lacking}, and has some in {unknown}; need one or more in each "
                    f"of {', '.join(self.languages)}"
                )
        return self

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The labels in their order, which models keep."""
        return tuple(label.name for label in self.labels)

    @property
    def major(self) -> int:
        """Labels of the same major version mean the same."""
        return int(self.version.partition(".")[0])


@cache
def load_labels(path: Path = LABELS) -> LabelSet:
    """The label set; BadContract says what is wrong with its YAML."""
    try:
        return LabelSet.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise BadContract(f"{path.name} is not YAML: {error}") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise BadContract(f"{path.name}: {wrong}") from error
