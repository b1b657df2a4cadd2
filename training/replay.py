"""Replay: build again, in a scratch folder, what would have been built as of D knowing what was known before K."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog

from data_contracts import partitions
from data_contracts.artefact_store import ArtefactRef, ArtefactStore
from data_contracts.contract import load_contract
from data_contracts.lake import snapshot_digest
from data_contracts.shop import load_shop
from feature_repo import store as features
from feature_repo.views import VIEWS, view_digest
from mercato import paths
from mercato.errors import MercatoError
from mercato.paths import sha256_file
from mercato.settings import Settings
from mercato.stores.events import microseconds
from mercato.stores.products import product_store
from training import encoder_choice, feedback, jobs, replay_compare, replay_datasets
from training.errors import BadConfig
from training.provenance import code_revision, package_versions
from training.replay_compare import Verdict
from training.replay_lake import copy_known

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Part:
    """One step of a replay."""

    makes: tuple[str, ...]
    job: Callable[[Settings, datetime], Any]
    after: tuple[str, ...] = ()


def _features(scratch: Settings, at: datetime) -> Any:
    features.apply(scratch)
    return jobs.snapshot_features(scratch, at)


PARTS: Final[Mapping[str, Part]] = {
    "features": Part(tuple(f"features/{view}" for view in VIEWS), _features),
    **{
        model: Part((model,), partial(lambda scratch, at, model: jobs.fit_retrieval(scratch, model, at), model=model))
        for model in ("als", "ease", "user_knn", "co_purchase")
    },
    **{
        name: Part((f"datasets/{name}",), partial(replay_datasets.rebuild, name=name))
        for name in replay_datasets.FROM_TABLES
    },
    "embeddings": Part(("encoder", "tokenizer", "product_vectors"), jobs.train_embeddings),
    "index": Part(
        ("product_features", "keyword_index", "faiss_index", "query_lexicon"),
        jobs.rebuild_index,
        after=("features", "embeddings"),
    ),
    "ranker_rows": Part(
        tuple(f"datasets/{name}" for name in (feedback.DATASET, "ranker_rows_all", "ranker_rows_novel")),
        jobs.build_ranker_rows,
        after=("features",),
    ),
    **{
        f"ranker_{goal}": Part(
            (f"ranker_{goal}",),
            partial(lambda scratch, at, goal: jobs.train_ranker(scratch, goal, at), goal=goal),
            after=("ranker_rows",),
        )
        for goal in ("all", "novel")
    },
}
"""Part -> what it makes, in an order in which each comes after its input."""


@dataclass(slots=True)
class Report:
    """What a replay made, and what of it is as recorded."""

    as_of: str
    known_at: str
    code_revision: str
    contracts: dict[str, dict[str, Any]]
    """Table -> the contracts that its rows were written under, and the one in force now."""
    rebuilt: dict[str, str] = field(default_factory=dict)
    """Name -> sha256."""
    compared: list[dict[str, Any]] = field(default_factory=list)
    """Each against the recorded one; empty for another K than D, of which nothing is recorded."""
    not_reproduced: dict[str, list[str]] = field(default_factory=dict)
    """Name -> why it could not be built, or what is different from when the recorded one was made."""

    @property
    def reproduced(self) -> bool:
        """Whether all was built and is as recorded; a note on a contract, or on what people made, does not count."""
        return not self.not_reproduced.keys() & {made for part in PARTS.values() for made in part.makes}


def replay(
    settings: Settings, folder: Path, as_of: datetime, known_at: datetime, *, only: Iterable[str] = ()
) -> Report:
    """Hashes of everything rebuilt in `folder`, and how each compares with what is recorded for `as_of`.

    The lake, the online store and MLflow are only read. Of another `known_at` than `as_of` nothing
    is recorded: compare two replays.

    Args:
        settings: where the lake is.
        folder: an empty folder, or none yet.
        as_of: D, a local midnight of the shop; nothing that happened at or after it is seen.
        known_at: K, nothing that became known at or after it is seen; see `training.replay_lake` for K other than D.
        only: names of parts, or of what they make; everything when empty. Their inputs are built too.

    Raises:
        BadConfig: the folder is in use, a name is unknown, or `as_of` is no midnight of the shop.
        CorruptFile: a clean partition is not the one its manifest names.
    """
    parts = _chosen(only)
    _check(settings, folder, as_of)
    scratch = _scratch(settings, folder)
    lake = paths.lake(settings)
    encoder_choice.copy(ArtefactStore(lake), ArtefactStore(paths.lake(scratch)), as_of)
    written = copy_known(lake, paths.lake(scratch), event_before=as_of, known_before=known_at)
    for change in product_store(settings).between(settings.shop, 0, microseconds(known_at)):
        product_store(scratch).add(settings.shop, change)
    report = Report(
        as_of=as_of.isoformat(),
        known_at=known_at.isoformat(),
        code_revision=code_revision(),
        contracts={t: {"rows": under, "now": load_contract(t).label} for t, under in written.items()},
    )
    report.not_reproduced = {
        f"contract/{table}": [f"rows were written under {', '.join(each['rows'])}, and are read under {each['now']}"]
        for table, each in report.contracts.items()
        if each["rows"] != [each["now"]]
    }
    if len(parts) == len(PARTS):
        report.not_reproduced.update(replay_datasets.from_files(settings, as_of))
    failed: set[str] = set()
    for name in parts:
        lost = [before for before in PARTS[name].after if before in failed]
        problem = f"its input could not be built: {', '.join(lost)}" if lost else ""
        problem = problem or _build(scratch, report, name, _instant(settings, name, as_of))
        if problem:
            failed.add(name)
            report.not_reproduced.update({made: [problem] for made in PARTS[name].makes})
    if known_at == as_of:
        for name in [each for part in parts for each in PARTS[part].makes if each in report.rebuilt]:
            verdict, why = _compare(settings, scratch, name, report, as_of)
            report.compared.append(asdict(verdict))
            if not verdict.held:
                report.not_reproduced[name] = why
    return report


def _check(settings: Settings, folder: Path, as_of: datetime) -> None:
    shop = load_shop(settings.shop)
    if shop.day_start(shop.business_day(as_of)) != as_of:
        raise BadConfig(f"found as_of {as_of.isoformat()}, need a midnight in {shop.zone}: features exist for those")
    if folder.exists() and any(folder.iterdir()):
        raise BadConfig(f"{folder} is not empty: name a new folder, so that nothing of it is mistaken for the replay")


def _chosen(only: Iterable[str]) -> list[str]:
    """The parts to run, inputs first."""
    part_of = {made: part for part, each in PARTS.items() for made in (part, *each.makes)}
    asked = list(only)
    unknown = [name for name in asked if name not in part_of]
    if unknown:
        raise BadConfig(f"found {', '.join(unknown)}, need names out of {', '.join(part_of)}")
    wanted = {part_of[name] for name in asked} or set(PARTS)
    while more := {before for part in wanted for before in PARTS[part].after} - wanted:
        wanted |= more
    return [part for part in PARTS if part in wanted]


def _scratch(settings: Settings, folder: Path) -> Settings:
    """Settings under which everything is written below `folder`, and no MLflow run is kept."""
    urls = {name: "" for name in Settings.model_fields if name.endswith("_url")}
    urls["mlflow_url"] = "none"
    return Settings(home=folder, shop=settings.shop, identity_key=settings.identity_key, **urls)  # type: ignore[arg-type]


def _instant(settings: Settings, part: str, as_of: datetime) -> datetime:
    """When a part is as of: the index may have used vectors that were older than it."""
    if part != "embeddings":
        return as_of
    ref = ArtefactStore(paths.lake(settings)).newest_ref("product_vectors", until=as_of)
    return ref.fit_until if ref else as_of


def _build(scratch: Settings, report: Report, name: str, at: datetime) -> str:
    """Run one part and note the hashes of what it made; says why when it made nothing."""
    part = PARTS[name]
    try:
        part.job(scratch, at)
    except MercatoError as error:
        return str(error)
    except Exception as error:  # a defect in one part must not cost the other parts
        log.exception("replay.failed", part=name)
        return f"{type(error).__name__}: {error}; see the log"
    report.rebuilt |= {made: _recorded(scratch, made, at) for made in part.makes}
    log.info("replay.rebuilt", part=name, **{made: report.rebuilt[made][:12] for made in part.makes})
    return ""


def _compare(
    settings: Settings, scratch: Settings, name: str, report: Report, as_of: datetime
) -> tuple[Verdict, list[str]]:
    """The verdict on one name, and the reasons when it did not hold."""
    rebuilt, store = report.rebuilt[name], ArtefactStore(paths.lake(settings))
    if "/" in name:
        recorded = _recorded(settings, name, as_of)
        verdict = replay_compare.by_bytes(name, rebuilt, recorded)
        return verdict, _rewritten(settings, name, as_of) if recorded else ["it was not built as of then, or is gone"]
    part = next(part for part, each in PARTS.items() if name in each.makes)
    at = _instant(settings, part, as_of)
    ref = store.newest_ref(name, until=at)
    if ref is None or ref.fit_until != at:
        before = f"the newest before is as of {ref.fit_until.isoformat()}" if ref else "nor any before"
        return replay_compare.by_bytes(name, rebuilt, ""), [f"none is recorded as of {at.isoformat()}; {before}"]
    why = _changes(settings, ref, at)
    try:
        return replay_compare.artefact(name, rebuilt, ArtefactStore(paths.lake(scratch)), ref, store), why
    except MercatoError as error:
        return replay_compare.by_bytes(name, rebuilt, ref.artefact.sha256), [str(error), *why]


def _recorded(settings: Settings, name: str, as_of: datetime) -> str:
    """sha256 of a snapshot, a dataset or an artefact of a lake; empty when it is not there."""
    lake = paths.lake(settings)
    kind, _, rest = name.partition("/")
    if kind == "features":
        found = partitions.manifest(lake, kind, rest, _day(settings, as_of))
        return found.sha256 if found else ""
    if rest in replay_datasets.FROM_TABLES:
        then = replay_datasets.recorded(settings, rest, as_of)
        return then.sha256 if then else ""
    if rest == feedback.DATASET:
        return feedback.recorded(lake, feedback.DEFAULT, as_of)
    if kind == "datasets":
        path = jobs.rows_path(lake, rest.removeprefix("ranker_rows_"), as_of)
        return sha256_file(lake.local(path)) if lake.exists(path) else ""
    ref = ArtefactStore(lake).newest_ref(name, until=as_of)
    return ref.artefact.sha256 if ref else ""


def _rewritten(settings: Settings, name: str, as_of: datetime) -> list[str]:
    """What is different now from when a snapshot or a dataset was written."""
    lake = paths.lake(settings)
    kind, _, rest = name.partition("/")
    version = replay_datasets.recorded(settings, rest, as_of) if rest in replay_datasets.FROM_TABLES else None
    if version is not None:
        return replay_datasets.changes(settings, version)
    then = partitions.manifest(lake, kind, rest, _day(settings, as_of)) if kind == "features" else None
    if then is None:
        return [f"clean rows, code or packages changed since it was written; {rest} does not say which"]
    why = [
        f"clean/{table} was written anew since, or its contract has another version"
        for table, digest in sorted(then.inputs.items())
        if snapshot_digest(lake, table, event_before=as_of, known_before=as_of) != digest
    ]
    now = f"{rest}@{view_digest(VIEWS[rest])[:12]}"
    if then.contract != now:
        why.append(f"the definition of {rest} was {then.contract}, is {now}")
    return why or ["same rows and definition: the code or a package changed"]


def _day(settings: Settings, at: datetime) -> str:
    return load_shop(settings.shop).business_day(at).isoformat()


def _changes(settings: Settings, ref: ArtefactRef, at: datetime) -> list[str]:
    """What is different now from when an artefact was made."""
    lake = paths.lake(settings)
    why = []
    for table, then in sorted(ref.snapshots.items()):
        if snapshot_digest(lake, table, event_before=at, known_before=at) != then:
            why.append(f"clean/{table} was written anew since, or its contract has another version")
    if not ref.code_revision:
        why.append("it was made before code and package versions were noted beside artefacts")
    elif ref.code_revision != code_revision():
        why.append(f"it was made by the code {ref.code_revision}, this is {code_revision()}")
    now = {table: load_contract(table).version for table in ref.contracts}
    why += _different("contract", ref.contracts, now)
    why += _different("package", ref.packages, package_versions())
    if not lake.exists(lake.path("artefacts", ref.artefact.sha256)):
        why.append("the recorded artefact is missing")
    return why or ["same data, code and packages: it depends on the machine"]


def _different(what: str, then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    changed = [name for name in sorted(then) if now.get(name) != then[name]]
    return [f"{what} {name} was {then[name]}, is {now.get(name, 'not there')}" for name in changed]
