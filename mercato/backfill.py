"""Backfill: what a window lacks, what it would cost, and doing it in the order in which it can be done.

The lake itself says what is done, so a run that was killed goes on where it stopped: what is whole and made from
the same input under the same contract is left alone.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

import structlog
from filelock import FileLock, Timeout

from data_contracts import partitions
from data_contracts.contract import cleaning_order, load_contract
from data_contracts.errors import ContractError, CorruptFile
from data_contracts.lake import snapshot_digest
from data_contracts.partitions import Manifest
from data_contracts.shop import Shop, load_shop
from mercato import paths
from mercato.errors import TransientError
from mercato.paths import Lake
from mercato.settings import Settings
from mercato.stores import steps

EXTRACT, CLEAN, SNAPSHOT = "extract", "clean", "snapshot"
DAGS: Final = {"extract_sources": EXTRACT, "clean_tables": CLEAN, "materialize_features": SNAPSHOT}
"""DAG -> the step that it does for every table."""
FEATURES: Final = "features"
"""Stands for all feature views: they are one step."""
CHUNK_DAYS: Final = 31
"""Days that one call of a job brings into place together."""
PAST_RUNS: Final = 50
"""Newest runs that an estimate looks at."""
log = structlog.get_logger()


class UnknownTarget(ContractError):
    """A name that is neither a table of the shop nor a DAG that can be backfilled here."""


class BackfillRunning(TransientError):
    """Another backfill of the same shop is at work."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One step of one table: the state of each day of the window."""

    step: str
    table: str
    present: list[str]
    """Days that are whole, of the same input and contract: left alone."""
    missing: list[str]
    changed: dict[str, str]
    """Day that would be overwritten -> why."""
    empty: list[str]
    """Days that were extracted and had no rows."""
    no_input: list[str]
    """Days whose raw partition is missing, and which this backfill does not extract, or was let go."""
    seconds: float | None
    """Estimate from past runs; None when there was none, 0 when nothing is to be done."""

    def days(self) -> list[date]:
        """The days to do, ascending."""
        return sorted(date.fromisoformat(day) for day in (*self.missing, *self.changed))


@dataclass(frozen=True, slots=True)
class Plan:
    """What a backfill would do, in order."""

    shop: str
    since: datetime
    until: datetime
    pieces: list[Piece]
    partitions: int
    """To be written."""
    overwrites: int
    """Of these, the ones that replace another one."""
    seconds: float
    """Estimate of all pieces that have one."""
    without_estimate: list[str]
    code_revision: str
    contracts: dict[str, str]
    """Table -> contract in force; feature view -> its definition."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "since": self.since.isoformat(), "until": self.until.isoformat()}


def plan(settings: Settings, targets: Sequence[str], since: datetime, until: datetime, *, redo: bool = False) -> Plan:
    """What is missing or changed in [since, until), in the order in which it would be made; nothing is written.

    Args:
        settings: where the lake is.
        targets: tables of the shop (extracted and cleaned), or DAG ids (see `DAGS`).
        since: local midnight of the shop.
        until: a later one.
        redo: count clean partitions and snapshots that are whole as changed too, and look again at days that had
            no rows when they were extracted.

    Raises:
        UnknownTarget: a target is neither.
        NoWindow: the window is not whole business days.
    """
    from training.provenance import code_revision

    shop = load_shop(settings.shop)
    days = shop.whole_days(since, until)
    wanted = _wanted(shop, targets)
    extracted = {table for step, table in wanted if step == EXTRACT}
    pieces: list[Piece] = []
    for step, table in wanted:
        before = any(piece.days() for piece in pieces if piece.step == CLEAN)
        pieces.append(_piece(settings, step, table, days, extracted=table in extracted, stale=before, redo=redo))
    to_do = [piece for piece in pieces if piece.days()]
    return Plan(
        shop=shop.name,
        since=since,
        until=until,
        pieces=pieces,
        partitions=sum(len(piece.days()) for piece in to_do),
        overwrites=sum(len(piece.changed) for piece in to_do),
        seconds=round(sum(piece.seconds or 0 for piece in to_do), 1),
        without_estimate=[f"{piece.step} {piece.table}" for piece in to_do if piece.seconds is None],
        code_revision=code_revision(),
        contracts={name: label for _, table in sorted(wanted) for name, label in _labels(table).items()},
    )


def _labels(table: str) -> dict[str, str]:
    """Table -> the contract in force; of `FEATURES` each view -> its definition, as its partitions name it."""
    from feature_repo.views import VIEWS, view_digest

    if table != FEATURES:
        return {table: load_contract(table).label}
    return {name: f"{name}@{view_digest(view)[:12]}" for name, view in VIEWS.items()}


Progress = Callable[[str, int, int], None]
"""Told after each chunk: what was done, days done so far, days in all."""


def run(  # noqa: PLR0913 - a window, and how to run it
    settings: Settings,
    targets: Sequence[str],
    since: datetime,
    until: datetime,
    *,
    redo: bool = False,
    progress: Progress = lambda *_: None,
) -> dict[str, Any]:
    """Partitions made and rows written per step and table; arguments and errors as `plan`, and those of the jobs.

    Raises:
        BackfillRunning: another one of this shop is at work.
    """
    settings.root.mkdir(parents=True, exist_ok=True)
    lock = settings.root / f"backfill-{settings.shop}.lock"
    try:
        with FileLock(lock, timeout=0):
            return _run(settings, plan(settings, targets, since, until, redo=redo), redo=redo, progress=progress)
    except Timeout:
        raise BackfillRunning(
            f"another backfill of {settings.shop} is at work (it holds {lock}): wait until it ends, then run this "
            "again; what the other one made is not made twice"
        ) from None


def _run(settings: Settings, foreseen: Plan, *, redo: bool, progress: Progress) -> dict[str, Any]:
    shop = load_shop(settings.shop)
    days = shop.whole_days(foreseen.since, foreseen.until)
    total, done, made = foreseen.partitions, 0, []
    for each in foreseen.pieces:
        # Looked at again now: the pieces before may have made its input, or made it no different.
        piece = _piece(settings, each.step, each.table, days, extracted=False, stale=False, redo=redo)
        for first, last in _chunks(piece.days()):
            result = _do(settings, shop, piece, first, last)
            done += (last - first).days + 1
            label = f"{piece.step} {piece.table} {first}..{last}"
            made.append({"step": piece.step, "table": piece.table, "first": str(first), "last": str(last), **result})
            log.info("backfill.chunk", what=label, done=done, total=total)
            progress(label, min(done, total), total)
    progress("done", total, total)
    return {"days": done, "code_revision": foreseen.code_revision, "contracts": foreseen.contracts, "chunks": made}


def _do(settings: Settings, shop: Shop, piece: Piece, first: date, last: date) -> dict[str, int]:
    """Rows that one chunk wrote."""
    from training import jobs

    since, until = shop.day_start(first), shop.day_bounds(last)[1]
    if piece.step == SNAPSHOT:
        ends = [shop.day_bounds(day)[1] for day in shop.whole_days(since, until)]
        return {"rows": sum(sum(jobs.snapshot_features(settings, end).values()) for end in ends)}
    job, count = (jobs.extract_table, "rows") if piece.step == EXTRACT else (jobs.clean_table, "clean_rows")
    return {"rows": int(job(settings, piece.table, since, until)[count])}


def _wanted(shop: Shop, targets: Sequence[str]) -> list[tuple[str, str]]:
    """(step, table) in an order in which each comes after its input."""
    known = [*shop.tables, *DAGS]
    unknown = [each for each in targets if each not in known]
    if unknown or not targets:
        raise UnknownTarget(
            f"found {', '.join(unknown) or 'no name'}, need tables or DAGs out of {', '.join(known)}; models have no "
            "partitions: start their DAG with `until`, or run mercato replay"
        )
    whole = {DAGS[each] for each in targets if each in DAGS}
    tables = {each for each in targets if each in shop.tables}
    order = cleaning_order(shop.tables)
    extracts = [(EXTRACT, table) for table in order if table in tables or EXTRACT in whole]
    cleans = [(CLEAN, table) for table in order if table in tables or CLEAN in whole]
    return [*extracts, *cleans, *([(SNAPSHOT, FEATURES)] if SNAPSHOT in whole else [])]


def _piece(  # noqa: PLR0913
    settings: Settings, step: str, table: str, days: list[date], *, extracted: bool, stale: bool, redo: bool
) -> Piece:
    """The state of one step; `extracted`: its raw days come before it, `stale`: so do clean days it reads."""
    lake = paths.lake(settings)
    missing: list[str] = []
    there: list[str] = []
    empty: list[str] = []
    no_input: list[str] = []
    changed: dict[str, str] = {}
    read = _features_read(lake) if step == SNAPSHOT else {}
    silent = set() if redo or step == SNAPSHOT else partitions.quiet_days(lake, table)
    for day in days:
        if step == EXTRACT:
            state = _raw(lake, table, day)
        elif step == CLEAN:
            state = _clean(lake, table, day, redo=redo)
        else:
            state = _snapshot(lake, day, read, stale=stale, redo=redo)
        if state == _NO_INPUT and extracted and day not in silent:
            state = _MISSING
        if day in silent and state == (_MISSING if step == EXTRACT else _NO_INPUT):
            empty.append(day.isoformat())
        elif state == _MISSING:
            missing.append(day.isoformat())
        elif state in {_NO_INPUT, _LET_GO}:
            no_input.append(day.isoformat())
        elif state == _PRESENT:
            there.append(day.isoformat())
        else:
            changed[day.isoformat()] = state
    n = len(missing) + len(changed)
    return Piece(step, table, there, missing, changed, empty, no_input, _estimate(settings, step, table, n))


_PRESENT, _MISSING, _NO_INPUT, _LET_GO = "present", "missing", "no input", "let go"


def _raw(lake: Lake, table: str, day: date) -> str:
    """Present when the day was extracted whole: raw is written once, and looked over again only when asked."""
    found = partitions.manifest(lake, "raw", table, day.isoformat())
    return _PRESENT if found and found.history else _MISSING


def _clean(lake: Lake, table: str, day: date, *, redo: bool) -> str:
    raw = partitions.manifest(lake, "raw", table, day.isoformat())
    if raw is None:
        return _NO_INPUT
    found = partitions.manifest(lake, "clean", table, day.isoformat())
    label = load_contract(table).label
    if found is None:
        state = _MISSING
    elif found.inputs.get("raw") != raw.sha256:
        state = "its raw partition is another one now"
    elif found.contract != label:
        state = f"it was written under {found.contract}, in force is {label}"
    else:
        state = _whole(lake, found) or ("asked for" if redo else _PRESENT)
    return _LET_GO if state != _PRESENT and day in partitions.let_go(lake, "raw", table) else state


def _features_read(lake: Lake) -> dict[str, list[Manifest]]:
    """Clean table that a feature view reads -> its manifests."""
    from feature_repo.views import VIEWS

    return {
        name: partitions.manifests(lake, "clean", name)
        for name in sorted({name for view in VIEWS.values() for name in view.reads})
    }


def _snapshot(lake: Lake, day: date, read: dict[str, list[Manifest]], *, stale: bool, redo: bool) -> str:
    """The state of the snapshots at the end of `day`; `read`: see `_features_read`."""
    from feature_repo.views import VIEWS

    shop, definitions = load_shop(lake.shop), _labels(FEATURES)
    at = shop.day_start(day + timedelta(days=1))
    inputs = {
        name: snapshot_digest(lake, name, event_before=at, known_before=at, among=there) for name, there in read.items()
    }
    reasons = []
    for view in VIEWS.values():
        found = partitions.manifest(lake, "features", view.name, (day + timedelta(days=1)).isoformat())
        if found is None:
            return _MISSING
        if found.contract != definitions[view.name]:
            reasons.append(f"the definition of {view.name} changed")
        reasons += [f"clean/{name} changed" for name in view.reads if found.inputs.get(name) != inputs[name]]
        reasons += [reason for reason in [_whole(lake, found)] if reason]
    if stale:
        reasons.append("clean days before it are made again")
    if redo:
        reasons.append("asked for")
    return "; ".join(dict.fromkeys(reasons)) or _PRESENT


def _whole(lake: Lake, found: Manifest) -> str:
    """Empty when the partition's file is the size that its manifest says, else the reason to make it again."""
    try:
        partitions.part_path(lake, found)
    except CorruptFile:
        return "its file was cut short"
    return ""


def _estimate(settings: Settings, step: str, table: str, days: int) -> float | None:
    """Seconds for `days` days in chunks, from a line through past runs: a part per call and a part per day."""
    if not days:
        return 0.0
    past = steps.finished(settings, step, table)[-PAST_RUNS:]
    if not past:
        return None
    if step == SNAPSHOT or len({each.days for each in past}) == 1:
        return round(days * sum(each.seconds for each in past) / sum(max(each.days, 1) for each in past), 1)
    line = statistics.linear_regression([each.days for each in past], [each.seconds for each in past])
    per_day, per_call = max(line.slope, 0.0), max(line.intercept, 0.0)
    return round(-(-days // CHUNK_DAYS) * per_call + days * per_day, 1)


def _chunks(days: list[date]) -> list[tuple[date, date]]:
    """(first, last) of runs of consecutive days, at most CHUNK_DAYS each."""
    found: list[tuple[date, date]] = []
    for day in days:
        if found and day - found[-1][1] == timedelta(days=1) and (day - found[-1][0]).days < CHUNK_DAYS:
            found[-1] = (found[-1][0], day)
        else:
            found.append((day, day))
    return found
