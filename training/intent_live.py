"""The intent model that answers now, and whether the newest one may take its place."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

import structlog

from data_contracts.artefact_store import ArtefactRef, ArtefactStore
from data_contracts.errors import ArtefactRefused, UnknownRelease
from data_contracts.release import Manifest
from mercato import paths
from mercato.settings import Settings
from serving.runtime.intent import IntentModel

log = structlog.get_logger()
ARTEFACT: Final = "intent"


def live_intent(settings: Settings, until: datetime) -> tuple[ArtefactRef, IntentModel] | None:
    """The intent model of the release with the greatest weight.

    None where no release is live, the live one has none, it saw labels of `until` or later, or this code cannot load
    it.
    """
    from mercato.stores.routing import routing_store

    document = routing_store(settings).live(settings.shop)
    if document is None:
        return None
    release_id = max(document.weights, key=lambda each: document.weights[each])
    store = ArtefactStore(paths.lake(settings))
    try:
        manifest = store.release(release_id)
        if ARTEFACT not in manifest.identity.artefacts:
            return None
        model = IntentModel.load(store.fetch_one(ARTEFACT, manifest.identity.artefacts[ARTEFACT]))
    except (UnknownRelease, ArtefactRefused) as problem:
        log.warning("live.no_rival", release_id=release_id, problem=f"{type(problem).__name__}: {problem}")
        return None
    ref = _ref(manifest, datetime.fromisoformat(model.meta["fit_until"]))
    return (ref, model) if ref.fit_until <= until else None


def intent_for_release(
    settings: Settings, until: datetime, *, loses: Callable[[Sequence[float], Sequence[float]], bool]
) -> ArtefactRef | None:
    """The newest intent model that saw nothing after `until`, or the live one where the newest `loses` to it.

    Both answer the fixed test messages of the shop-intents set. The metrics of a live one that is kept say so:
    `kept_accuracy` is its own on these messages, `refused_accuracy` the newest one's.

    Args:
        settings: where the lake and the routing document are.
        until: of the release.
        loses: (challenger's, rival's) 1.0 for each message that it got right -> whether the loss is beyond doubt.
    """
    from training.intent_data import annotated, fixed_test
    from training.intent_metrics import judged

    lake = paths.lake(settings)
    store = ArtefactStore(lake)
    newest, live = store.newest_ref(ARTEFACT, until=until), live_intent(settings, until)
    if newest is None or live is None or newest.artefact == live[0].artefact:
        return newest
    ref, model = live
    test = fixed_test(annotated(lake, until))
    challenger = judged(IntentModel.load(store.fetch_one(ARTEFACT, newest.artefact)), test)["right"].astype(float)
    rival = judged(model, test)["right"].astype(float)
    if not loses(challenger.tolist(), rival.tolist()):
        return newest
    found = {"kept_accuracy": float(rival.mean()), "refused_accuracy": float(challenger.mean())}
    log.warning("intent.live_kept", refused=newest.artefact.sha256, kept=ref.artefact.sha256, **found)
    return ref.model_copy(update={"metrics": {**ref.metrics, **found}})


def _ref(manifest: Manifest, fit_until: datetime) -> ArtefactRef:
    """What a release knows of its intent model; the ref that training wrote may have been replaced since."""
    origin = manifest.provenance
    return ArtefactRef(
        name=ARTEFACT,
        artefact=manifest.identity.artefacts[ARTEFACT],
        fit_until=fit_until,
        run_id=origin.runs.get(ARTEFACT, ""),
        dag_run=origin.dag_runs.get(ARTEFACT, ""),
        snapshots={name: each for name, each in origin.snapshots.items() if name.startswith(f"{ARTEFACT}_")},
        metrics={
            name.removeprefix(f"{ARTEFACT}."): each
            for name, each in origin.metrics.items()
            if name.startswith(f"{ARTEFACT}.")
        },
    )
