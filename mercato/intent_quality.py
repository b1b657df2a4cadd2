"""Offline quality of a release's intent model, beside the cheaper models, on messages that none of them has seen."""

import time
from typing import Any

import numpy as np

from data_contracts.artefact_store import ArtefactStore
from data_contracts.errors import UnknownRelease
from mercato import paths
from mercato.settings import Settings

SERVED = "served"


def evaluate_intent(settings: Settings, release_id: str) -> dict[str, Any]:
    """Figures of the served intent model per language, intent and both, with the linear models fitted in the same run.

    Where the labelled messages are no longer those that it was trained with, it may have learned from what is in test
    now: then it is scored on the fixed test messages of the shop-intents set alone.

    Raises:
        UnknownRelease: there is no such release, or it has no intent model.
        ArtefactRefused: the artefact is not whole.
    """
    from serving.runtime.intent import IntentModel
    from training.intent import train
    from training.intent_config import Encoder
    from training.intent_data import SHOP_SET
    from training.intent_job import messages_of, recipe
    from training.intent_metrics import judged, judged_side_by_side
    from training.intent_robustness import WORSE, worse

    store = ArtefactStore(paths.lake(settings))
    manifest = store.release(release_id)
    artefact = manifest.identity.artefacts.get("intent")
    if artefact is None:
        raise UnknownRelease(
            f"release {release_id} has no intent model; run the DAG train_intent, then assemble_release, and name the "
            "new release with --release (`mercato release make-live` lets it answer)"
        )
    model = IntentModel.load(store.fetch_one("intent", artefact))
    until = manifest.provenance.fit_until
    config = recipe(settings, Encoder.FROZEN)
    messages = messages_of(settings, config, until)
    scratch = settings.root / "checkpoints"
    baselines = {f"{each.name} (baseline)": each.model for each in train(config, messages, until, scratch).candidates}
    test, which = messages.test, "test messages"
    if model.meta.get("messages") != messages.digest():
        test = test[test["origin"] == SHOP_SET].reset_index(drop=True)
        which = f"test messages of {SHOP_SET} alone, because others were labelled since the model was trained"
    frames = judged_side_by_side({SERVED: model, **baselines}, test)
    for kind in WORSE:
        frames[f"served, {kind}"] = judged(model, worse(test, kind))
    return {
        "release_id": release_id,
        "method": model.meta["method"],
        "messages": f"{len(test)} {which}; none of them trained on",
        "rows": [row for method, frame in frames.items() for row in rows(method, frame, frames[SERVED])],
        "intents": intents(frames[SERVED]),
        "latency": latency(model, test["text"].tolist()),
    }


def rows(method: str, frame: Any, served: Any) -> list[dict[str, Any]]:
    """One row per language of one method's judged messages; `served_gain` is paired, over the same messages."""
    from monitoring.statistics import bootstrap_mean, paired_gain
    from training.intent_metrics import EVERY, by_language

    found = []
    for language, said in by_language(frame).items():
        inside = np.ones(len(frame), bool) if language == EVERY else (frame["language"] == language).to_numpy()
        right, ours = frame["right"].to_numpy(float)[inside], served["right"].to_numpy(float)[inside]
        interval, gain = bootstrap_mean(right), paired_gain(ours, right)
        found.append(
            {
                "method": method,
                "language": language,
                **{name: round(value, 4) for name, value in said.items()},
                "interval": [round(interval.low, 4), round(interval.high, 4)],
                "served_gain": None
                if method == SERVED
                else [round(each, 4) for each in (gain.mean, gain.low, gain.high)],
            }
        )
    return found


def intents(served: Any) -> list[dict[str, Any]]:
    """One row per intent, over every language and then in each: messages, precision, recall, f1."""
    from training.intent_metrics import EVERY, per_intent

    parts = {EVERY: served, **{str(language): part for language, part in served.groupby("language")}}
    return [
        {"intent": intent, "language": language, **{str(name): value for name, value in found.items()}}
        for language, part in parts.items()
        for intent, found in per_intent(part).round(4).to_dict("index").items()
    ]


def latency(model: Any, texts: list[str]) -> dict[str, float]:
    """Milliseconds of one answer on one thread: p50 and p95 over `texts`, after one pass that does not count."""
    for text in texts:
        model.answer(text)
    taken = []
    for text in texts:
        begun = time.perf_counter()
        model.answer(text)
        taken.append(1000 * (time.perf_counter() - begun))
    return {"p50_ms": round(float(np.median(taken)), 3), "p95_ms": round(float(np.quantile(taken, 0.95)), 3)}
