"""Batches of tasks: written whole, once, and never forgotten, so that no message is asked about twice."""

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from data_contracts.intents import LabelSet
from mercato.paths import Lake, canonical_json
from training.annotation.label_studio import Task, labelling_config, tasks_json

Kind = Literal["messages", "errors", "adjudication"]
LAYER: Final = "annotation"
LOCK: Final = "annotation"
"""What export and import take, so that one of them works at a time."""


BATCH: Final = "b-[0-9a-f]{12}"
"""What the id of a batch looks like."""


class Batch(BaseModel):
    """`manifest.json` of a batch; it comes into place last and vouches for the other files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch: str
    """`b-` and 12 hex digits: what was asked for, not what came out."""
    kind: Kind
    until: datetime
    """As of when it was chosen."""
    label_set: str
    parent: str = ""
    """Batch that an adjudicator decides about."""
    said: dict[str, Any]
    """The settings, and the digest of the file that it came from."""
    tasks: int
    chosen: dict[str, int]
    """Reason -> tasks."""
    sha256: str
    """Of tasks.json."""

    @property
    def major(self) -> int:
        """Of its label set: labels of the same major version mean the same."""
        return int(self.label_set.partition(".")[0])


@dataclass(frozen=True, slots=True)
class Asked:
    """What a batch was made of."""

    kind: Kind
    until: datetime
    labels: LabelSet
    said: Mapping[str, Any]
    parent: str = ""

    @property
    def batch(self) -> str:
        """Its id."""
        stated = {
            "kind": self.kind,
            "until": self.until.isoformat(),
            "label_set": self.labels.version,
            "parent": self.parent,
            **self.said,
        }
        return f"b-{hashlib.sha256(canonical_json(stated)).hexdigest()[:12]}"


def folder(lake: Lake, batch: str) -> str:
    """Where tasks.json, tasks.csv, labelling_config.xml and manifest.json of a batch lie."""
    return lake.path(LAYER, "batches", batch)


def find(lake: Lake, batch: str) -> Batch | None:
    """The batch, or None when it was never exported."""
    path = f"{folder(lake, batch)}/manifest.json"
    return Batch.model_validate_json(lake.read_bytes(path)) if lake.exists(path) else None


def batches(lake: Lake) -> list[Batch]:
    """Every batch, oldest first, an adjudicator's after the one that it decides about."""
    paths = lake.fs.glob(lake.path(LAYER, "batches", "b-*", "manifest.json"))
    found = [Batch.model_validate_json(lake.read_bytes(str(path))) for path in paths]
    return sorted(found, key=lambda each: (each.until, each.parent != "", each.batch))


def tasks_of(lake: Lake, batch: str) -> list[Task]:
    """The tasks of a batch, without what models said of them."""
    return [Task.model_validate(each["data"]) for each in lake.read_json(f"{folder(lake, batch)}/tasks.json")]


def write(lake: Lake, asked: Asked, tasks: Sequence[Task]) -> Batch:
    """Put a batch in place; the same tasks leave the same bytes."""
    content = tasks_json(tasks)
    made = Batch(
        batch=asked.batch,
        kind=asked.kind,
        until=asked.until,
        label_set=asked.labels.version,
        parent=asked.parent,
        said=dict(asked.said),
        tasks=len(tasks),
        chosen=dict(sorted(Counter(each.chosen_by for each in tasks).items())),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    home = folder(lake, made.batch)
    lake.write_bytes(f"{home}/tasks.json", content)
    lake.write_bytes(f"{home}/tasks.csv", _csv(tasks))
    config = labelling_config(asked.labels, adjudicating=asked.kind == "adjudication")
    lake.write_bytes(f"{home}/labelling_config.xml", config.encode())
    lake.write_bytes(f"{home}/manifest.json", (made.model_dump_json(indent=1) + "\n").encode())
    return made


def labels_path(lake: Lake, batch: str) -> str:
    """Where the labels of an imported batch lie."""
    return lake.path(LAYER, "labels", f"{batch}.json")


def imported(lake: Lake, batch: str) -> Any:
    """What was imported of a batch, or None."""
    path = labels_path(lake, batch)
    return json.loads(lake.read_bytes(path)) if lake.exists(path) else None


def _csv(tasks: Sequence[Task]) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(Task.model_fields), lineterminator="\n")
    writer.writeheader()
    writer.writerows(each.model_dump() for each in tasks)
    return out.getvalue().encode()
