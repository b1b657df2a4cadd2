"""A look at a shop's sources before anything is extracted: do they open, fit the YAML, and what do rows look like."""

from dataclasses import dataclass
from typing import Any

import ibis
import pyarrow as pa

from data_contracts.shop import Shop
from mercato.errors import MercatoError
from training.adapters import open_source
from training.extract import misfits
from training.moments import timestamp
from training.staging import staging

ROWS = 3
_MASK = "***"


@dataclass(frozen=True, slots=True)
class SourceCheck:
    """What a look at one table's source found."""

    table: str
    kind: str
    problems: list[str]
    sample: list[dict[str, Any]]
    """A few rows, without customers' ids."""
    passing: bool
    """Whether every problem is one that another try may mend."""


def check_source(shop: Shop, table: str) -> SourceCheck:
    """Problems and sample rows of a table's source; a problem is reported, not raised."""
    spec = shop.table(table)
    problems: list[str] = []
    rows = pa.table({})
    passing = True
    try:
        with staging() as (con, folder):
            source = open_source(spec, folder)
            problems += misfits(spec, source)
            rows = source.sample(con, ROWS)
            problems += _undated(shop, table, rows)
    except MercatoError as error:
        problems.append(str(error))
        passing = error.retryable
    else:
        passing = not problems
    return SourceCheck(table, spec.source.kind, problems, [_masked(shop, each) for each in rows.to_pylist()], passing)


def _undated(shop: Shop, table: str, rows: pa.Table) -> list[str]:
    """The time columns of which no sample row could be read."""
    event, known = shop.table(table).event_time, shop.table(table).known_at
    rules = [("event_time", "" if event.lookup else event.timestamp, event.zone, event.format)]
    rules += [("known_at", known.column, known.zone, known.format)]
    found = []
    for name, column, zone, form in rules:
        if not column or column not in rows.column_names or not rows.num_rows:
            continue
        read = ibis.memtable(rows.select([column])).mutate(
            at=lambda t, c=column, z=zone, f=form: timestamp(t, c, zone=z, form=f)
        )
        at = read.to_pyarrow()
        if at["at"].null_count == rows.num_rows:
            value = at[column][0].as_py()
            found.append(
                f"{name}: no time could be read from {column!r} in {rows.num_rows} rows, e.g. {value!r} by the format "
                f"{form or 'ISO 8601'!r}; correct `{name}.format`"
            )
    return found


def _masked(shop: Shop, row: dict[str, Any]) -> dict[str, Any]:
    return {name: _MASK if name in shop.identity_columns else value for name, value in row.items()}
