"""Merchandising rules as data: what a shop pins, boosts, buries or blocks, when, and who asked for it.

`data_contracts/search/<shop>/merchandising.yaml`, or the file that MERCATO_MERCHANDISING names: a list of rules.
"""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from data_contracts.errors import BadShop
from data_contracts.events import Id
from data_contracts.search_words import FOLDER

MAX_PINS = 50
"""Positions from the top that a pin can take."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class When(_Part):
    """Requests that a rule applies to: all that is said must hold; nothing said: every request."""

    queries: list[str] = []
    """Any of these, compared after normalising."""
    category: str | None = None
    """The request's category filter: a category page, or a search inside it."""
    segment: str | None = None
    """The shopper's segment, as the request names it."""


class What(_Part):
    """Products that a rule moves: any of `products`, or all of a brand, a category or both."""

    products: list[Id] = []
    brand: str | None = None
    category: str | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if bool(self.products) == bool(self.brand or self.category):
            raise ValueError("name either products, or a brand or category")
        return self


class Rule(_Part):
    """One rule."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    action: Literal["pin", "boost", "bury", "block"]
    owner: Annotated[str, Field(min_length=1)]
    """Who answers for it: a team or a mailbox."""
    reason: Annotated[str, Field(min_length=1)]
    start: AwareDatetime
    end: AwareDatetime
    """In force in [start, end)."""
    when: When = When()
    what: What
    position: int | None = Field(default=None, ge=1, le=MAX_PINS)
    """Of a pin: place of its first product on the whole list, from 1; the others follow."""
    factor: float | None = Field(default=None, gt=1, le=100)
    """Of a boost: the score is multiplied by it."""

    @model_validator(mode="after")
    def _fits_its_action(self) -> Self:
        if self.end <= self.start:
            raise ValueError(f"ends at {self.end}, which is not after its start {self.start}")
        if (self.action == "pin") != (self.position is not None):
            raise ValueError("a pin, and only a pin, needs position")
        if self.action == "pin" and not self.what.products:
            raise ValueError("a pin needs what.products")
        if (self.action == "boost") != (self.factor is not None):
            raise ValueError("a boost, and only a boost, needs factor")
        return self

    def in_force(self, at: datetime) -> bool:
        """Whether the rule holds at `at`."""
        return self.start <= at < self.end


_RULES = TypeAdapter(list[Rule])


def rules_path(shop: str, folder: Path = FOLDER) -> Path:
    """Where the rules of a shop are; a shop without rules has no file."""
    return folder / shop / "merchandising.yaml"


def load_rules(path: Path) -> list[Rule]:
    """The rules of a file, none when there is no file; BadShop says which rule is wrong and why."""
    return read_rules(path) if path.exists() else []


def read_rules(path: Path) -> list[Rule]:
    """The rules of a file that must be there.

    Raises:
        BadShop: it is not, or a rule is wrong; says which and why.
    """
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8")) or []
    except FileNotFoundError:
        raise BadShop(f"found no file {path}; need a YAML list of rules, an empty file for none") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # of a date that does not exist: ValueError
        raise BadShop(f"{path} is not YAML: {error}") from error
    try:
        rules = _RULES.validate_python(said)
    except ValidationError as error:
        wrong = error.errors()[0]
        at, *key = wrong["loc"] or ("?",)
        named = said[at].get("id", at) if isinstance(at, int) and isinstance(said[at], dict) else at
        where = ".".join(map(str, key))
        raise BadShop(f"{path}: rule {named}: {where}: {wrong['msg'].removeprefix('Value error, ')}") from error
    ids = [rule.id for rule in rules]
    if twice := sorted({each for each in ids if ids.count(each) > 1}):
        raise BadShop(f"{path}: the rule ids {', '.join(twice)} are there more than once; every rule needs its own")
    return rules
