"""One source table of a shop: where it comes from, when its rows happened and were known, and how its columns map."""

import difflib
from datetime import datetime, timedelta
from functools import cache
from typing import Annotated, Any, Literal, Self
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, Field, field_validator, model_validator

from data_contracts.sources import Logs, Part, Source

SourceType = Literal["integer", "number", "string", "timestamp", "boolean"]


def _zone_exists(zone: str) -> str:
    if zone not in _zones():
        raise ValueError(f"found the zone {zone!r}{closest(zone, _zones())}; need an IANA name")
    return zone


@cache
def _zones() -> set[str]:
    return available_timezones()


Zone = Annotated[str, AfterValidator(_zone_exists)]


class EventTime(Part):
    """How a source row says when it happened: one of `timestamp`, `week`, `constant`."""

    timestamp: str = ""
    """Source column that holds a timestamp."""
    zone: Zone = "UTC"
    """Zone in which `timestamp` is written."""
    format: str = ""
    """strptime format where `timestamp` is text."""
    lookup: str = ""
    """Other table of this shop that holds `timestamp`, found through `by`."""
    by: str = ""
    """Column that both tables share."""
    week: str = ""
    """Source column with the number of a shop week; the event is its first local midnight."""
    constant: datetime | None = None
    """The same instant for every row."""
    reason: str = ""
    """Why a constant or a lookup is right."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        _exactly_one(self, ("timestamp", "week", "constant"))
        if bool(self.lookup) != bool(self.by):
            raise ValueError("`lookup` and `by` go together")
        if self.constant is not None and self.constant.tzinfo is None:
            raise ValueError(f"the constant {self.constant} has no zone; write e.g. 2017-01-01T00:00:00-05:00")
        return self


class KnownAt(Part):
    """When a row reaches us: what `column` says, else its event time plus `delay`."""

    column: str = ""
    """Source column with the instant at which the source had the row: a watermark such as updated_at."""
    zone: Zone = "UTC"
    """Zone in which `column` is written."""
    format: str = ""
    """strptime format where `column` is text."""
    overlap: timedelta = timedelta(0)
    """How far before a window rows are looked for again; one first seen there is known from the window's start."""
    delay: timedelta = timedelta(0)
    """ISO 8601 duration, e.g. PT15M."""
    reason: str
    """Where the column or the delay comes from."""

    @field_validator("delay", "overlap")
    @classmethod
    def _not_before(cls, given: timedelta) -> timedelta:
        if given < timedelta(0):
            raise ValueError(f"found {given}; nothing is known before it happens, need 0 or more")
        return given

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.column) == ("delay" in self.model_fields_set):
            raise ValueError("found both or none of `column` and `delay`; need exactly one")
        if self.format and not self.column:
            raise ValueError("`format` goes with `column`")
        return self


class Mapped(Part):
    """How one contract column is made: one of `column`, `identity`, `money`, `constant`, `timestamp`, `week`."""

    column: str = ""
    """Renamed, and cast to the contract's type."""
    identity: str = ""
    """Shop's customer id, replaced by the permanent `customer_key`."""
    money: str = ""
    """Amount in major units, scaled to whole minor units."""
    times: str = ""
    """Column that `money` is multiplied by first: units, where `money` is the price of one."""
    constant: str = ""
    """The same text in every row."""
    timestamp: str = ""
    """Timestamp in `zone` (text: read by `format`), brought to UTC."""
    zone: Zone = "UTC"
    format: str = ""
    week: str = ""
    """Number of a shop week, brought to its first local midnight."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"column": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        _exactly_one(self, ("column", "identity", "money", "constant", "timestamp", "week"))
        if self.times and not self.money:
            raise ValueError("`times` goes with `money`")
        return self

    @property
    def reads(self) -> str:
        """The source column behind it, empty for a constant."""
        return self.column or self.identity or self.money or self.timestamp or self.week


class Reject(Part):
    """Source rows that are none of this table's, such as postage among products: quarantined under `name`."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    column: str
    matches: str = ""
    """Regular expression over the whole text."""
    below: float | None = None
    """Numbers under it."""
    missing: bool = False
    """Rows without a value."""
    reason: str

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        given = [name for name in ("matches", "missing") if getattr(self, name)]
        given += ["below"] if self.below is not None else []
        if len(given) != 1:
            raise ValueError(f"found {' and '.join(given) or 'none'} of matches, below, missing; need exactly one")
        return self


class Changes(Part):
    """A table of versions inside a longer one: a row counts where `columns` differ from those before it."""

    of: str
    """Column that says what the versions are of."""
    columns: tuple[str, ...] = Field(min_length=1)


class Table(Part):
    """One source table and the contract it fulfils (the table's name)."""

    source: Source
    columns: dict[str, SourceType]
    """Every column of the source and its type; another one is an error, so that nothing changes unseen."""
    event_time: EventTime
    known_at: KnownAt
    mapping: dict[str, Mapped]
    """Contract column -> how it is made; `event_time` and `known_at` come by themselves."""
    reject: tuple[Reject, ...] = ()
    """Rules of this source, beside the contract's."""
    sums: tuple[str, ...] = ()
    """Contract columns that add up where rows are otherwise equal, as repeated lines of a bill are."""
    changes: Changes | None = None
    """Only rows that change something, where the source repeats attributes on every line."""

    @model_validator(mode="after")
    def _reads_known_columns(self) -> Self:
        known = [*self.columns, "event_time"]
        reads = {f"mapping.{name}": rule.reads for name, rule in self.mapping.items() if rule.reads}
        reads |= {f"mapping.{name}.times": rule.times for name, rule in self.mapping.items()}
        reads |= {f"reject.{rule.name}": rule.column for rule in self.reject}
        if self.changes:
            reads |= {f"changes.{i}": name for i, name in enumerate((self.changes.of, *self.changes.columns))}
        if not self.event_time.lookup:
            reads["event_time"] = self.event_time.timestamp or self.event_time.week
        else:
            reads["event_time.by"] = self.event_time.by
        reads["known_at"] = self.known_at.column
        reads["source.unreadable"] = self.source.unreadable if isinstance(self.source, Logs) else ""
        for where, column in reads.items():
            if column and column not in known:
                raise ValueError(f"{where} reads the column {column!r}, which `columns` lacks{closest(column, known)}")
        return self


def _exactly_one(part: BaseModel, names: tuple[str, ...]) -> None:
    given = [name for name in names if getattr(part, name)]
    if len(given) != 1:
        raise ValueError(f"found {' and '.join(given) or 'none'} of {', '.join(names)}; need exactly one")


def closest(word: str, known: Any) -> str:
    """The known word that is near, as a question to append; empty when none is."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f", did you mean {near[0]!r}?" if near else ""
