"""Label Studio's formats: tasks and labelling config out, annotations in.

Source: labelstud.io/guide/tasks (import), /guide/export (JSON), /tags/choices; the plain JSON export, not JSON-MIN.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from xml.sax.saxutils import quoteattr

from pydantic import BaseModel, ConfigDict, ValidationError

from data_contracts.intents import LabelSet
from training.errors import TrainingError

INTENT: Final = "intent"
LANGUAGE: Final = "language"
"""Controls of the labelling config, by name."""
_TEXT: Final = "text"


class BadExport(TrainingError):
    """A file is no export of ours that Label Studio wrote; nothing of it was taken."""


class Task(BaseModel):
    """A task as it was exported; `data` of Label Studio holds these fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    message_id: str
    batch: str
    text: str
    language: str
    channel: str
    event_time: str
    """ISO 8601, UTC; empty where nobody knows."""
    chosen_by: str
    alike: int = 0
    votes: str = ""
    """What annotators said before, for an adjudicator."""
    model: str = ""
    predicted: str = ""
    confidence: float | None = None

    def as_label_studio(self) -> dict[str, Any]:
        """The task as Label Studio imports it, with the live model's label as a prediction."""
        data = self.model_dump(exclude={"model", "predicted", "confidence"})
        if not self.predicted:
            return {"data": data}
        choice = {"from_name": INTENT, "to_name": _TEXT, "type": "choices", "value": {"choices": [self.predicted]}}
        return {
            "data": data,
            "predictions": [{"model_version": self.model, "score": self.confidence, "result": [choice]}],
        }


@dataclass(frozen=True, slots=True)
class Vote:
    """What one annotator says of a message."""

    message_id: str
    batch: str
    annotator: str
    label: str
    language: str
    """Empty where the annotator left it."""
    at: datetime


@dataclass(frozen=True, slots=True)
class Votes:
    """What a file holds."""

    votes: tuple[Vote, ...]
    """One of each annotator and message, the newest."""
    tasks: int
    skipped: int
    """Annotations that were cancelled."""
    unclear: int
    """Annotations without a label, or with more than one."""


def tasks_json(tasks: Sequence[Task]) -> bytes:
    """The file that Label Studio imports."""
    said = [each.as_label_studio() for each in tasks]
    return (json.dumps(said, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()


def labelling_config(labels: LabelSet, *, adjudicating: bool) -> str:
    """The labelling config: one label of the set, and the language where the guess is wrong."""
    votes = ['  <Header value="$votes"/>'] if adjudicating else []
    choices = [
        f"    <Choice value={quoteattr(each.name)} hotkey={quoteattr(each.hotkey)} "
        f"hint={quoteattr(f'The shopper {each.wants}. {each.others[0].upper()}{each.others[1:]}.')}/>"
        for each in labels.labels
    ]
    languages = [
        f"    <Choice value={quoteattr(code)} hint={quoteattr(name)}/>" for code, name in labels.languages.items()
    ]
    return "\n".join(
        [
            "<View>",
            f"  <!-- label set {labels.version} -->",
            *votes,
            '  <Header value="What does the shopper want?"/>',
            f'  <Text name="{_TEXT}" value="$text"/>',
            f'  <Choices name="{INTENT}" toName="{_TEXT}" choice="single-radio" required="true">',
            *choices,
            "  </Choices>",
            '  <Header size="6" value="Language, where the one of the task is wrong"/>',
            f'  <Choices name="{LANGUAGE}" toName="{_TEXT}" choice="single-radio" showInline="true">',
            *languages,
            "  </Choices>",
            "</View>",
            "",
        ]
    )


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Value(_Part):
    choices: list[str] = []


class _Result(_Part):
    from_name: str = ""
    type: str = ""
    value: _Value = _Value()


class _Person(_Part):
    id: int


class _Annotation(_Part):
    completed_by: int | _Person
    result: list[_Result]
    was_cancelled: bool = False
    created_at: datetime
    updated_at: datetime | None = None

    @property
    def annotator(self) -> str:
        """Number of the person in Label Studio; no name and no address is kept."""
        return str(self.completed_by if isinstance(self.completed_by, int) else self.completed_by.id)

    @property
    def at(self) -> datetime:
        """When it was last changed, UTC."""
        at = self.updated_at or self.created_at
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)

    def chosen(self, control: str) -> list[str]:
        """Choices of a control, over all of its results."""
        found = [each for each in self.result if each.from_name == control and each.type == "choices"]
        return [choice for each in found for choice in each.value.choices]


class _Data(_Part):
    message_id: str
    batch: str


class _Exported(_Part):
    data: _Data
    annotations: list[_Annotation]


def read_votes(content: bytes, name: str, labels: LabelSet) -> Votes:
    """What annotators said in a JSON export.

    Raises:
        BadExport: no JSON, not Label Studio's, no task of ours, or a label or language that the set lacks.
    """
    try:
        said = json.loads(content)
    except ValueError as error:
        raise BadExport(f"{name} is no JSON ({error}); export the project from Label Studio as JSON again") from error
    if not isinstance(said, list):
        raise BadExport(f"{name} holds a JSON {type(said).__name__}, need Label Studio's list of tasks: export as JSON")
    exported = [_task(each, at, name) for at, each in enumerate(said)]
    newest: dict[tuple[str, str, str], Vote] = {}
    skipped = unclear = 0
    for task in exported:
        for each in task.annotations:
            chosen, languages = each.chosen(INTENT), each.chosen(LANGUAGE)
            if each.was_cancelled:
                skipped += 1
                continue
            _known([*chosen], labels.names, name, "labels")
            _known([*languages], list(labels.languages), name, "languages")
            if len(chosen) != 1 or len(languages) > 1:
                unclear += 1
                continue
            data = task.data
            vote = Vote(data.message_id, data.batch, each.annotator, chosen[0], "".join(languages), each.at)
            key = (vote.batch, vote.message_id, vote.annotator)
            if key not in newest or (newest[key].at, newest[key].label) < (vote.at, vote.label):
                newest[key] = vote
    return Votes(tuple(newest[key] for key in sorted(newest)), len(exported), skipped, unclear)


def _task(value: Any, at: int, name: str) -> _Exported:
    try:
        return _Exported.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadExport(
            f"{name}: task {at + 1}, {where or 'the task'}: {first['msg']}; need Label Studio's JSON export (not "
            "JSON-MIN) of tasks that mercato exported"
        ) from error


def _known(given: Sequence[str], known: Sequence[str], name: str, what: str) -> None:
    unknown = Counter(each for each in given if each not in known)
    if unknown:
        raise BadExport(
            f"{name} has the {what} {', '.join(sorted(unknown))}, which the label set lacks; need one of "
            f"{', '.join(known)}: set the project's labelling config to the batch's labelling_config.xml"
        )
