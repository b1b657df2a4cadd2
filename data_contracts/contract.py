"""What a table promises, read from its Open Data Contract (ODCS 3.1) YAML; checks are derived, never written twice."""

import difflib
from collections.abc import Iterable
from functools import cache, cached_property
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from data_contracts.errors import BadContract

CONTRACTS = Path(__file__).parent
LogicalType = Literal["string", "integer", "number", "boolean", "timestamp"]
Severity = Literal["error", "warning"]


class Part(BaseModel):
    """A piece of a contract."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RowArguments(Part):
    """What a value must satisfy; several hold together. Null is judged by `required` alone."""

    minimum: int | float | None = None
    maximum: int | float | None = None
    pattern: str = ""
    """Regular expression over the whole text."""
    validValues: tuple[str, ...] = ()  # noqa: N815 - ODCS spells it so
    notBefore: str = ""  # noqa: N815
    """Column of the same row that may not be later."""


class RowRule(Part):
    """A rule over one column of one row: an error sends the row to quarantine, a warning is counted."""

    name: str
    description: str
    """The reason."""
    dimension: str
    severity: Severity
    type: Literal["library"] = "library"
    metric: Literal["invalidValues"]
    arguments: RowArguments
    mustBe: Literal[0] = 0  # noqa: N815


class TableArguments(Part):
    """What a rule over a table counts."""

    perDays: int = 0  # noqa: N815
    """`rowCount` is per so many days of the window; shorter windows are not judged."""
    fromRows: int = 0  # noqa: N815
    """Runs with fewer raw rows are not judged: one bad row of three is no trend."""
    column: str = ""
    """What `nullValues` and `smallestClass` look at, and what `referenceHeld` compares."""
    to: str = ""
    """`table.column` that `column` refers to."""


_OF_A_COLUMN = {"nullValues", "smallestClass", "referenceHeld"}


class TableRule(Part):
    """A rule over all rows of a run: an error stops it and nothing is written."""

    name: str
    description: str
    """The reason."""
    dimension: str
    severity: Severity
    type: Literal["library", "custom"]
    engine: Literal["", "mercato"] = ""
    metric: Literal["", "rowCount", "duplicateValues", "nullValues"] = ""
    implementation: Literal["", "referenceHeld", "quarantined", "freshness", "volume", "nullSpike", "smallestClass"] = (
        ""
    )
    """`freshness`, `volume` and `nullSpike` compare with the recent past: they are judged on scheduled windows only."""
    arguments: TableArguments = TableArguments()
    unit: Literal["rows", "percent", "hours"]
    mustBeGreaterOrEqualTo: float | None = None  # noqa: N815
    mustBeLessOrEqualTo: float | None = None  # noqa: N815

    @property
    def measures(self) -> str:
        """The metric or the implementation, whichever it has."""
        return self.metric or self.implementation

    @model_validator(mode="after")
    def _has_bound(self) -> Self:
        if self.mustBeGreaterOrEqualTo is None and self.mustBeLessOrEqualTo is None:
            raise ValueError(f"rule {self.name} has no bound: add mustBeGreaterOrEqualTo or mustBeLessOrEqualTo")
        if bool(self.metric) == bool(self.implementation):
            raise ValueError(f"rule {self.name} needs one of metric (library) and implementation (custom)")
        if self.measures in _OF_A_COLUMN and not self.arguments.column:
            raise ValueError(f"rule {self.name} measures {self.measures}: add arguments.column")
        return self

    def holds(self, value: float) -> bool:
        """Whether a measured value is within the bounds."""
        low, high = self.mustBeGreaterOrEqualTo, self.mustBeLessOrEqualTo
        return (low is None or value >= low) and (high is None or value <= high)


class Column(Part):
    """One column."""

    name: str
    logicalType: LogicalType  # noqa: N815
    description: str
    required: bool = False
    primaryKey: bool = False  # noqa: N815
    primaryKeyPosition: int = -1  # noqa: N815
    classification: Literal["public", "internal", "confidential"] = "internal"
    quality: tuple[RowRule, ...] = ()


class TableSchema(Part):
    """The one table of a contract."""

    name: str
    logicalType: Literal["object"]  # noqa: N815
    physicalType: Literal["table"]  # noqa: N815
    description: str
    properties: tuple[Column, ...]
    quality: tuple[TableRule, ...] = ()


class Contract(Part):
    """`data_contracts/<table>.odcs.yaml`."""

    apiVersion: Literal["v3.1.0"]  # noqa: N815
    kind: Literal["DataContract"]
    id: str
    name: str
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    status: Literal["draft", "active", "deprecated", "retired"]
    domain: str
    description: dict[Literal["purpose", "limitations", "usage"], str]
    team: dict[str, Any]
    """ODCS team; its first member with the role `owner` owns the table."""
    tables: tuple[TableSchema, ...] = Field(alias="schema", min_length=1, max_length=1)

    @model_validator(mode="after")
    def _stands(self) -> Self:
        names = [column.name for column in self.columns]
        missing = {"event_time", "known_at"} - set(names)
        if missing:
            raise ValueError(f"every table carries event_time and known_at, {', '.join(sorted(missing))} is missing")
        if len(set(names)) != len(names):
            raise ValueError("a column is there twice")
        if not self.key:
            raise ValueError("no column is marked primaryKey")
        for column in self.columns:
            for rule in column.quality:
                if rule.arguments.notBefore and rule.arguments.notBefore not in names:
                    raise ValueError(f"rule {rule.name} names the unknown column {rule.arguments.notBefore!r}")
        for each in self.table_rules:
            if each.arguments.column and each.arguments.column not in names:
                raise ValueError(f"rule {each.name} names the unknown column {each.arguments.column!r}")
        _ = self.owner
        return self

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns in order."""
        return self.tables[0].properties

    @property
    def table_rules(self) -> tuple[TableRule, ...]:
        """The rules over the whole table."""
        return self.tables[0].quality

    @cached_property
    def key(self) -> tuple[str, ...]:
        """The primary key's columns by position."""
        parts = [column for column in self.columns if column.primaryKey]
        return tuple(column.name for column in sorted(parts, key=lambda each: each.primaryKeyPosition))

    @cached_property
    def owner(self) -> str:
        """Who answers for the table."""
        for member in self.team.get("members", []):
            if member.get("role") == "owner":
                return str(member["username"])
        raise ValueError("team has no member with the role `owner`")

    @property
    def references(self) -> list[str]:
        """The tables that must be clean before this one, because its rules point to them."""
        return sorted({rule.arguments.to.split(".")[0] for rule in self.table_rules if rule.arguments.to})

    @property
    def label(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"

    def column(self, name: str) -> Column:
        """The column `name`; BadContract names the closest one."""
        found = {column.name: column for column in self.columns}
        if name not in found:
            near = difflib.get_close_matches(name, found, n=1)
            hint = f", did you mean {near[0]!r}?" if near else ""
            raise BadContract(f"contract {self.label} has no column {name!r}{hint}")
        return found[name]


def contract_names() -> list[str]:
    """The tables that have a contract, sorted."""
    return sorted(path.name.removesuffix(".odcs.yaml") for path in CONTRACTS.glob("*.odcs.yaml"))


@cache
def load_contract(table: str, folder: Path = CONTRACTS) -> Contract:
    """The contract of `table`; BadContract says what is wrong with its YAML."""
    path = folder / f"{table}.odcs.yaml"
    if not path.exists():
        raise BadContract(f"found no contract {path.name}; known: {', '.join(contract_names())}")
    return parse_contract(path.read_text(), path.name)


def parse_contract(text: str, name: str) -> Contract:
    """The contract that a YAML text states; BadContract says what is wrong with `name`."""
    try:
        return Contract.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise BadContract(f"{name} is not YAML: {error}") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise BadContract(f"{name}: {wrong}") from error


def cleaning_order(tables: Iterable[str]) -> list[str]:
    """The tables in an order in which each comes after those that its references point to."""
    wanted = sorted(tables)
    needs = {table: load_contract(table).references for table in wanted}
    return list(TopologicalSorter(needs).static_order())
