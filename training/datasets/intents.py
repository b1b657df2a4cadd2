"""Intent examples: what annotators decided, or a file of labelled messages; each with its language and its group."""

from datetime import datetime
from typing import Any

import pyarrow as pa

from data_contracts.lake import arrow_schema
from feature_repo.language import language_of
from training.annotation.importing import decided, digests
from training.annotation.pool import message_id
from training.datasets.builder import Builder, Inputs
from training.datasets.from_file import labelled_rows
from training.errors import NotEnoughData
from training.near_duplicates import groups


def _rows(given: Inputs) -> pa.Table:
    """The rows of the file, or those that annotators made."""
    schema = arrow_schema(INTENT.contract)
    rows = labelled_rows(given, INTENT.contract).to_pylist() if given.file else _annotated(given)
    rows = sorted(rows, key=lambda row: row["text"] or "")
    first = groups([row["text"] or "" for row in rows])
    for row, at in zip(rows, first.tolist(), strict=True):
        row["language"] = row["language"] or language_of(row["text"] or "")
        row["group_id"] = message_id(rows[at]["text"] or "")
    return pa.Table.from_pylist(rows, schema)


def _annotated(given: Inputs) -> list[dict[str, Any]]:
    """What annotators decided before `until`; NotEnoughData before the first import."""
    found = decided(given.lake, given.until)
    if not found:
        raise NotEnoughData(
            "found no imported annotations and no file; import a batch (mercato annotation import), or pass --file "
            "with a .csv, .jsonl or .parquet"
        )
    return [
        {
            "text": each.text,
            "intent": each.intent,
            "label_source": f"annotation {each.batch}",
            "language": each.language,
            "label_set_version": each.label_set,
            "annotators": each.annotators,
            "agreement": each.agreement,
            "message_time": datetime.fromisoformat(each.message_time) if each.message_time else None,
            "event_time": datetime.fromisoformat(each.event_time),
            "known_at": datetime.fromisoformat(each.known_at),
        }
        for each in found
    ]


INTENT = Builder(
    name="intent_examples",
    reads=(),
    rows=_rows,
    split="groups",
    shares=(0.7, 0.15, 0.15),
    one_side="group_id",
    text="text",
    strata=("intent", "language"),
    order="message_time",
    digests=lambda given: digests(given.lake, given.until),
)
