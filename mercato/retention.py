"""Lifetimes: what would go, what stays and why, and letting it go.

The manifest of a partition or a release goes before its data, so that what a kill leaves half-deleted is
no longer read by anybody, and the next run takes the rest. A raw partition's manifest stays: it says that the
day was extracted, and without it a second look at the source would take every row for a late correction.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

import structlog

from data_contracts import partitions
from data_contracts.errors import CorruptFile
from data_contracts.shop import load_shop
from mercato import paths
from mercato.paths import Lake
from mercato.retention_needs import JUST_WRITTEN, Needs, feature_instants, needs, settled
from mercato.settings import Settings
from mercato.stores import impressions

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Item:
    """Something with a lifetime."""

    kind: str
    """raw, quarantine, snapshot, release, ref, artefact, run, impressions or leftover."""
    name: str
    """Path, or id."""
    why: str
    """Why it goes, or why it stays."""
    goes: bool


def plan(settings: Settings, at: datetime) -> list[Item]:
    """Everything that would go at the instant `at`, and everything past its lifetime that stays; nothing is deleted.

    What is younger than its lifetime is not listed. Errors as `retention_needs.needs`.
    """
    return list(_items(settings, paths.lake(settings), at))


def _items(settings: Settings, lake: Lake, at: datetime) -> Iterator[Item]:
    """The plan, found as far as it is asked for: what goes is judged shortly before it goes."""
    kept = needs(settings, at)
    yield from _days(settings, lake, kept, at, layer="raw", days=settings.keep_raw_days)
    yield from _days(settings, lake, kept, at, layer="quarantine", days=settings.keep_quarantine_days)
    yield from _days(settings, lake, kept, at, layer="features", days=settings.keep_snapshots_days)
    kept = needs(settings, at)  # deleting days takes time, in which a release may have been made
    yield from _releases(settings, lake, kept)
    yield from _runs(settings, kept, at)
    yield from _impressions(settings, kept, at)
    yield from _leftovers(lake)


def summary(settings: Settings, items: list[Item]) -> dict[str, Any]:
    """A plan as plain JSON values: lifetimes, what goes, what stays past its lifetime."""
    lifetimes = {
        name: value or "for ever"
        for name in sorted(Settings.model_fields)
        if name.startswith("keep_") and isinstance(value := getattr(settings, name), int)
    }
    return {
        "days": {**lifetimes, "replay_window_days": settings.replay_window_days},
        "goes": [{"kind": each.kind, "name": each.name, "why": each.why} for each in items if each.goes],
        "stays": [{"kind": each.kind, "name": each.name, "why": each.why} for each in items if not each.goes],
    }


def apply(settings: Settings, at: datetime) -> dict[str, int]:
    """How many of each kind went at the instant `at`; a kill leaves the rest for the next run."""
    lake = paths.lake(settings)
    gone: dict[str, int] = {}
    for item in _items(settings, lake, at):
        if item.goes:
            _delete(settings, lake, item, at)
            log.info("retention.deleted", kind=item.kind, name=item.name, why=item.why)
            gone[item.kind] = gone.get(item.kind, 0) + 1
    return gone


def _delete(settings: Settings, lake: Lake, item: Item, at: datetime) -> None:
    if item.kind == "impressions":
        impressions.delete_before(settings, _before(settings, at, settings.keep_impressions_days))
    elif item.kind == "run":
        from training.tracking import delete_run

        delete_run(settings, item.name)
    elif item.kind == "raw":
        lake.fs.rm_file(f"{item.name}/part.parquet")
    elif item.kind in {"quarantine", "snapshot"}:
        for name in ("manifest.json", "part.parquet"):
            if lake.exists(f"{item.name}/{name}"):
                lake.fs.rm_file(f"{item.name}/{name}")
        if lake.exists(item.name):
            lake.fs.rm(item.name, recursive=True)
    else:
        lake.fs.rm_file(item.name)


def _before(settings: Settings, at: datetime, days: int) -> datetime:
    """What is older than this goes: past its lifetime, and outside the replay window."""
    return at - timedelta(days=max(days, settings.replay_window_days))


def _days(  # noqa: PLR0913 - a layer and its lifetime
    settings: Settings, lake: Lake, kept: Needs, at: datetime, *, layer: str, days: int
) -> Iterator[Item]:
    """Partitions past their lifetime; one that a kill left without its manifest too."""
    if not days:
        return
    shop = load_shop(settings.shop)
    first, window = shop.business_day(at - timedelta(days=days)), shop.business_day(kept.window_since)
    kind = "snapshot" if layer == "features" else layer
    found = sorted(
        str(PurePosixPath(path).parent) for path in lake.fs.glob(lake.path(layer, "*", "ds=*", "part.parquet"))
    )
    newest = {PurePosixPath(path).parent.name: path for path in found}
    instants: dict[datetime, str] = {}
    for path in found:
        day = date.fromisoformat(PurePosixPath(path).name.removeprefix("ds="))
        if day >= first:
            continue
        why = ""
        if day >= window:
            why = f"a replay may be as of {kept.window_since.date()} or later (MERCATO_REPLAY_WINDOW_DAYS)"
        elif kind == "snapshot" and newest[PurePosixPath(path).parent.name] == path:
            why = "the newest of its view: what is online came from it"
        elif kind == "snapshot":
            instants = instants or feature_instants(settings, kept.fits)
            as_of = instants.get(shop.day_start(day))
            why = f"{as_of} was made as of it, or learned from it" if as_of else _named(lake, kept, PurePosixPath(path))
        yield Item(kind, path, why or f"older than {days} days", goes=not why)


def _named(lake: Lake, kept: Needs, path: PurePosixPath) -> str:
    """Why the provenance of a kept release keeps a snapshot, or nothing."""
    try:
        found = partitions.manifest(lake, "features", path.parent.name, path.name.removeprefix("ds="))
    except CorruptFile:
        return ""
    read = {found.sha256, *found.inputs.values()} if found else set()
    named = sorted(kept.digests[each] for each in read & set(kept.digests))
    return f"the provenance of {named[0]} names its data" if named else ""


def _releases(settings: Settings, lake: Lake, kept: Needs) -> Iterator[Item]:
    """Releases, then refs, then the artefacts that neither names any more."""
    if not settings.keep_releases_days:
        return
    old = f"older than {settings.keep_releases_days} days"
    for path in sorted(str(each) for each in lake.fs.glob(lake.path("releases", "r-*.json"))):
        release_id = PurePosixPath(path).stem
        why = kept.releases.get(release_id, "")
        yield Item("release", path, why or old, goes=not why)
        beside = lake.path("releases", "evaluations", f"{release_id}.json")
        if not why and lake.exists(beside):
            yield Item("release", beside, old, goes=True)
    for path in sorted(str(each) for each in lake.fs.glob(lake.path("artefacts", "refs", "*", "*.json"))):
        why = kept.refs.get(path, "")
        yield Item("ref", path, why or old, goes=not why)
    for path in sorted(str(each) for each in lake.fs.glob(lake.path("artefacts", "*"))):
        name = PurePosixPath(path).name
        if len(name) == 64 and name not in kept.artefacts:  # noqa: PLR2004 - hex digits of SHA-256
            goes = settled(lake, path)
            yield Item("artefact", path, "in no kept release" if goes else JUST_WRITTEN, goes=goes)


def _runs(settings: Settings, kept: Needs, at: datetime) -> Iterator[Item]:
    if not settings.keep_runs_days:
        return
    from training.tracking import runs_before

    for run_id, name in sorted(runs_before(settings, _before(settings, at, settings.keep_runs_days)).items()):
        why = kept.runs.get(run_id, "")
        yield Item("run", run_id, why or f"{name}, older than {settings.keep_runs_days} days", goes=not why)


def _impressions(settings: Settings, kept: Needs, at: datetime) -> Iterator[Item]:
    if not settings.keep_impressions_days:
        return
    limit = _before(settings, at, settings.keep_impressions_days)
    old = impressions.count_before(settings, at - timedelta(days=settings.keep_impressions_days))
    count = impressions.count_before(settings, limit)
    if count:
        yield Item("impressions", f"{count} rows known before {limit.isoformat()}", "past their lifetime", goes=True)
    if old > count:
        why = f"a replay may be as of {kept.window_since.date()} or later (MERCATO_REPLAY_WINDOW_DAYS)"
        yield Item("impressions", f"{old - count} rows known since {limit.isoformat()}", why, goes=False)


def _leftovers(lake: Lake) -> Iterator[Item]:
    """Files that a killed run had written aside."""
    for path in sorted(str(each) for each in lake.fs.find(lake.aside())):
        if settled(lake, path):
            yield Item("leftover", path, "written aside over a day ago and never put in place", goes=True)
