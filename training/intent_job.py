"""What the DAG `train_intent` calls: messages in; the model that ships, its report and the next batch out."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import structlog

from data_contracts.artefact_store import ArtefactRef, ArtefactStore
from data_contracts.errors import ArtefactRefused
from data_contracts.release import Kind, Reproducible
from feature_repo import message_text
from mercato import paths
from mercato.paths import Lake, canonical_json, sha256_file
from mercato.settings import Settings
from serving.runtime.intent import IntentModel
from training.intent_config import SHOP, Encoder, IntentConfig
from training.intent_data import COLUMNS, Messages, annotated, gather, public_rows
from training.intent_live import ARTEFACT
from training.record import record

log = structlog.get_logger()
_SAID = ("accuracy", "macro_f1", "ece", "in_scope_accuracy", "out_of_scope_recall")


def recipe(settings: Settings, encoder: Encoder) -> IntentConfig:
    """The shop's own recipe over the base that `MERCATO_INTENT_BASE_MODEL` names."""
    return SHOP.model_copy(update={"base_model": settings.intent_base_model, "encoder": encoder})


def messages_of(settings: Settings, config: IntentConfig, until: datetime) -> Messages:
    """All labelled messages known before `until`."""
    folder = settings.public_sets
    public = public_rows(folder) if folder else pd.DataFrame(columns=list(COLUMNS))
    return gather(annotated(paths.lake(settings), until), public, validation_share=config.validation_share)


def train_intent(
    settings: Settings,
    until: datetime,
    *,
    wins: Callable[[Sequence[float], Sequence[float]], bool],
    config: IntentConfig,
) -> dict[str, Any]:
    """The ref of the intent model that ships, and what it does on the test messages.

    Nothing is trained when the newest model is whole and was made from the same messages, read the same way, by the
    same recipe.

    Args:
        settings: where the lake and MLflow are.
        until: labels known at or after it are not seen.
        wins: the test by which a fine-tuned encoder must beat the cheaper models.
        config: the recipe; without its encoder only the model over pieces of words is made.
    """
    from training import intent, intent_report
    from training.intent_metrics import summary

    messages = messages_of(settings, config, until)
    made_of = {
        "intent_messages": messages.digest(),
        "intent_config": hashlib.sha256(canonical_json(config.model_dump())).hexdigest(),
        "message_text": sha256_file(Path(message_text.__file__)),
    }
    lake = paths.lake(settings)
    store = ArtefactStore(lake)
    newest = store.newest_ref(ARTEFACT, until=until)
    if newest and newest.snapshots == made_of and _whole(store, newest):
        return {**_said(newest), "unchanged": True}
    key = hashlib.sha256(canonical_json(made_of)).hexdigest()[:16]
    checkpoints = settings.root / "checkpoints" / f"{ARTEFACT}-{key}"
    run = intent.train(config, messages, until, checkpoints)
    chosen = run.choose(wins)
    judgement = intent_report.judge(run, chosen, messages.test)
    figures = summary(judgement.shipped)
    batch = intent_report.next_batch(judgement, run.suspicious)
    lines = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in batch)
    with lake.writing(hard_messages_path(lake, until)) as aside:
        aside.write_text(lines, encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="mercato-") as scratch:
        page, tasks = Path(scratch) / "intent_report.html", Path(scratch) / "next_annotation_batch.jsonl"
        page.write_text(intent_report.page(run, judgement, messages, intent_report.why(run, chosen)))
        tasks.write_text(lines, encoding="utf-8")
        ref = record(
            settings,
            ARTEFACT,
            chosen.model.save,
            kind=Kind.NPZ,
            fit_until=until,
            config={**config.model_dump(), "method": chosen.name},
            snapshots=made_of,
            metrics={name: figures[name] for name in _SAID if name in figures},
            reproducible=Reproducible.QUALITY,
            beside=(page, tasks),
        )
    shutil.rmtree(checkpoints, ignore_errors=True)
    return {**_said(ref), "method": chosen.name, "hard_messages": hard_messages_path(lake, until)}


def hard_messages_path(lake: Lake, until: datetime) -> str:
    """Where `intent_report.next_batch` lies, as JSON lines that `mercato annotation export --errors` takes."""
    return lake.path("annotation", "hard_messages", f"until={until:%Y%m%dT%H%M%SZ}.jsonl")


def _whole(store: ArtefactStore, ref: ArtefactRef) -> bool:
    """Whether the model is there and loads: errors about one that does not ask for another training."""
    try:
        IntentModel.load(store.fetch_one(ARTEFACT, ref.artefact))
    except ArtefactRefused as error:
        log.warning("intent.trained_again", sha256=ref.artefact.sha256, reason=str(error))
        return False
    return True


def _said(ref: ArtefactRef) -> dict[str, Any]:
    return {"name": ref.name, "sha256": ref.artefact.sha256, "fit_until": ref.fit_until.isoformat(),
            "run_id": ref.run_id, **ref.metrics}  # fmt: skip
