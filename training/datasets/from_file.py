"""Datasets that people make: labelled messages and reviews, read from a file of their contract's columns."""

from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc

from data_contracts.contract import Contract
from data_contracts.lake import arrow_schema
from training.datasets.builder import Builder, Inputs
from training.errors import BadConfig
from training.row_files import read_rows

_TICK = timedelta(microseconds=1)


def labelled_rows(given: Inputs, contract: Contract) -> pa.Table:
    """The rows of `given.file`; one without times counts as made in the last instant before `until`.

    Raises:
        BadConfig: no file was given.
    """
    if given.file is None:
        raise BadConfig(
            f"{contract.name} comes from a file and none was given: pass --file with a .csv, .jsonl or .parquet"
        )
    optional = frozenset(each.name for each in contract.columns if not each.required) | {"event_time", "known_at"}
    found = read_rows(given.file, arrow_schema(contract), optional)
    last = pa.scalar(given.until - _TICK, pa.timestamp("us", "UTC"))
    for column in ("event_time", "known_at"):
        filled = pc.fill_null(found[column], last)
        found = found.set_column(found.schema.get_field_index(column), column, filled)
    return found


def _reviews(given: Inputs) -> pa.Table:
    return labelled_rows(given, CUSTOMER_FEEDBACK.contract)


CUSTOMER_FEEDBACK: Builder = Builder(
    name="customer_feedback",
    reads=(),
    rows=_reviews,
    split="text",
    shares=(0.7, 0.15, 0.15),
    text="text",
)
