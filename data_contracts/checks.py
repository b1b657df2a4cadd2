"""Checks derived from a contract: row rules as one Ibis pass, and a pandera schema for frames."""

from dataclasses import dataclass
from typing import Any

import ibis

from data_contracts.contract import Column, Contract, RowArguments, TableRule

BROKEN, WARNED = "broken_rules", "warned_rules"
UNREADABLE = "_unreadable"
"""Ends the name of the rule that a source's value can be converted; starts with the contract's column."""
_PANDAS = {
    "string": "str",
    "integer": "int64",
    "number": "float64",
    "boolean": "bool",
    "timestamp": "datetime64[us, UTC]",
}


def mark_rows(rows: Any, contract: Contract, source_rules: dict[str, Any]) -> Any:
    """`rows` plus two text columns: names of the broken rules that quarantine a row, and of those that only warn.

    Args:
        rows: Ibis table with the contract's columns.
        contract: whose rules.
        source_rules: name -> Ibis boolean, true where the row breaks a rule of its source; a value that could not be
            converted breaks `<column>_unreadable`, and is then not missing too.

    Names are joined by commas; empty means that none is broken.
    """
    errors: list[tuple[str, Any]] = list(source_rules.items())
    warnings: list[tuple[str, Any]] = []
    for column in contract.columns:
        value = rows[column.name]
        bad = source_rules.get(f"{column.name}{UNREADABLE}")
        if column.required:
            errors.append((f"{column.name}_missing", value.isnull() if bad is None else value.isnull() & ~bad))
        for rule in column.quality:
            broken = ~_holds(rows, value, rule.arguments)
            (errors if rule.severity == "error" else warnings).append((rule.name, broken.fill_null(False)))
    return rows.mutate(**{BROKEN: _names(errors), WARNED: _names(warnings)})


def _holds(rows: Any, value: Any, arguments: RowArguments) -> Any:
    holds = ibis.literal(True)
    if arguments.minimum is not None:
        holds = holds & (value >= arguments.minimum)
    if arguments.maximum is not None:
        holds = holds & (value <= arguments.maximum)
    if arguments.pattern:
        holds = holds & value.re_search(f"^(?:{arguments.pattern})$")
    if arguments.validValues:
        holds = holds & value.isin(arguments.validValues)
    if arguments.notBefore:
        holds = holds & (value >= rows[arguments.notBefore])
    return holds


def _names(rules: list[tuple[str, Any]]) -> Any:
    """Text of the names whose condition is true; the costly concatenation runs on bad rows only."""
    if not rules:
        return ibis.literal("")
    anything = ibis.or_(*(condition for _, condition in rules))
    text = ibis.literal("")
    for name, condition in rules:
        text = text + condition.ifelse(f"{name},", "")
    return anything.ifelse(text.re_replace(",$", ""), "")


@dataclass(frozen=True, slots=True)
class Measured:
    """What a table rule found."""

    rule: TableRule
    value: float
    holds: bool
    note: str = ""
    """Which column, day or class it is."""

    def __str__(self) -> str:
        bounds = {">=": self.rule.mustBeGreaterOrEqualTo, "<=": self.rule.mustBeLessOrEqualTo}
        need = " and ".join(f"{sign} {bound:g}" for sign, bound in bounds.items() if bound is not None)
        note = f", {self.note}" if self.note else ""
        return f"{self.rule.name}: found {self.value:g} {self.rule.unit}{note}, need {need} ({self.rule.description})"


def frame_schema(contract: Contract) -> Any:
    """The pandera DataFrameSchema of a contract: its columns, types and rules by the same names."""
    import pandera.pandas as pa

    columns = {column.name: _frame_column(pa, column) for column in contract.columns}
    wide = [_not_before(pa, column) for column in contract.columns]
    return pa.DataFrameSchema(
        columns, checks=[check for checks in wide for check in checks], strict=True, name=contract.label
    )


def _frame_column(pa: Any, column: Column) -> Any:
    checks = []
    for rule in column.quality:
        given, how = (
            rule.arguments,
            {"name": rule.name, "error": rule.name, "raise_warning": rule.severity == "warning"},
        )
        if given.minimum is not None:
            checks.append(pa.Check.ge(given.minimum, **how))
        if given.maximum is not None:
            checks.append(pa.Check.le(given.maximum, **how))
        if given.pattern:
            checks.append(pa.Check.str_matches(f"^(?:{given.pattern})$", **how))
        if given.validValues:
            checks.append(pa.Check.isin(list(given.validValues), **how))
    return pa.Column(_PANDAS[column.logicalType], checks, nullable=not column.required, description=column.description)


def _not_before(pa: Any, column: Column) -> list[Any]:
    return [
        pa.Check(
            lambda frame, late=column.name, early=rule.arguments.notBefore: frame[late] >= frame[early],
            name=rule.name,
            raise_warning=rule.severity == "warning",
        )
        for rule in column.quality
        if rule.arguments.notBefore
    ]
