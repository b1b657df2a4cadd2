"""Messages out to annotators: chosen from the clean tables, or the errors that a model's last report named."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import pyarrow as pa

from data_contracts.intents import LabelSet
from feature_repo.language import language_of
from mercato.paths import Lake, sha256_file
from training.annotation.batches import LOCK, Asked, Batch, Kind, batches, find, imported, tasks_of, write
from training.annotation.choose import Chosen, choose
from training.annotation.config import ExportConfig, IntentModel
from training.annotation.label_studio import Task
from training.annotation.pool import message_id, pool, redactor
from training.row_files import read_rows

ERRORS: Final = pa.schema(
    [
        ("text", pa.string()),
        ("language", pa.string()),
        ("predicted", pa.string()),
        ("confidence", pa.float64()),
        ("model", pa.string()),
        ("origin", pa.string()),
        ("label", pa.string()),
        ("reason", pa.string()),
    ]
)
"""Columns of an error report's file (.csv, .jsonl or .parquet); only `text` is needed, the last three are not shown."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export did."""

    batch: Batch | None
    note: str
    """Why there is no batch, or that it was there before."""


def export(
    lake: Lake, labels: LabelSet, until: datetime, config: ExportConfig, models: Sequence[IntentModel] = ()
) -> Exported:
    """A batch of messages known before `until`; asked for again, the same batch, untouched.

    Messages of earlier batches, and near-duplicates of them, are not asked about again. Models: the live one first.
    """
    asked = Asked("messages", until, labels, {"config": config.model_dump(mode="json")})
    with lake.alone(LOCK):
        if there := find(lake, asked.batch):
            return Exported(there, "exported before")
        earlier = batches(lake)
        ours = [each.batch for each in earlier if each.kind == "messages" and each.major == labels.major]
        waiting = [each for each in ours if imported(lake, each) is None]
        if len(waiting) >= config.open_batches:
            return Exported(None, f"{len(waiting)} batches wait for their annotations: {', '.join(waiting)}")
        found = pool(lake, labels.languages, until, timedelta(days=config.lookback_days))
        known = [task.text for each in earlier for task in tasks_of(lake, each.batch)]
        chosen = choose(found, known, models, config, until)
        if not chosen:
            return Exported(None, f"found {len(found)} messages in {config.lookback_days} days, none of them new")
        return Exported(write(lake, asked, [_task(each, asked.batch) for each in chosen]), "")


def export_errors(lake: Lake, labels: LabelSet, until: datetime, file: Path) -> Exported:
    """A batch of the texts that a model got wrong, as its report lists them; labelled ones are asked about again.

    A text of an earlier batch was written when that batch says. The same file, asked about again, is the same batch.

    Raises:
        SchemaMismatch: the file cannot be read, or has other columns than `ERRORS`.
    """
    rows = read_rows(file, ERRORS, frozenset(ERRORS.names) - {"text"}).to_pylist()
    said = {"file": file.name, "sha256": sha256_file(file)}
    asked = Asked("errors", until, labels, said)
    rows = [row for row in rows if row["text"] and row["text"].strip()]
    texts = redactor(lake, until).redact([" ".join(row["text"].split()) for row in rows])
    with lake.alone(LOCK):
        before = batches(lake)
        same = [each for each in before if each.said == said and each.label_set == labels.version]
        if same:
            return Exported(same[0], "exported before")
        earlier = [task for each in before for task in tasks_of(lake, each.batch)]
        written = {task.message_id: task.event_time for task in earlier if task.event_time}
        tasks: dict[str, Task] = {}
        for row, text in zip(rows, texts, strict=True):
            tasks.setdefault(
                message_id(text),
                Task(
                    message_id=message_id(text),
                    batch=asked.batch,
                    text=text,
                    language=row["language"] if row["language"] in labels.languages else language_of(text),
                    channel="errors",
                    event_time=written.get(message_id(text), ""),
                    chosen_by="error",
                    model=row["model"] or "",
                    predicted=row["predicted"] if row["predicted"] in labels.names else "",
                    confidence=row["confidence"],
                ),
            )
        return _once(lake, asked, list(tasks.values()))


def adjudicate(lake: Lake, labels: LabelSet, until: datetime, parent: str, tasks: Sequence[Task]) -> Exported:
    """A batch for an adjudicator, of what annotators of `parent` could not agree on and no adjudicator has yet."""
    earlier = [each for each in batches(lake) if each.parent == parent]
    asked_before = {task.message_id for each in earlier for task in tasks_of(lake, each.batch)}
    kind: Kind = "adjudication"
    new = sorted(each.message_id for each in tasks if each.message_id not in asked_before)
    asked = Asked(kind, until, labels, {"messages": new}, parent)
    kept = [each.model_copy(update={"batch": asked.batch}) for each in tasks if each.message_id in new]
    return _once(lake, asked, kept)


def _once(lake: Lake, asked: Asked, tasks: Sequence[Task]) -> Exported:
    if there := find(lake, asked.batch):
        return Exported(there, "exported before")
    if not tasks:
        return Exported(None, "nothing to ask about")
    return Exported(write(lake, asked, tasks), "")


def _task(chosen: Chosen, batch: str) -> Task:
    message = chosen.message
    model, (predicted, confidence) = chosen.guesses[0] if chosen.guesses else ("", ("", None))
    return Task(
        message_id=message.message_id,
        batch=batch,
        text=message.text,
        language=message.language,
        channel=message.channel,
        event_time=message.event_time.isoformat(),
        chosen_by=chosen.reason,
        alike=chosen.alike,
        model=model,
        predicted=predicted,
        confidence=confidence,
    )
