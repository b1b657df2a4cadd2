"""What may not go, however old it is: the live release, the one to roll back to, and what a replay may ask for."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Final

from data_contracts.artefact_store import ArtefactRef, ArtefactStore
from data_contracts.errors import ArtefactRefused
from data_contracts.release import Manifest
from mercato import paths
from mercato.clock import real
from mercato.paths import Lake
from mercato.settings import Settings
from mercato.stores.routing import RoutingDocument, routing_store

JUST_WRITTEN: Final = "written within the last day"
"""Why something stays that a run at work may be about to name."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What stays because something else needs it; each value says what."""

    window_since: datetime
    """First instant that a replay may be as of."""
    releases: dict[str, str]
    """Release -> why it stays."""
    refs: dict[str, str]
    """Path of a ref -> why it stays."""
    artefacts: set[str]
    """sha256 of every artefact of a kept release or ref."""
    digests: dict[str, str]
    """Digest of data read -> the kept release whose provenance names it."""
    fits: dict[datetime, str]
    """Instant that a kept release is as of -> that release."""
    runs: dict[str, str]
    """MLflow run -> the kept release or ref that it made."""


def needs(settings: Settings, at: datetime) -> Needs:
    """What stays at the instant `at`.

    Raises:
        ArtefactRefused: releases are there and no routing document: nobody can say which one is live.
        StoreUnavailable: the routing store does not answer; then nothing goes.
    """
    store = ArtefactStore(paths.lake(settings))
    window_since = at - timedelta(days=settings.replay_window_days)
    manifests = {each: store.release(each) for each in store.release_ids()}
    history = routing_store(settings).history(settings.shop)
    if manifests and not history and settings.keep_releases_days:
        raise ArtefactRefused(
            f"found {len(manifests)} releases and no routing document of {settings.shop}: it cannot be told which one "
            "is live, so nothing was deleted; check MERCATO_STORE_URL, or run `mercato release make-live`"
        )
    since = at - timedelta(days=settings.keep_releases_days)
    kept = _kept_releases(settings, manifests, history, since, window_since)
    kept |= {
        each: JUST_WRITTEN for each in manifests.keys() - kept if not settled(store.lake, store.release_path(each))
    }
    chosen = [manifests[each] for each in kept]
    in_releases = {each.sha256: m.release_id for m in chosen for each in m.identity.artefacts.values()}
    refs = _refs(store)
    kept_refs = _kept_refs(settings, refs, in_releases, since, window_since)
    kept_refs |= {path: JUST_WRITTEN for path in refs.keys() - kept_refs if not settled(store.lake, path)}
    return Needs(
        window_since=window_since,
        releases=kept,
        refs=kept_refs,
        artefacts={*in_releases, *(refs[path].artefact.sha256 for path in kept_refs)},
        digests={digest: m.release_id for m in chosen for digest in m.provenance.snapshots.values()},
        fits={m.provenance.fit_until: m.release_id for m in chosen},
        runs={
            **{refs[path].run_id: f"made {refs[path].name} that is kept" for path in kept_refs},
            **{run: f"made {name} of {m.release_id}" for m in chosen for name, run in m.provenance.runs.items()},
        },
    )


def _kept_releases(
    settings: Settings,
    manifests: dict[str, Manifest],
    history: list[RoutingDocument],
    since: datetime,
    window_since: datetime,
) -> dict[str, str]:
    live = set(history[-1].weights) if history else set()
    before = next((set(each.weights) for each in reversed(history) if set(each.weights) != live), set())
    kept = {}
    for release_id, made in manifests.items():
        last = _last_needed(release_id, made, history)
        if release_id in live:
            kept[release_id] = "live"
        elif release_id in before:
            kept[release_id] = "the release to roll back to"
        elif not settings.keep_releases_days:
            kept[release_id] = "kept for ever: MERCATO_KEEP_RELEASES_DAYS is 0"
        elif last >= since:
            kept[release_id] = f"needed until {last.isoformat()}, younger than MERCATO_KEEP_RELEASES_DAYS"
        elif last >= window_since:
            kept[release_id] = f"needed until {last.isoformat()}, within MERCATO_REPLAY_WINDOW_DAYS"
    return kept


def _last_needed(release_id: str, made: Manifest, history: list[RoutingDocument]) -> datetime:
    """When a release stopped answering; its fit when it never answered."""
    ends = [after.written_at for each, after in pairwise(history) if release_id in each.weights]
    return max([made.provenance.fit_until, *ends])


def _refs(store: ArtefactStore) -> dict[str, ArtefactRef]:
    found = sorted(str(path) for path in store.lake.fs.glob(store.lake.path("artefacts", "refs", "*", "*.json")))
    return {path: ArtefactRef.model_validate(store.lake.read_json(path)) for path in found}


def _kept_refs(
    settings: Settings, refs: dict[str, ArtefactRef], in_releases: dict[str, str], since: datetime, window: datetime
) -> dict[str, str]:
    newest = {PurePosixPath(path).parent.name: path for path in refs}
    first = {PurePosixPath(path).parent.name: path for path, ref in refs.items() if ref.fit_until <= window}
    kept = {}
    for path, ref in refs.items():
        if newest[PurePosixPath(path).parent.name] == path:
            kept[path] = "the newest of its name"
        elif ref.artefact.sha256 in in_releases:
            kept[path] = f"its artefact is part of {in_releases[ref.artefact.sha256]}"
        elif not settings.keep_releases_days:
            kept[path] = "kept for ever: MERCATO_KEEP_RELEASES_DAYS is 0"
        elif ref.fit_until >= min(since, window):
            kept[path] = "younger than MERCATO_KEEP_RELEASES_DAYS or within MERCATO_REPLAY_WINDOW_DAYS"
        elif path in first.values():
            kept[path] = f"the newest for a replay as of {window.date()} (MERCATO_REPLAY_WINDOW_DAYS)"
    return kept


def settled(lake: Lake, path: str) -> bool:
    """Whether a file was last written more than a day ago; the machine's clock, since files bear its time.

    One that a run put in place meanwhile is not.
    """
    try:
        written: datetime = lake.fs.modified(path)
    except FileNotFoundError:
        return False
    written = written if written.tzinfo else written.replace(tzinfo=UTC)
    return real() - written > timedelta(days=1)


def feature_instants(settings: Settings, fits: Mapping[datetime, str]) -> dict[datetime, str]:
    """Instants that features of the kept releases are as of: their fit, and the beginnings of the label windows that
    their rankers learned from.
    """
    from training.fit import label_start
    from training.ranker import NOVEL_WINDOWS

    found: dict[datetime, str] = {}
    for fit, release_id in fits.items():
        at = fit
        for _ in range(NOVEL_WINDOWS + 1):
            found[at.astimezone(UTC)] = release_id
            at = label_start(settings, at)
    return found
