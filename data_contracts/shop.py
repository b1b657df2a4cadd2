"""A shop: its zone, currency and calendar, and how each of its source tables becomes a contract's table."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Self, get_args
from zoneinfo import ZoneInfo

import yaml
from pydantic import Field, ValidationError

from data_contracts.contract import contract_names, load_contract
from data_contracts.errors import BadShop, NoWindow
from data_contracts.sources import EventLog, Files, PackageParquet, Part, Source
from data_contracts.tables import Changes, EventTime, KnownAt, Mapped, Reject, Table, Zone, closest

SHOPS = Path(__file__).parent / "shops"
OWN_LOGS = Path(__file__).parent / "own_logs.yaml"
"""The tables that every shop has."""


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
            raise BadShop(f"shop {self.name} has no table {name!r}{closest(name, self.tables)}")
        return self.tables[name]

    @property
    def sells(self) -> bool:
        """Whether it has sales: without them there is a catalogue to search, and nothing to recommend from."""
        return "transactions" in self.tables

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
        raise BadShop(f"found no shop {name!r}{closest(name, known)}; known: {', '.join(known) or 'none'}")
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
        yield f"tables.{table}: found no contract of this name{closest(table, contract_names())}"
        return
    columns = {column.name: column for column in load_contract(table).columns}
    for name in spec.mapping:
        if name not in columns:
            yield f"tables.{table}.mapping.{name}: the contract has no such column{closest(name, columns)}"
    for name in spec.sums:
        if name not in columns:
            yield f"tables.{table}.sums: the contract has no column {name!r}{closest(name, columns)}"
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
        return f"{where}: the key {key!r} is not known{closest(key, _known_keys())}"
    return f"{where or 'shop'}: {error['msg'].removeprefix('Value error, ')}"
