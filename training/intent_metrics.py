"""How good an intent model is on labelled messages: per intent, per language, calibration, out of scope."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from serving.runtime.intent import OUT_OF_SCOPE, IntentModel
from training.intent_calibration import ece

EVERY: Final = "every language"


def judged(model: IntentModel, messages: pd.DataFrame) -> pd.DataFrame:
    """The messages with `predicted`, `confidence` and `right`, each answered by itself as it is served."""
    return judged_side_by_side({"": model}, messages)[""]


def judged_side_by_side(models: Mapping[str, IntentModel], messages: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """`judged` of several models by name; a part that two of them share reads each message once."""
    texts = messages["text"].tolist()
    shared = {id(part): part for model in models.values() for _, part in model.parts}
    logits = {key: np.stack([part.logits(text) for text in texts]) for key, part in shared.items()}
    found = {}
    for name, model in models.items():
        at, confidence = model.decided(model.probabilities([logits[id(part)] for _, part in model.parts]))
        said = messages.assign(predicted=[model.labels[i] for i in at], confidence=confidence.astype(float))
        found[name] = said.assign(right=said["predicted"] == said["intent"])
    return found


def per_intent(rows: pd.DataFrame) -> pd.DataFrame:
    """Intent -> messages, precision, recall, f1, in [0, 1]; NaN precision where nothing was said to be it."""
    found = []
    for intent in sorted(rows["intent"].unique()):
        truth, said = rows["intent"] == intent, rows["predicted"] == intent
        hits = int((truth & said).sum())
        precision = hits / said.sum() if said.any() else float("nan")
        found.append((intent, int(truth.sum()), precision, hits / truth.sum(), 2 * hits / (truth.sum() + said.sum())))
    return pd.DataFrame(found, columns=["intent", "messages", "precision", "recall", "f1"]).set_index("intent")


def summary(rows: pd.DataFrame) -> dict[str, Any]:
    """Figures of judged messages, in [0, 1]: accuracy, macro_f1, ece, the worst precision and recall, scope."""
    table = per_intent(rows)
    said: dict[str, Any] = {
        "messages": len(rows),
        "accuracy": float(rows["right"].mean()),
        "macro_f1": float(table["f1"].mean()),
        "lowest_precision": float(table["precision"].min()),
        "lowest_recall": float(table["recall"].min()),
        "ece": ece(rows["confidence"].to_numpy(np.float32), rows["right"].to_numpy()),
    }
    out = rows["intent"] == OUT_OF_SCOPE
    if out.any() and not out.all():
        said["in_scope_accuracy"] = float(rows.loc[~out, "right"].mean())
        said["out_of_scope_recall"] = float(rows.loc[out, "right"].mean())
    return said


def by_language(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """EVERY and each language -> its summary."""
    parts = {EVERY: rows, **{str(name): part for name, part in rows.groupby("language")}}
    return {name: summary(part) for name, part in parts.items()}


def confusion(rows: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """(labels, labels) counts: labelled down, answered across."""
    table = pd.crosstab(rows["intent"], rows["predicted"])
    return table.reindex(index=list(labels), columns=list(labels), fill_value=0)
