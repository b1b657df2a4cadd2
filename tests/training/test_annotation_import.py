"""Annotations come back: judged, decided, kept; a refused batch leaves nothing behind."""

import json
import shutil
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from data_contracts.intents import LabelSet
from mercato.cli import app
from mercato.paths import Lake
from mercato.settings import Settings
from tests.forks import PUT_IN_PLACE, ended, fork, killed
from tests.lake_maker import finished, make_lake, tree
from tests.training.annotation_maker import (
    LABELS,
    TRUTH,
    UNTIL,
    annotation,
    choice,
    drop,
    exported,
    messages,
    tasks,
    truth,
)
from training.annotation import importing
from training.annotation.batches import batches, imported, labels_path
from training.annotation.config import EXPORT, IMPORT
from training.annotation.export import export, export_errors
from training.annotation.importing import AgreementTooLow, decided, import_files
from training.annotation.jobs import annotation_status, import_annotations
from training.annotation.label_studio import BadExport
from training.datasets.versions import versions

WRONG = {label: LABELS.names[(n + 1) % len(LABELS.names)] for n, label in enumerate(LABELS.names)}


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, str]:
    """A lake and the one batch that was exported from it."""
    lake = make_lake(tmp_path_factory.mktemp("annotated"))
    messages(lake, list(TRUTH))
    made = export(lake, LABELS, UNTIL - timedelta(hours=6), EXPORT).batch
    assert made is not None
    return lake, made.batch


@pytest.fixture
def place(sent: tuple[Lake, str], tmp_path: Path) -> tuple[Lake, str]:
    """A copy of it, to be changed."""
    shutil.copytree(sent[0].root, tmp_path / "data")
    return make_lake(tmp_path / "data"), sent[1]


def agreed(data: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """Three annotators say the truth; of the first two tasks one of them does not, of the third they all differ."""
    label = truth(data["text"])
    if number == 3:
        return [annotation(each, LABELS.names[each]) for each in range(3)]
    third = WRONG[label] if number < 3 else label
    return [annotation(1, label), annotation(2, label), annotation(7, third)]


def at_odds(data: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """The second annotator takes every help for track and every browse for info."""
    label = truth(data["text"])
    return [annotation(1, label), annotation(2, {"help": "track", "browse": "info", "cart": "info"}.get(label, label))]


def take(lake: Lake, folder: Path) -> Any:
    return import_files(lake, LABELS, sorted(folder.glob("*.json")), UNTIL, IMPORT)


def test_a_round_trip_becomes_a_dataset(
    place: tuple[Lake, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out, annotated by three, in: 19 by majority, one to an adjudicator, whose label counts; twice changes nothing."""
    lake, batch = place
    settings = Settings(home=tmp_path, data_url=lake.root, annotations=str(tmp_path / "in"))
    drop(tmp_path / "in", exported(tasks(lake, batch), agreed))
    made = import_annotations(settings, UNTIL)
    (counts,) = made["taken"]
    assert (counts["labels"], counts["contested"], counts["open"], counts["shared"]) == (19, 1, 0, 20)
    assert 0.8 < counts["kappa"] < 1
    assert set(counts["by_pair"]) == {"0 1", "0 2", "1 2", "1 7", "2 7"}
    name, version = made["dataset"].split("/")
    path = lake.path("datasets", name, version, "rows.parquet")
    rows = pq.read_table(path, partitioning=None).to_pandas().set_index("text")
    assert len(rows) == made["rows"] == 19
    assert {text: row["intent"] for text, row in rows.iterrows()} == {text: truth(str(text)) for text in rows.index}
    assert "the lid came cracked, call me on <PHONE>" in rows.index
    assert Counter(rows["annotators"]) == {3: 19}
    assert Counter(rows["agreement"].round(2)) == {1.0: 17, 0.67: 2}
    assert set(rows["label_set_version"]) == {LABELS.version}
    assert (rows["known_at"] < pd.Timestamp(UNTIL)).all()
    assert (rows["message_time"] < rows["event_time"]).all()
    assert set(rows["language"]) == {"en", "hi", "hinglish"}
    before = tree(lake)
    again = import_annotations(settings, UNTIL + timedelta(days=1))
    assert (again["taken"], again["unchanged"], again["dataset"]) == ([], 1, None)
    assert tree(lake) == before

    (open_task,) = tasks(lake, counts["adjudication"])
    assert open_task["data"]["votes"] == "browse 1, greeting 1, info 1"
    at = UNTIL + timedelta(hours=1)
    drop(tmp_path / "in", exported([open_task], lambda *_: [annotation(9, "help", at)]), "adjudicated.json")
    assert import_annotations(settings, UNTIL)["later"] == 1
    made = import_annotations(settings, UNTIL + timedelta(days=1))
    assert made["rows"] == 20
    (label,) = [each for each in decided(lake, UNTIL + timedelta(days=1)) if each.adjudicated]
    assert (label.intent, label.text, label.agreement) == ("help", open_task["data"]["text"], 1.0)
    states = annotation_status(settings)
    assert [(each["kind"], each["labelled"]) for each in states] == [("messages", 19), ("adjudication", 1)]
    assert export(lake, LABELS, UNTIL + timedelta(days=2), EXPORT).batch is None, "labelled messages stay at home"


def test_a_batch_without_agreement_is_refused_with_the_pairs(place: tuple[Lake, str], tmp_path: Path) -> None:
    """Counts and examples of the labels that were mixed up; nothing is written."""
    lake, batch = place
    drop(tmp_path / "in", exported(tasks(lake, batch), at_odds))
    before = tree(lake)
    strict = IMPORT.model_copy(update={"min_kappa": 0.9})
    (refused,) = import_files(lake, LABELS, (tmp_path / "in").glob("*"), UNTIL, strict).refused
    assert isinstance(refused, AgreementTooLow)
    assert "on 20 messages, need 0.90" in str(refused)
    assert "browse / info on 3 messages, e.g. '" in str(refused)
    assert "help / track on 2 messages" in str(refused)
    assert tree(lake) == before
    by_label = IMPORT.model_copy(update={"min_kappa": 0.1, "label_votes": 2})
    (refused,) = import_files(lake, LABELS, (tmp_path / "in").glob("*"), UNTIL, by_label).refused
    assert "browse -0.08 (need 0.40, 3 annotations)" in str(refused)
    assert tree(lake) == before


def test_too_few_shared_messages_cannot_be_judged(place: tuple[Lake, str], tmp_path: Path) -> None:
    """Half of a small batch must have two annotators: 10 of 20."""
    lake, batch = place

    def mostly_alone(data: dict[str, Any], number: int) -> list[dict[str, Any]]:
        return [annotation(each, truth(data["text"])) for each in range(2 if number < 10 else 1)]

    drop(tmp_path / "in", exported(tasks(lake, batch), mostly_alone))
    (refused,) = take(lake, tmp_path / "in").refused
    assert "9 of 20 messages have two annotators or more, need 10" in str(refused)


def test_cancelled_missing_and_double_answers(place: tuple[Lake, str], tmp_path: Path) -> None:
    """A skipped task, one without annotations, two labels at once and an empty one count for nothing; the newest
    of one annotator counts; a corrected language is kept; the annotator's address is not.
    """
    lake, batch = place
    given = tasks(lake, batch)
    person = {"id": 2, "email": "someone@example.com", "first_name": "Some", "last_name": "One"}

    def odd(data: dict[str, Any], number: int) -> list[dict[str, Any]]:
        label = truth(data["text"])
        plain = [annotation(1, label), annotation(2, label, completed_by=person)]
        early = annotation(1, WRONG[label], UNTIL - timedelta(hours=5))
        return {
            1: [annotation(1, label, was_cancelled=True, result=[])],
            2: [],
            3: [*plain, annotation(3, label, result=[choice("intent", label), choice("intent", WRONG[label])])],
            4: [*plain, annotation(3, label, result=[])],
            5: [*plain, early],
            6: [annotation(n, label, result=[choice("intent", label), choice("language", "hi")]) for n in (1, 2)],
        }.get(number, plain)

    drop(tmp_path / "in", exported(given, odd))
    (counts,) = take(lake, tmp_path / "in").taken
    assert (counts["labels"], counts["contested"], counts["open"], counts["kappa"]) == (18, 0, 2, 1.0)
    labels = {each.text: each for each in decided(lake, UNTIL)}
    texts = [each["data"]["text"] for each in given]
    assert not {texts[0], texts[1]} & labels.keys()
    assert {labels[text].annotators for text in texts[2:]} == {2}
    assert labels[texts[5]].language == "hi"
    kept = json.dumps(imported(lake, batch))
    assert "someone@example.com" not in kept
    assert "Some" not in kept


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("not json {", "is no JSON"),
        ("\x00\xff", "is no JSON"),
        ('{"a": 1}', "holds a JSON dict, need Label Studio's list of tasks"),
        ('[{"text": "hi", "intent": "greeting"}]', "task 1, data: Field required; need Label Studio's JSON export"),
        ("[1]", "task 1"),
    ],
)
def test_garbage_is_named_and_leaves_nothing(place: tuple[Lake, str], tmp_path: Path, content: str, said: str) -> None:
    """A file that is none of ours stops no other."""
    lake, batch = place
    drop(tmp_path / "in", content, "garbage.json")
    drop(tmp_path / "in", exported(tasks(lake, batch), agreed))
    found = take(lake, tmp_path / "in")
    (refused,) = found.refused
    assert isinstance(refused, BadExport)
    assert str(refused).startswith("garbage.json")
    assert said in str(refused)
    assert len(found.taken) == 1


def test_what_was_not_asked_is_not_taken(place: tuple[Lake, str], tmp_path: Path) -> None:
    """An unknown label, batch or message, or another major version of the label set."""
    lake, batch = place
    given = tasks(lake, batch)
    before = tree(lake)

    def refusal(changed: list[dict[str, Any]], label: str = "track", labels: LabelSet = LABELS) -> str:
        file = drop(tmp_path / "in", exported(changed, lambda *_: [annotation(n, label) for n in (1, 2)]))
        (refused,) = import_files(lake, labels, [file], UNTIL, IMPORT).refused
        assert tree(lake) == before
        return str(refused)

    assert "has the labels tracking, which the label set lacks" in refusal(given, "tracking")
    other = [{"data": {**each["data"], "batch": "b-000000000000"}} for each in given]
    assert "b-000000000000 was never exported by this shop" in refusal(other)
    strange = [{"data": {**each["data"], "message_id": "feedfeedfeedfeed"}} for each in given]
    assert "has no messages feedfeedfeedfeed" in refusal(strange)
    newer = LABELS.model_copy(update={"version": "2.0.0"})
    assert "was labelled by label set 1.0.0, the labels are now 2.0.0" in refusal(given, labels=newer)


def relabel(lake: Lake, tmp_path: Path, labels: LabelSet = LABELS) -> None:
    """Two annotators say `info` of a message that a model's report lists as an error."""
    errors = tmp_path / "errors.jsonl"
    errors.write_text(json.dumps({"text": "who won the match"}) + "\n")
    again = export_errors(lake, labels, UNTIL, errors).batch
    assert again is not None
    relabelled = exported(tasks(lake, again.batch), lambda *_: [annotation(n, "info") for n in (1, 2)])
    drop(tmp_path / "in", relabelled, "errors.json")


def test_more_annotations_of_a_batch_replace_the_fewer(place: tuple[Lake, str], tmp_path: Path) -> None:
    """A second export of the same project adds up; errors of a model that are labelled anew come after both."""
    lake, batch = place
    given = tasks(lake, batch)

    def by(*people: int) -> Any:
        return lambda data, _: [annotation(each, truth(data["text"])) for each in people]

    drop(tmp_path / "in", exported(given[:12], by(1, 2)), "first.json")
    assert take(lake, tmp_path / "in").taken[0]["open"] == 8
    drop(tmp_path / "in", exported(given, by(2, 3)), "second.json")
    assert take(lake, tmp_path / "in").taken[0]["open"] == 0
    assert Counter(each.annotators for each in decided(lake, UNTIL)) == {3: 12, 2: 8}
    written = {each.text: each.message_time for each in decided(lake, UNTIL)}
    relabel(lake, tmp_path)
    later = UNTIL + timedelta(days=1)
    import_files(lake, LABELS, sorted((tmp_path / "in").glob("*")), later, IMPORT)
    found = {when: {each.text: each.intent for each in decided(lake, when)} for when in (UNTIL, later)}
    assert found[UNTIL]["who won the match"] == "out_of_scope"
    assert found[later]["who won the match"] == "info"
    assert {each.text: each.message_time for each in decided(lake, later)} == written


def test_one_more_vote_leaves_the_other_labels_as_old_as_they_were(place: tuple[Lake, str], tmp_path: Path) -> None:
    """A label that was corrected meanwhile stays corrected, and what was known before can be told again."""
    lake, batch = place
    given = tasks(lake, batch)
    drop(tmp_path / "in", exported(given, lambda data, _: [annotation(n, truth(data["text"])) for n in (1, 2)]))
    take(lake, tmp_path / "in")
    relabel(lake, tmp_path)
    import_files(lake, LABELS, sorted((tmp_path / "in").glob("*")), UNTIL + timedelta(days=1), IMPORT)
    (other, *_) = (each for each in given if each["data"]["text"] != "who won the match")
    late = exported([other], lambda data, _: [annotation(3, truth(data["text"]), UNTIL + timedelta(days=2))])
    drop(tmp_path / "in", late, "late.json")
    import_files(lake, LABELS, sorted((tmp_path / "in").glob("*")), UNTIL + timedelta(days=3), IMPORT)
    labels = {each.text: each.intent for each in decided(lake, UNTIL + timedelta(days=3))}
    assert labels["who won the match"] == "info"
    assert len(decided(lake, UNTIL)) == 19


def test_an_older_run_takes_nothing_from_a_newer_one(place: tuple[Lake, str], tmp_path: Path) -> None:
    """A day's import that is cleared and runs again knows fewer votes: what later days know stays, bytes and all."""
    lake, batch = place
    given = tasks(lake, batch)
    drop(tmp_path / "in", exported(given[:12], agreed), "first.json")
    late = exported(given, lambda data, _: [annotation(n, truth(data["text"]), UNTIL) for n in (8, 9)])
    drop(tmp_path / "in", late, "second.json")
    newer = UNTIL + timedelta(days=1)
    files = sorted((tmp_path / "in").glob("*"))
    import_files(lake, LABELS, files, newer, IMPORT)
    before, known = tree(lake), decided(lake, newer)
    assert len(known) == 20
    again = import_files(lake, LABELS, files, UNTIL, IMPORT)
    assert (again.taken, again.unchanged, again.refused) == ((), 1, ())
    assert tree(lake) == before


def test_an_older_run_does_not_bring_back_what_became_contested(place: tuple[Lake, str], tmp_path: Path) -> None:
    """Votes of the next day take a label away; the day before, run again, leaves it away."""
    lake, batch = place
    given = tasks(lake, batch)
    drop(
        tmp_path / "in", exported(given, lambda data, _: [annotation(n, truth(data["text"])) for n in (1, 2)]), "1.json"
    )
    take(lake, tmp_path / "in")
    (first, *_) = given
    other = WRONG[truth(first["data"]["text"])]
    drop(tmp_path / "in", exported([first], lambda *_: [annotation(n, other, UNTIL) for n in (3, 4)]), "2.json")
    newer = UNTIL + timedelta(days=1)
    files = sorted((tmp_path / "in").glob("*"))
    import_files(lake, LABELS, files, newer, IMPORT)
    before = tree(lake)
    assert len(decided(lake, newer)) == 19
    import_files(lake, LABELS, files, UNTIL, IMPORT)
    assert tree(lake) == before


def test_labels_that_meant_something_else_are_left_out(
    place: tuple[Lake, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a new major label set old labels train nothing, their files are no error, and new batches are chosen."""
    lake, batch = place
    drop(tmp_path / "in", exported(tasks(lake, batch), agreed))
    take(lake, tmp_path / "in")
    assert decided(lake, UNTIL)
    newer = LABELS.model_copy(update={"version": "2.0.0"})
    monkeypatch.setattr(importing, "load_labels", lambda: newer)
    assert decided(lake, UNTIL) == []
    assert importing.digests(lake, UNTIL) == {}
    again = import_files(lake, newer, sorted((tmp_path / "in").glob("*")), UNTIL + timedelta(days=1), IMPORT)
    assert (again.unchanged, again.refused) == (1, ())
    relabel(lake, tmp_path, newer)
    import_files(lake, newer, sorted((tmp_path / "in").glob("*")), UNTIL + timedelta(days=1), IMPORT)
    labels = {each.text: each.intent for each in decided(lake, UNTIL + timedelta(days=1))}
    assert labels == {"who won the match": "info"}


def test_an_import_that_is_undone_leaves_the_dataset(place: tuple[Lake, str], tmp_path: Path) -> None:
    """The version after it is without the batch, also at the same instant; with none left the answer says what goes."""
    lake, batch = place
    settings = Settings(home=tmp_path, data_url=lake.root, annotations=str(tmp_path / "in"))
    drop(tmp_path / "in", exported(tasks(lake, batch), agreed))
    (counts,) = import_annotations(settings, UNTIL)["taken"]
    at = UNTIL + timedelta(hours=1)
    one = exported(tasks(lake, counts["adjudication"]), lambda *_: [annotation(9, "help", at)])
    file = drop(tmp_path / "in", one, "adjudicated.json")
    later = UNTIL + timedelta(days=1)
    assert import_annotations(settings, later)["rows"] == 20
    file.unlink()
    Path(labels_path(lake, counts["adjudication"])).unlink()
    assert import_annotations(settings, later)["rows"] == 19
    newest = versions(lake, "intent_examples")[-1]
    assert (newest.rows, list(newest.inputs)) == (19, [batch])
    again = import_annotations(settings, later)
    assert (again["dataset"], again["note"]) == (None, "")
    shutil.rmtree(tmp_path / "in")
    Path(labels_path(lake, batch)).unlink()
    none = import_annotations(settings, later)
    assert none["dataset"] is None
    assert f"delete {lake.path('datasets', 'intent_examples', 'v-')}" in none["note"]


def test_a_kill_and_two_at_once_leave_one_import(place: tuple[Lake, str], tmp_path: Path) -> None:
    """After a kill at any file, and by two processes at once, there is one import and one adjudication."""
    lake, batch = place
    drop(tmp_path / "in", exported(tasks(lake, batch), agreed))
    start = finished(lake)
    for after in (2, 4):
        assert killed(lambda: take(lake, tmp_path / "in"), after, PUT_IN_PLACE) == -9
        assert imported(lake, batch) is None
    both = [fork(lambda: take(lake, tmp_path / "in")) for _ in range(2)]
    assert [ended(each) for each in both] == [0, 0]
    assert take(lake, tmp_path / "in").unchanged == 1
    assert [each.kind for each in batches(lake)] == ["messages", "adjudication"]
    assert len(finished(lake)) == len(start) + 4 + 1


def test_the_commands_take_and_show(place: tuple[Lake, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`import` exits 65 for what it refuses after taking the rest; `status` shows the batch and its kappa."""
    lake, batch = place
    for name, value in {"HOME": tmp_path, "DATA_URL": lake.root, "ANNOTATIONS": tmp_path / "in"}.items():
        monkeypatch.setenv(f"MERCATO_{name}", str(value))
    drop(tmp_path / "in", exported(tasks(lake, batch), agreed))
    drop(tmp_path / "in", "{", "garbage.json")
    asked = ["annotation", "import", "--until", UNTIL.isoformat()]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 65
    assert "garbage.json is no JSON" in result.stderr
    shown = json.loads(CliRunner().invoke(app, ["annotation", "status"]).stdout)
    assert [(each["kind"], each["labelled"]) for each in shown] == [("messages", 19), ("adjudication", None)]
    assert imported(lake, batch)["counts"]["kappa"] == shown[0]["kappa"]
    made = json.loads(CliRunner().invoke(app, ["annotation", "export", "--until", UNTIL.isoformat()]).stdout)
    assert made["batch"] is None
