"""A shop: its zone, currency and calendar, and how each of its source tables becomes a contract's table."""

import difflib
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, get_args
from zoneinfo import ZoneInfo, available_timezones

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from data_contracts.contract import contract_names, load_contract
from data_contracts.errors import BadShop, NoWindow
from data_contracts.sources import Files, Part, Source

SHOPS = Path(__file__).parent / "shops"
SourceType = Literal["integer", "number", "string", "timestamp", "boolean"]


class EventTime(Part):
    """How a source row says when it happened: one of `timestamp`, `week`, `constant`."""

    timestamp: str = ""
    """Source column that holds a timestamp."""
    zone: str = "UTC"
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
    """When a row reaches us: its event time plus `delay`."""

    delay: timedelta
    """ISO 8601 duration, e.g. PT15M."""
    reason: str
    """Where the delay comes from."""

    @field_validator("delay")
    @classmethod
    def _not_before(cls, delay: timedelta) -> timedelta:
        if delay < timedelta(0):
            raise ValueError(f"found the delay {delay}; nothing is known before it happens, need 0 or more")
        return delay


class Mapped(Part):
    """How one contract column is made: one of `column`, `identity`, `money`, `constant`, `timestamp`, `week`."""

    column: str = ""
    """Renamed, and cast to the contract's type."""
    identity: str = ""
    """Shop's customer id, replaced by the permanent `customer_key`."""
    money: str = ""
    """Amount in major units, scaled to whole minor units."""
    constant: str = ""
    """The same text in every row."""
    timestamp: str = ""
    """Timestamp in `zone` (text: read by `format`), brought to UTC."""
    zone: str = "UTC"
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
        return self

    @property
    def reads(self) -> str:
        """The source column behind it, empty for a constant."""
        return self.column or self.identity or self.money or self.timestamp or self.week


class Table(Part):
    """One source table and the contract it fulfils (the table's name)."""

    source: Source
    columns: dict[str, SourceType]
    """Every column of the source and its type; another one is an error, so that nothing changes unseen."""
    event_time: EventTime
    known_at: KnownAt
    mapping: dict[str, Mapped]
    """Contract column -> how it is made; `event_time` and `known_at` come by themselves."""

    @model_validator(mode="after")
    def _reads_known_columns(self) -> Self:
        known = [*self.columns, "event_time"]
        reads = {f"mapping.{name}": rule.reads for name, rule in self.mapping.items() if rule.reads}
        if not self.event_time.lookup:
            reads["event_time"] = self.event_time.timestamp or self.event_time.week
        else:
            reads["event_time.by"] = self.event_time.by
        for where, column in reads.items():
            if column and column not in known:
                raise ValueError(f"{where} reads the column {column!r}, which `columns` lacks{_closest(column, known)}")
        return self


class Calendar(Part):
    """The shop's own weeks."""

    week_one: date
    """Local date on which week 1 begins."""


class History(Part):
    """The business days that the source covers, half-open."""

    since: date
    until: date


class Shop(Part):
    """`data_contracts/shops/<name>.yaml`."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    zone: str
    currency: str = Field(pattern=r"^[A-Z]{3}$")
    minor_digits: int = Field(default=2, ge=0, le=4)
    """Decimal digits of the currency's minor unit."""
    calendar: Calendar
    history: History
    tables: dict[str, Table]

    @field_validator("zone")
    @classmethod
    def _zone_exists(cls, zone: str) -> str:
        if zone not in available_timezones():
            raise ValueError(f"found the zone {zone!r}{_closest(zone, available_timezones())}; need an IANA name")
        return zone

    @cached_property
    def tz(self) -> ZoneInfo:
        """The shop's zone."""
        return ZoneInfo(self.zone)

    def table(self, name: str) -> Table:
        """The table `name`; BadShop names the closest one there is."""
        if name not in self.tables:
            raise BadShop(f"shop {self.name} has no table {name!r}{_closest(name, self.tables)}")
        return self.tables[name]

    def business_day(self, instant: datetime) -> date:
        """The local date of `instant`."""
        if instant.tzinfo is None:
            raise NoWindow(f"found the naive time {instant}, need one with a zone")
        return instant.astimezone(self.tz).date()

    def day_start(self, day: date) -> datetime:
        """Local midnight at the beginning of `day`, UTC."""
        return datetime.combine(day, time(), self.tz).astimezone(UTC)

    def day_bounds(self, day: date) -> tuple[datetime, datetime]:
        """[since, until) of a business day, UTC: 23, 24 or 25 hours."""
        return self.day_start(day), self.day_start(day + timedelta(days=1))

    def whole_days(self, since: datetime, until: datetime) -> list[date]:
        """The business days of [since, until); NoWindow unless both are local midnights in order."""
        first, last = self.business_day(since), self.business_day(until)
        if since >= until or self.day_start(first) != since or self.day_start(last) != until:
            after = self.day_start(max(last, first + timedelta(days=1)))
            raise NoWindow(
                f"found the window [{since}, {until}); partitions are whole business days in {self.zone}, need two "
                f"local midnights in order, e.g. [{self.day_start(first)}, {after})"
            )
        return list(_dates(first, last))

    def week_start(self, week: int) -> datetime:
        """First instant of the shop's week number `week`, UTC."""
        return self.day_start(self.calendar.week_one + timedelta(weeks=week - 1))

    def window(self) -> tuple[datetime, datetime]:
        """[since, until) of the whole history, UTC."""
        return self.day_start(self.history.since), self.day_start(self.history.until)

    def reading_from(self, folder: Path) -> Self:
        """The same shop, reading the files of the same names in `folder` instead."""
        moved = {
            name: table.model_copy(
                update={"source": Files(kind="files", path=str(folder / Path(table.source.path).name))}
            )
            for name, table in self.tables.items()
        }
        return self.model_copy(update={"tables": moved})


def load_shop(name: str, folder: Path = SHOPS) -> Shop:
    """The shop `<folder>/<name>.yaml`; BadShop says which key is wrong and which one is close to it."""
    path = folder / f"{name}.yaml"
    if not path.exists():
        known = sorted(each.stem for each in folder.glob("*.yaml"))
        raise BadShop(f"found no shop {name!r}{_closest(name, known)}; known: {', '.join(known) or 'none'}")
    try:
        shop = Shop.model_validate(yaml.safe_load(path.read_text()))
    except yaml.YAMLError as error:
        raise BadShop(f"{path.name} is not YAML: {error}") from error
    except ValidationError as error:
        raise BadShop(f"{path.name}: " + "; ".join(_explain(each) for each in error.errors())) from error
    wrong = [each for table, spec in shop.tables.items() for each in _off_contract(table, spec)]
    if wrong:
        raise BadShop(f"{path.name}: {'; '.join(wrong)}")
    return shop


def _off_contract(table: str, spec: Table) -> Iterator[str]:
    """What a table's mapping has that its contract has not, and the other way round."""
    if table not in contract_names():
        yield f"tables.{table}: found no contract of this name{_closest(table, contract_names())}"
        return
    columns = {column.name: column for column in load_contract(table).columns}
    for name in spec.mapping:
        if name not in columns:
            yield f"tables.{table}.mapping.{name}: the contract has no such column{_closest(name, columns)}"
    for name, column in columns.items():
        if column.required and name not in spec.mapping and name not in {"event_time", "known_at"}:
            yield f"tables.{table}.mapping lacks {name!r}, which the contract requires"


def _dates(first: date, last: date) -> Iterator[date]:
    while first < last:
        yield first
        first += timedelta(days=1)


def _exactly_one(part: BaseModel, names: tuple[str, ...]) -> None:
    given = [name for name in names if getattr(part, name)]
    if len(given) != 1:
        raise ValueError(f"found {' and '.join(given) or 'none'} of {', '.join(names)}; need exactly one")


def _closest(word: str, known: Any) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f", did you mean {near[0]!r}?" if near else ""


def _known_keys() -> set[str]:
    parts = [Shop, Calendar, History, Table, EventTime, KnownAt, Mapped, *get_args(get_args(Source)[0])]
    return {name for part in parts for name in part.model_fields}


def _explain(error: Any) -> str:
    where = ".".join(str(each) for each in error["loc"])
    if error["type"] == "extra_forbidden":
        key = str(error["loc"][-1])
        return f"{where}: the key {key!r} is not known{_closest(key, _known_keys())}"
    return f"{where or 'shop'}: {error['msg'].removeprefix('Value error, ')}"
