"""Annotations in: judged batch by batch, decided by majority or by an adjudicator, kept as labels of the batch."""

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from data_contracts.intents import LabelSet, load_labels
from mercato.paths import Lake, canonical_json
from training.annotation.agreement import Agreement, agreement, decision, plain
from training.annotation.batches import LOCK, Batch, batches, find, imported, labels_path, tasks_of
from training.annotation.config import ImportConfig
from training.annotation.export import adjudicate
from training.annotation.label_studio import BadExport, Task, Vote, Votes, read_votes
from training.errors import TrainingError

_TICK: Final = timedelta(microseconds=1)
_SHOWN: Final = 3


class AgreementTooLow(TrainingError):
    """Annotators understood the labels differently; nothing of the batch was taken."""


@dataclass(frozen=True, slots=True)
class Label:
    """What a message wants, as decided."""

    message_id: str
    text: str
    intent: str
    language: str
    annotators: int
    agreement: float
    """Share of the annotators who said so; 1 when an adjudicator did."""
    label_set: str
    batch: str
    message_time: str
    """ISO 8601; empty where nobody knows."""
    event_time: str
    """When the last of its annotators labelled it."""
    known_at: str
    adjudicated: bool


@dataclass(frozen=True, slots=True)
class Judged:
    """A batch that can be taken."""

    batch: Batch
    labels: tuple[Label, ...]
    contested: tuple[Task, ...]
    agreement: dict[str, Any]
    """Figures; empty for an adjudicator's batch."""
    digest: str
    """Of the votes."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What a run took, and what it could not."""

    taken: tuple[dict[str, Any], ...]
    """Of each batch that was taken anew: its counts and figures."""
    unchanged: int
    """Batches with the annotations that were taken before."""
    later: int
    """Annotations made at or after the run's end: they wait for the next one."""
    refused: tuple[TrainingError, ...]


def import_files(
    lake: Lake, labels: LabelSet, files: Iterable[Path], until: datetime, config: ImportConfig
) -> Imported:
    """Take what annotators said before `until`; the same files again leave the same bytes.

    Files that hold the same batch add up; a label that they leave as it was stays known since then. A batch that a
    later run took, or that was taken when labels meant something else, stays as it is. A file that is no export, or a
    batch that is refused, leaves nothing behind and is named in `refused`; the others are taken.
    """
    read, refused = _read(files, labels)
    given = sorted((vote for each in read for vote in each.votes), key=lambda each: (each.at, each.label))
    votes = {(vote.batch, vote.message_id, vote.annotator): vote for vote in given}
    known = [vote for vote in votes.values() if vote.at < until]
    by_batch: dict[str, list[Vote]] = defaultdict(list)
    for vote in known:
        by_batch[vote.batch].append(vote)
    taken, unchanged = [], 0
    with lake.alone(LOCK):
        for batch, said in sorted(by_batch.items()):
            before = imported(lake, batch)
            if before and _settled(lake, batch, before, labels, until):
                unchanged += 1
                continue
            try:
                judged = judge(lake, labels, batch, said, until=until, config=config)
            except TrainingError as error:
                refused.append(error)
                continue
            if before and before["digest"] == judged.digest:
                unchanged += 1
                continue
            kept_labels = _known_since(judged.labels, before["labels"] if before else [])
            asked = adjudicate(lake, labels, until, batch, judged.contested)
            counts = {
                "batch": batch,
                "labels": len(kept_labels),
                "contested": len(judged.contested),
                "open": judged.batch.tasks - len(judged.labels) - len(judged.contested),
                "adjudication": asked.batch.batch if asked.batch else None,
                **judged.agreement,
            }
            kept = {
                "digest": judged.digest,
                "until": until.isoformat(),
                "counts": counts,
                "labels": [asdict(each) for each in kept_labels],
            }
            content = json.dumps(kept, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
            lake.write_bytes(labels_path(lake, batch), content.encode())
            taken.append(counts)
    return Imported(tuple(taken), unchanged, len(votes) - len(known), tuple(refused))


def judge(  # noqa: PLR0913 - a batch, then the terms on which it is taken
    lake: Lake, labels: LabelSet, batch: str, said: Sequence[Vote], *, until: datetime, config: ImportConfig
) -> Judged:
    """What the votes of one batch decide.

    Raises:
        BadExport: nobody exported the batch or a message of it, or its labels meant something else.
        AgreementTooLow: kappa is under its bound, or too few messages have two annotators to tell.
    """
    there = find(lake, batch)
    if there is None:
        raise BadExport(f"{batch} was never exported by this shop; import it where it was exported")
    if there.major != labels.major:
        raise BadExport(
            f"{batch} was labelled by label set {there.label_set}, the labels are now {labels.version} and mean "
            "something else; export its messages again"
        )
    tasks = {task.message_id: task for task in tasks_of(lake, batch)}
    strange = sorted({vote.message_id for vote in said} - tasks.keys())
    if strange:
        raise BadExport(
            f"{batch} has no messages {', '.join(strange[:_SHOWN])}; import the project that holds its tasks"
        )
    of: dict[str, dict[str, Vote]] = defaultdict(dict)
    for vote in sorted(said, key=lambda each: (each.message_id, each.annotator)):
        of[vote.message_id][vote.annotator] = vote
    figures: dict[str, Any] = {}
    if there.kind != "adjudication":
        found = agreement({m: {a: vote.label for a, vote in votes.items()} for m, votes in of.items()}, labels.names)
        _enough(there, found, {m: task.text for m, task in tasks.items()}, config)
        figures = plain(found)
    decided, contested = [], []
    for message, votes in sorted(of.items()):
        made = _label(there, tasks[message], list(votes.values()), until, config)
        if made is None:
            counts = Counter(vote.label for vote in votes.values())
            shown = ", ".join(f"{label} {n}" for label, n in sorted(counts.items()))
            contested.append(tasks[message].model_copy(update={"votes": shown, "chosen_by": "adjudication"}))
        else:
            decided.append(made)
    stated = [
        [v.message_id, v.annotator, v.label, v.language, v.at.isoformat()] for m in sorted(of) for v in of[m].values()
    ]
    digest = hashlib.sha256(canonical_json(stated)).hexdigest()
    return Judged(there, tuple(decided), tuple(contested), figures, digest)


def decided(lake: Lake, until: datetime) -> list[Label]:
    """The label of each message that was known before `until`, by message: the newest, an adjudicator's before all.

    Labels of another major version of the label set meant something else, and are left out.
    """
    newest: dict[str, tuple[tuple[bool, str, str], Label]] = {}
    for said in _imported(lake).values():
        for row in said["labels"]:
            label = Label(**row)
            rank = (label.adjudicated, label.known_at, label.batch)
            known = datetime.fromisoformat(label.known_at) < until
            if known and newest.get(label.message_id, (rank,))[0] <= rank:
                newest[label.message_id] = (rank, label)
    return [label for _, (_, label) in sorted(newest.items())]


def digests(lake: Lake, until: datetime) -> dict[str, str]:
    """Batch -> digest of the votes that its labels come from, of what `decided` reads."""
    return {
        batch: said["digest"]
        for batch, said in _imported(lake).items()
        if any(datetime.fromisoformat(row["known_at"]) < until for row in said["labels"])
    }


def _imported(lake: Lake) -> dict[str, Any]:
    """Batch -> what was imported of it, of those whose labels mean what labels mean now."""
    major = load_labels().major
    found = {each.batch: imported(lake, each.batch) for each in batches(lake) if each.major == major}
    return {batch: said for batch, said in found.items() if said}


def _settled(lake: Lake, batch: str, before: Mapping[str, Any], labels: LabelSet, until: datetime) -> bool:
    there = find(lake, batch)
    taken = datetime.fromisoformat(before["until"]) if "until" in before else until
    return taken > until or (there is not None and there.major != labels.major)


def _read(files: Iterable[Path], labels: LabelSet) -> tuple[list[Votes], list[TrainingError]]:
    read: list[Votes] = []
    refused: list[TrainingError] = []
    for file in sorted(files):
        try:
            read.append(read_votes(file.read_bytes(), file.name, labels))
        except BadExport as error:
            refused.append(error)
    return read, refused


def _label(batch: Batch, task: Task, votes: Sequence[Vote], until: datetime, config: ImportConfig) -> Label | None:
    """The decision about one message; None when an adjudicator has to make it."""
    adjudicated = batch.kind == "adjudication"
    counted = [max(votes, key=lambda each: (each.at, each.annotator))] if adjudicated else votes
    found = decision([each.label for each in counted], config.majority)
    if found is None:
        return None
    languages = decision([each.language for each in counted if each.language] or [task.language], config.majority)
    return Label(
        message_id=task.message_id,
        text=task.text,
        intent=found[0],
        language=languages[0] if languages else task.language,
        annotators=len(counted),
        agreement=found[1],
        label_set=batch.label_set,
        batch=batch.batch,
        message_time=task.event_time,
        event_time=max(each.at for each in counted).isoformat(),
        known_at=(until - _TICK).isoformat(),
        adjudicated=adjudicated,
    )


def _known_since(made: Sequence[Label], before: Iterable[Mapping[str, Any]]) -> list[Label]:
    """`made`, each known since when it was known `before` unless something else of it changed."""
    known = {label.message_id: label for label in (Label(**row) for row in before)}
    kept = []
    for each in made:
        old = known.get(each.message_id)
        if old and replace(old, known_at=each.known_at) == each:
            at = min(old.known_at, each.known_at, key=datetime.fromisoformat)
            kept.append(replace(each, known_at=at))
        else:
            kept.append(each)
    return kept


def _enough(batch: Batch, found: Agreement, texts: Mapping[str, str], config: ImportConfig) -> None:
    """AgreementTooLow unless annotators agree enough to be believed."""
    needed = min(config.min_shared, math.ceil(batch.tasks / 2))
    if found.shared < needed:
        raise AgreementTooLow(
            f"{batch.batch}: {found.shared} of {batch.tasks} messages have two annotators or more, need {needed} to "
            "tell how far they agree; have more of them labelled twice"
        )
    low = [
        f"{label} {kappa:.2f} (need {config.min_label_kappa:.2f}, {found.votes[label]} annotations)"
        for label, kappa in found.by_label.items()
        if kappa < config.min_label_kappa and found.votes[label] >= config.label_votes
    ]
    if found.kappa >= config.min_kappa and not low:
        return
    if math.isnan(found.kappa) and not found.confused:
        return  # everybody gave the one label that there is
    pairs = "; ".join(
        f"{one} / {other} on {n} messages, e.g. {', '.join(repr(texts[each]) for each in messages)}"
        for one, other, n, messages in found.confused[:_SHOWN]
    )
    raise AgreementTooLow(
        f"{batch.batch}: Fleiss' kappa {found.kappa:.2f} on {found.shared} messages, need {config.min_kappa:.2f}"
        f"{'; ' + ', '.join(low) if low else ''}. Mixed up: {pairs}. Sharpen `others` of these labels in labels.yaml, "
        "talk to the annotators, and have the batch labelled anew"
    )
