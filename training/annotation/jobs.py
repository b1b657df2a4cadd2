"""What the annotation DAGs and `mercato annotation` call: settings and instants in, a small JSON value out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from data_contracts.artefact_store import ArtefactStore
from data_contracts.intents import load_labels
from data_contracts.shop import load_shop
from mercato import paths
from mercato.settings import Settings
from mercato.stores.steps import timed
from serving.runtime.intent import IntentModel as Trained
from training.annotation.batches import batches, folder, imported
from training.annotation.config import EXPORT, IMPORT, IntentModel
from training.annotation.export import Exported, export, export_errors
from training.annotation.importing import import_files
from training.intent_live import live_intent
from training.provenance import code_revision


def export_annotations(
    settings: Settings, until: datetime, *, errors: Path | None = None, models: Sequence[IntentModel] | None = None
) -> dict[str, Any]:
    """The batch of messages known before `until` (or of the errors in a file), where it lies; `batch` may be None.

    `models`: the live intent model first; None: those of `intent_models`. Without any, messages are drawn at random
    and carry no pre-annotation.
    """
    lake, labels = paths.lake(settings), load_labels()
    with timed(settings, "export", "annotations", until, until, code_revision=code_revision()):
        if errors:
            return _said(lake, export_errors(lake, labels, until, errors))
        known = intent_models(settings, until) if models is None else models
        return _said(lake, export(lake, labels, until, EXPORT, known))


@dataclass(frozen=True, slots=True)
class _Trained:
    """An intent artefact, as annotation asks it."""

    name: str
    model: Trained

    def classify(self, texts: Sequence[str]) -> list[tuple[str, float]]:
        """(label, confidence) of each text."""
        answers = map(self.model.answer, texts)
        return [(each.intent, each.confidence) for each in answers]


def intent_models(settings: Settings, until: datetime) -> list[IntentModel]:
    """The live release's intent model, then its words alone where it has an encoder too.

    Where none is live, or the live one saw what was labelled after `until`, the newest that did not.
    """
    store = ArtefactStore(paths.lake(settings))
    live = live_intent(settings, until)
    ref = live[0] if live else store.newest_ref("intent", until=until)
    if ref is None:
        return []
    model = live[1] if live else Trained.load(store.fetch_one("intent", ref.artefact))
    found: list[IntentModel] = [_Trained(f"intent-{ref.artefact.sha256[:12]}", model)]
    if model.words is not None and model.encoder is not None:
        found.append(_Trained(f"{found[0].name}-words", replace(model, encoder=None)))
    return found


def import_annotations(settings: Settings, until: datetime) -> dict[str, Any]:
    """What the dropped files brought, and the version of `intent_examples` that was made of it (None: nothing new).

    A version is made when the newest one of annotations was made of others. `note` says what to do where no
    annotations are left to make one of.

    Raises:
        BadExport, AgreementTooLow: after everything else was taken; the message names each file and batch refused.
    """
    from training.datasets import versions as datasets
    from training.datasets.builder import Inputs
    from training.datasets.intents import INTENT

    lake, shop = paths.lake(settings), load_shop(settings.shop)
    files = sorted(settings.annotation_folder().glob("*.json"))
    with timed(settings, "import", "annotations", until, until, code_revision=code_revision()):
        found = import_files(lake, load_labels(), files, until, IMPORT)
        given = Inputs(lake, shop, shop.window()[0], until)
        inputs = INTENT.digests(given)
        made = [each for each in datasets.versions(lake, INTENT.name) if each.until <= until]
        made = [each for each in made if datasets.of_annotations(each)]
        known = bool(made) and made[-1].inputs == inputs
        version = datasets.build(INTENT, given) if inputs and not known else None
        note = ""
        if made and not inputs:
            homes = ", ".join(datasets.folder(lake, INTENT.name, each.version) for each in made)
            note = f"no annotations are left, so no version can be made; delete {homes} lest they are trained on"
    if found.refused:
        raise type(found.refused[0])("; ".join(str(each) for each in found.refused))
    return {
        "files": len(files),
        "taken": list(found.taken),
        "unchanged": found.unchanged,
        "later": found.later,
        "dataset": version and f"{INTENT.name}/{version.version}",
        "rows": version and version.rows,
        "note": note,
    }


def annotation_status(settings: Settings) -> list[dict[str, Any]]:
    """One row per batch, oldest first: what it holds, whether it is back, how far annotators agreed."""
    lake = paths.lake(settings)
    rows = []
    for each in batches(lake):
        counts = (imported(lake, each.batch) or {"counts": {}})["counts"]
        rows.append(
            {
                "batch": each.batch,
                "kind": each.kind,
                "until": each.until.isoformat(),
                "labels": each.label_set,
                "tasks": each.tasks,
                "labelled": counts.get("labels"),
                "contested": counts.get("contested"),
                "kappa": counts.get("kappa"),
                "folder": folder(lake, each.batch),
            }
        )
    return rows


def _said(lake: paths.Lake, made: Exported) -> dict[str, Any]:
    if made.batch is None:
        return {"batch": None, "note": made.note}
    said = made.batch.model_dump(mode="json", include={"batch", "kind", "label_set", "tasks", "chosen", "sha256"})
    return {**said, "folder": folder(lake, made.batch.batch), "note": made.note}
