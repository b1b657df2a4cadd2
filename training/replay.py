"""Replay: build again, in a scratch folder, what would have been built as of D knowing what was known before K."""

from collections.abc import Callable, Collection, Iterable, Mapping
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
from data_contracts.shop import Shop, load_shop
from feature_repo import store as features
from feature_repo.views import VIEWS, view_digest
from mercato import paths
from mercato.errors import MercatoError
from mercato.paths import sha256_file
from mercato.settings import Settings
from mercato.stores.events import microseconds
from mercato.stores.products import product_store
from training import encoder_choice, feedback, jobs, replay_compare, replay_datasets
from training.datasets.recommendation import RECOMMENDATION
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
    sales: bool = False
    """Whether only a shop with sales has it."""


def _features(scratch: Settings, at: datetime) -> Any:
    features.apply(scratch)
    return jobs.snapshot_features(scratch, at)


PARTS: Final[Mapping[str, Part]] = {
    "features": Part(tuple(f"features/{view}" for view in VIEWS), _features, sales=True),
    **{
        model: Part(
            (model,),
            partial(lambda scratch, at, model: jobs.fit_retrieval(scratch, model, at), model=model),
            sales=True,
        )
        for model in ("als", "ease", "user_knn", "co_purchase")
    },
    **{
        name: Part(
            (f"datasets/{name}",), partial(replay_datasets.rebuild, name=name), sales=name == RECOMMENDATION.name
        )
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
        sales=True,
    ),
    **{
        f"ranker_{goal}": Part(
            (f"ranker_{goal}",),
            partial(lambda scratch, at, goal: jobs.train_ranker(scratch, goal, at), goal=goal),
            after=("ranker_rows",),
            sales=True,
        )
        for goal in ("all", "novel")
    },
}
"""Part -> what it makes, in an order in which each comes after its input."""
NOT_REBUILT: Final[Mapping[str, str]] = {
    "search_fusion": "the golden set judges it beside the release that was live then: `rebuild_index` makes it again",
    "intent": "it is trained from labelled messages, for hours where the encoder is: `train_intent` makes it again",
}
"""Artefact of a release that no part makes -> why."""


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
    """Name -> why it could not be built, why a replay does not build it, or what is different from when the recorded
    one was made."""
    not_made: dict[str, list[str]] = field(default_factory=dict)
    """Name -> that none is recorded as of D, and why none could be built today where that is so."""

    @property
    def reproduced(self) -> bool:
        """Whether all that had been made was built and is as recorded, and there was anything of it.

        A note on a contract, or on what no part makes, does not count.
        """
        failed = self.not_reproduced.keys() & {made for part in PARTS.values() for made in part.makes}
        return not failed and bool(self.rebuilt.keys() - self.not_made.keys())


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
        BadConfig: the folder is in use, the shop has no such name, or `as_of` is no midnight of the shop.
        CorruptFile: a clean partition is not the one its manifest names.
    """
    asked = list(only)
    parts = _chosen(load_shop(settings.shop), asked)
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
    if not asked:
        report.not_reproduced.update(replay_datasets.from_files(settings, as_of))
        report.not_reproduced.update(
            {name: [why] for name, why in NOT_REBUILT.items() if _recorded(settings, name, as_of)}
        )
    alike = known_at == as_of
    _build_all(settings, scratch, report, parts, as_of, alike=alike)
    for name in list(report.rebuilt) if alike else ():
        if never := _never_made(settings, name, as_of):
            report.not_made[name] = [never]
            continue
        verdict, why = _compare(settings, scratch, name, report, as_of)
        report.compared.append(asdict(verdict))
        if not verdict.held:
            report.not_reproduced[name] = why
    return report


def _build_all(  # noqa: PLR0913 - two homes
    settings: Settings, scratch: Settings, report: Report, parts: Iterable[str], as_of: datetime, *, alike: bool
) -> None:
    """Build the parts and say which were not; `alike`: K is D, so that what was not made then need not be built now."""
    failed: set[str] = set()
    for name in parts:
        lost = [before for before in PARTS[name].after if before in failed]
        problem, defect = f"its input could not be built: {', '.join(lost)}", False
        if not lost:
            problem, defect = _build(scratch, report, name, _instant(settings, name, as_of))
        if not problem:
            continue
        failed.add(name)
        for made in PARTS[name].makes:
            never = _never_made(settings, made, as_of) if alike and not defect else ""
            if never:
                report.not_made[made] = [never, problem]
            else:
                report.not_reproduced[made] = [problem]


def _check(settings: Settings, folder: Path, as_of: datetime) -> None:
    shop = load_shop(settings.shop)
    if shop.day_start(shop.business_day(as_of)) != as_of:
        raise BadConfig(f"found as_of {as_of.isoformat()}, need a midnight in {shop.zone}: features exist for those")
    if folder.exists() and any(folder.iterdir()):
        raise BadConfig(f"{folder} is not empty: name a new folder, so that nothing of it is mistaken for the replay")


def _chosen(shop: Shop, asked: Collection[str]) -> list[str]:
    """The parts to run of those that the shop has, inputs first."""
    had = {part: each for part, each in PARTS.items() if shop.sells or not each.sales}
    part_of = {made: part for part, each in had.items() for made in (part, *each.makes)}
    unknown = [name for name in asked if name not in part_of]
    if unknown:
        raise BadConfig(f"found {', '.join(unknown)}, need names out of {', '.join(part_of)}")
    wanted = {part_of[name] for name in asked} or set(had)
    while more := {before for part in wanted for before in had[part].after if before in had} - wanted:
        wanted |= more
    return [part for part in had if part in wanted]


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


def _build(scratch: Settings, report: Report, name: str, at: datetime) -> tuple[str, bool]:
    """Run one part and note the hashes of what it made; says why when it made nothing, and if that is a defect."""
    part = PARTS[name]
    try:
        part.job(scratch, at)
    except MercatoError as error:
        return str(error), False
    except Exception as error:  # a defect in one part must not cost the other parts
        log.exception("replay.failed", part=name)
        return f"{type(error).__name__}: {error}; see the log", True
    report.rebuilt |= {made: _recorded(scratch, made, at) for made in part.makes}
    log.info("replay.rebuilt", part=name, **{made: report.rebuilt[made][:12] for made in part.makes})
    return "", False


def _compare(
    settings: Settings, scratch: Settings, name: str, report: Report, as_of: datetime
) -> tuple[Verdict, list[str]]:
    """The verdict on one name, and the reasons when it did not hold."""
    rebuilt, store = report.rebuilt[name], ArtefactStore(paths.lake(settings))
    if "/" in name:
        verdict = replay_compare.by_bytes(name, rebuilt, _recorded(settings, name, as_of))
        return verdict, _rewritten(settings, name, as_of)
    at = _instant(settings, _part_of(name), as_of)
    ref = store.newest_ref(name, until=at)
    assert ref is not None, name  # noqa: S101 - asked by the caller
    why = _changes(settings, ref, at)
    try:
        return replay_compare.artefact(name, rebuilt, ArtefactStore(paths.lake(scratch)), ref, store), why
    except MercatoError as error:
        return replay_compare.by_bytes(name, rebuilt, ref.artefact.sha256), [str(error), *why]


def _part_of(name: str) -> str:
    return next(part for part, each in PARTS.items() if name in each.makes)


def _never_made(settings: Settings, name: str, as_of: datetime) -> str:
    """That nothing is recorded of a name as of D; empty where something is."""
    if "/" in name:
        return "" if _recorded(settings, name, as_of) else "it was not made as of then, or is gone"
    at = _instant(settings, _part_of(name), as_of)
    ref = ArtefactStore(paths.lake(settings)).newest_ref(name, until=at)
    if ref is not None and ref.fit_until == at:
        return ""
    before = f"the newest before is as of {ref.fit_until.isoformat()}" if ref else "nor any before"
    return f"it was not made: none is recorded as of {at.isoformat()}; {before}"


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
        beside = lake.exists(jobs.rows_path(lake, "all", as_of))
        sha256 = feedback.recorded(lake, feedback.DEFAULT, as_of)
        return sha256 if beside or sha256 != feedback.NO_ROWS else ""
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
