"""The report of an intent run: one HTML file for people, and the messages that annotators should look at next."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

import numpy as np
import pandas as pd

from training.datasets.report import document, section, table_of
from training.intent import Candidate, IntentRun
from training.intent_data import Messages
from training.intent_metrics import by_language, confusion, judged, judged_side_by_side, per_intent, summary
from training.intent_robustness import WORSE, worse

WORST: Final = 100
"""Errors that are shown, and go to annotators."""
CHANGED: Final = 270
"""Test messages, evenly spaced, that are changed to see how robust the model is."""
_FIGURES: Final = ("accuracy", "macro_f1", "in_scope_accuracy", "out_of_scope_recall", "ece")


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a run's candidates do on the test messages.

    Attributes:
        chosen: the candidate that ships.
        rows: candidate -> its judged test messages.
        robustness: kind of change -> figures of the chosen one on some test messages changed so.
    """

    chosen: Candidate
    rows: Mapping[str, pd.DataFrame]
    robustness: Mapping[str, dict[str, Any]]

    @property
    def shipped(self) -> pd.DataFrame:
        """The chosen one's judged messages."""
        return self.rows[self.chosen.name]


def judge(run: IntentRun, chosen: Candidate, test: pd.DataFrame) -> Judgement:
    """Every candidate on the test messages, the chosen one also on changed ones."""
    rows = judged_side_by_side({each.name: each.model for each in run.candidates}, test)
    some = test.iloc[:: max(1, len(test) // CHANGED)]
    robustness = {"as written": summary(rows[chosen.name].loc[some.index])}
    robustness |= {kind: summary(judged(chosen.model, worse(some, kind))) for kind in WORSE}
    return Judgement(chosen, rows, robustness)


def why(run: IntentRun, chosen: Candidate) -> str:
    """Why this candidate ships, in words."""
    scores = ", ".join(f"{each.name} {each.accuracy:.3f}" for each in run.candidates)
    if chosen.fine_tuned:
        reason = "The fine-tuned encoder beats the best cheaper model by more than the paired 95 % interval."
    elif any(each.fine_tuned for each in run.candidates):
        reason = "The fine-tuned encoder does not beat the best cheaper model by more than the paired 95 % interval."
    else:
        reason = "The encoder was not fine-tuned in this run."
    return f"{reason} Accuracy on validation: {scores}."


def worst_errors(rows: pd.DataFrame) -> pd.DataFrame:
    """The WORST most confident errors, those of one kind together, the most frequent kind first."""
    wrong = rows[~rows["right"]].sort_values("confidence", ascending=False, kind="stable").head(WORST)
    kinds = wrong.groupby(["intent", "predicted"])["text"].transform("size")
    return wrong.assign(kind_size=kinds).sort_values(
        ["kind_size", "intent", "predicted", "confidence"], ascending=[False, True, True, False], kind="stable"
    )


def next_batch(judgement: Judgement, suspicious: pd.DataFrame) -> list[dict[str, Any]]:
    """Messages for annotators, as plain JSON values: text, language, origin, label, predicted, confidence, reason."""
    errors = [
        {**{name: row[name] for name in ("text", "language", "origin")}, "label": row["intent"],
         "predicted": row["predicted"], "confidence": round(float(row["confidence"]), 4), "reason": "error"}
        for row in worst_errors(judgement.shipped).to_dict("records")
    ]  # fmt: skip
    doubts = [
        {**{name: row[name] for name in ("text", "language", "origin")}, "label": row["intent"],
         "predicted": row["likelier"], "confidence": round(float(row["margin"]), 4), "reason": "doubted label"}
        for row in suspicious.head(WORST).to_dict("records")
    ]  # fmt: skip
    return [*errors, *doubts]


def page(run: IntentRun, judgement: Judgement, messages: Messages, why: str) -> str:
    """The HTML of a run's report; `why` says in words why the chosen candidate ships."""
    rows = judgement.shipped
    return document(
        "Intent model",
        [
            f"<h1>Intent model: {escape(judgement.chosen.name)} ships</h1><p>{escape(why)}</p>",
            f"<p>{_read(messages)} Every figure is of the exported artefact, one message at a time.</p>",
            section("Candidates on test", _candidates(run, judgement)),
            section("By language", _languages(by_language(rows))),
            section("By intent", _intents(per_intent(rows))),
            section("By intent and language", _intents_by_language(rows)),
            section("Confusion: labelled down, answered across", _confusion(rows)),
            section("Calibration", _calibration(rows)),
            section("Robustness: the same messages changed by a program", _robustness(judgement)),
            section("While the encoder trained, on validation", _curve(run.curve)),
            section("Export, accuracy on validation", _exports(run)),
            section(f"The {WORST} most confident errors, the most frequent kind first", _errors(rows)),
            section(
                f"Training labels in doubt: {len(run.suspicious)}, the least believed first", _doubts(run.suspicious)
            ),
            section("CPU seconds", table_of(("part", "seconds"), run.seconds.items(), numbers=(1,))),
        ],
    )


def _read(messages: Messages) -> str:
    return (
        f"{len(messages.train):,} messages trained; {len(messages.validation):,} of validation chose epochs, weights, "
        f"threshold and winner; the {len(messages.test):,} of test were looked at once."
    )


def _number(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _candidates(run: IntentRun, judgement: Judgement) -> str:
    found = []
    for each in run.candidates:
        said = summary(judgement.rows[each.name])
        found.append((each.name, _number(each.accuracy), *(_number(said.get(name, "")) for name in _FIGURES)))
    return table_of(("candidate", "accuracy, validation", *_FIGURES), found, numbers=range(1, 2 + len(_FIGURES)))


def _languages(parts: Mapping[str, dict[str, Any]]) -> str:
    names = ("messages", *_FIGURES, "lowest_precision", "lowest_recall")
    rows = [(language, *(_number(said.get(name, "")) for name in names)) for language, said in parts.items()]
    return table_of(("language", *names), rows, numbers=range(1, 1 + len(names)))


def _intents(table: pd.DataFrame) -> str:
    rows = [
        (intent, *(_number(value) for value in row))
        for intent, row in zip(table.index, table.itertuples(index=False), strict=True)
    ]
    return table_of(("intent", *table.columns), rows, numbers=(1, 2, 3, 4))


def _intents_by_language(rows: pd.DataFrame) -> str:
    languages = sorted(rows["language"].unique())
    parts = {each: per_intent(rows[rows["language"] == each]) for each in languages}
    head = ("intent", *(f"{what}, {each}" for each in languages for what in ("precision", "recall")))
    body = [
        (
            intent,
            *(
                _number(float(parts[each].loc[intent, what])) if intent in parts[each].index else ""
                for each in languages
                for what in ("precision", "recall")
            ),
        )
        for intent in sorted(rows["intent"].unique())
    ]
    return table_of(head, body, numbers=range(1, len(head)))


def _confusion(rows: pd.DataFrame) -> str:
    labels = sorted({*rows["intent"], *rows["predicted"]})
    counts = confusion(rows, labels)
    body = [(label, *(n or "" for n in counts.loc[label].tolist())) for label in labels]
    return table_of(("", *labels), body, numbers=range(1, len(labels) + 1))


def _calibration(rows: pd.DataFrame) -> str:
    edges = np.linspace(0.0, 1.0, 11)
    body = []
    for low, high in itertools.pairwise(edges):
        inside = rows[(rows["confidence"] >= low) & ((rows["confidence"] < high) | (high == edges[-1]))]
        if len(inside):
            body.append((f"{low:.1f} to {high:.1f}", len(inside), _number(float(inside["confidence"].mean())),
                         _number(float(inside["right"].mean()))))  # fmt: skip
    return table_of(("confidence", "messages", "mean confidence", "accuracy"), body, numbers=(1, 2, 3))


def _robustness(judgement: Judgement) -> str:
    names = ("messages", *_FIGURES)
    body = [(kind, *(_number(said.get(name, "")) for name in names)) for kind, said in judgement.robustness.items()]
    return table_of(("", *names), body, numbers=range(1, 1 + len(names)))


def _curve(curve: Sequence[dict[str, float]]) -> str:
    if not curve:
        return "<p>The encoder was not trained in this run.</p>"
    body = [tuple(_number(float(each[name])) for name in ("epoch", "loss", "accuracy")) for each in curve]
    return table_of(("epoch", "loss", "accuracy"), body, numbers=(0, 1, 2))


def _exports(run: IntentRun) -> str:
    body = [(name, variant, _number(score)) for name, tried in run.exports.items() for variant, score in tried.items()]
    return table_of(("encoder", "variant", "accuracy"), body, numbers=(2,))


def _errors(rows: pd.DataFrame) -> str:
    names = ("intent", "predicted", "confidence", "language", "text")
    found = worst_errors(rows)
    return table_of(
        names, [tuple(_number(row[name]) for name in names) for row in found.to_dict("records")], numbers=(2,)
    )


def _doubts(rows: pd.DataFrame) -> str:
    names = ("intent", "likelier", "margin", "language", "origin", "text")
    shown = rows.head(WORST).to_dict("records")
    return table_of(names, [tuple(_number(row[name]) for name in names) for row in shown], numbers=(2,))
