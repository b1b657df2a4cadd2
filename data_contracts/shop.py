"""A shop: its zone, currency and calendar, and how each of its source tables becomes a contract's table."""

import difflib
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from zoneinfo import ZoneInfo, available_timezones

import yaml
from pydantic import AfterValidator, BaseModel, Field, ValidationError, field_validator, model_validator

from data_contracts.contract import contract_names, load_contract
from data_contracts.errors import BadShop, NoWindow
from data_contracts.sources import EventLog, Files, Logs, PackageParquet, Part, Source

SHOPS = Path(__file__).parent / "shops"
OWN_LOGS = Path(__file__).parent / "own_logs.yaml"
"""The tables that every shop has."""
SourceType = Literal["integer", "number", "string", "timestamp", "boolean"]


def _zone_exists(zone: str) -> str:
    if zone not in _zones():
        raise ValueError(f"found the zone {zone!r}{_closest(zone, _zones())}; need an IANA name")
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
    """How far before a window its watermark is read again; a row first seen there is known from the window's start."""
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
        if (self.overlap or self.format) and not self.column:
            raise ValueError("`overlap` and `format` go with `column`")
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
    zone: Zone
    currency: str = Field(pattern=r"^[A-Z]{3}$")
    minor_digits: int = Field(default=2, ge=0, le=4)
    """Decimal digits of the currency's minor unit."""
    calendar: Calendar
    history: History
    tables: dict[str, Table]

    @cached_property
    def tz(self) -> ZoneInfo:
        """The shop's zone."""
        return ZoneInfo(self.zone)

    def table(self, name: str) -> Table:
        """The table `name`; BadShop names the closest one there is."""
        if name not in self.tables:
            raise BadShop(f"shop {self.name} has no table {name!r}{_closest(name, self.tables)}")
        return self.tables[name]

    @cached_property
    def identity_columns(self) -> frozenset[str]:
        """Source columns that hold a customer's id in some table; no table shows them after `raw/`."""
        rules = [rule for table in self.tables.values() for rule in table.mapping.values()]
        return frozenset(rule.identity for rule in rules if rule.identity)

    @property
    def drops(self) -> dict[str, str]:
        """Table -> path or glob of the files that start a run when they arrive."""
        sources = {name: table.source for name, table in self.tables.items()}
        return {name: source.path for name, source in sources.items() if isinstance(source, Files) and source.drop}

    def last_midnight(self, at: datetime) -> datetime:
        """Local midnight at the beginning of the business day of `at`, UTC: up to it, days are over."""
        return self.day_start(self.business_day(at))

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
        """The same shop, reading the files and logs of the same names in `folder` instead."""

        def moved(source: Source) -> Source:
            if isinstance(source, EventLog):
                return EventLog(kind="event_log", log=source.log, url=f"sqlite:///{folder / source.log}.db")
            if isinstance(source, PackageParquet):
                source = Files(kind="files", path=source.path)
            if isinstance(source, Files):
                return source.model_copy(update={"path": str(folder / Path(source.path).name)})
            return source

        return self._with_sources(moved)

    def logging_to(self, *, events: str, impressions: str) -> Self:
        """The same shop, whose own logs are the stores of these URLs."""
        urls = {"events": events, "impressions": impressions}
        return self._with_sources(
            lambda source: (
                source.model_copy(update={"url": source.url or urls[source.log]})
                if isinstance(source, EventLog)
                else source
            )
        )

    def _with_sources(self, change: Callable[[Source], Source]) -> Self:
        tables = {
            name: table.model_copy(update={"source": change(table.source)}) for name, table in self.tables.items()
        }
        return self.model_copy(update={"tables": tables})


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
    own = {table: spec for table, spec in own_tables().items() if table not in shop.tables}
    shop = shop.model_copy(update={"tables": {**shop.tables, **own}})
    wrong = [each for table, spec in shop.tables.items() for each in _off_contract(shop, table, spec)]
    if wrong:
        raise BadShop(f"{path.name}: {'; '.join(wrong)}")
    return shop


@cache
def own_tables() -> dict[str, Table]:
    """The tables of our own logs, `own_logs.yaml`."""
    said = yaml.safe_load(OWN_LOGS.read_text())
    return {name: Table.model_validate(table) for name, table in said.items()}


def _off_contract(shop: Shop, table: str, spec: Table) -> Iterator[str]:
    """What a table's mapping has that its contract has not, and the other way round."""
    if table not in contract_names():
        yield f"tables.{table}: found no contract of this name{_closest(table, contract_names())}"
        return
    columns = {column.name: column for column in load_contract(table).columns}
    for name in spec.mapping:
        if name not in columns:
            yield f"tables.{table}.mapping.{name}: the contract has no such column{_closest(name, columns)}"
    for name in spec.sums:
        if name not in columns:
            yield f"tables.{table}.sums: the contract has no column {name!r}{_closest(name, columns)}"
    for rule in spec.reject:
        if rule.column in shop.identity_columns:
            yield f"tables.{table}.reject.{rule.name} reads the customer's id, which quarantine may not show"
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
    parts = [
        Shop,
        Calendar,
        History,
        Table,
        EventTime,
        KnownAt,
        Mapped,
        Reject,
        Changes,
        *get_args(get_args(Source)[0]),
    ]
    return {name for part in parts for name in part.model_fields}


def _explain(error: Any) -> str:
    where = ".".join(str(each) for each in error["loc"])
    if error["type"] == "extra_forbidden":
        key = str(error["loc"][-1])
        return f"{where}: the key {key!r} is not known{_closest(key, _known_keys())}"
    return f"{where or 'shop'}: {error['msg'].removeprefix('Value error, ')}"
