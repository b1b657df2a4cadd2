"""Lifetimes: what is past them goes, unless a live release, the one to roll back to, or a replay needs it."""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from data_contracts import partitions
from data_contracts.artefact_store import ArtefactRef, ArtefactStore
from data_contracts.errors import ArtefactRefused
from data_contracts.release import Kind, Manifest, Provenance, ReleaseIdentity
from data_contracts.shop import load_shop
from mercato import backfill, paths, retention
from mercato.paths import Lake
from mercato.settings import Settings
from mercato.stores.impressions import STEPS, impressions_url
from mercato.stores.migrations import open_sqlite
from mercato.stores.routing import TOTAL_WEIGHT, routing_store
from tests.lake_maker import MONDAY, NOON, days, hand_shop, line, tree
from training import tracking
from training.errors import RawLetGo
from training.extract import extract

SHOP = load_shop("complete_journey")
NOW = SHOP.day_start(date(2018, 1, 1))
FIT = {"a": date(2017, 2, 6), "b": date(2017, 5, 1), "c": date(2017, 6, 5), "d": date(2017, 12, 4)}
"""Days that four releases are as of; only d is within the replay window."""
LIFETIMES = {f"keep_{kind}_days": 30 for kind in ("raw", "quarantine", "snapshots", "impressions", "releases", "runs")}


def put_day(lake: Lake, layer: str, table: str, day: date, inputs: dict[str, str] | None = None) -> Path:
    """One small partition."""
    frame = pa.table({"event_time": pa.array([NOW], pa.timestamp("us", "UTC"))})
    data = partitions.encode(frame)
    known = {"table": table, "layer": layer, "ds": day, "contract": f"{table}@1.0.0", "inputs": inputs or {}}
    with partitions.writing(lake) as out:
        out.put(data, partitions.describe(frame, data, **known))
    return Path(lake.partition(layer, table, day.isoformat()))


def put_release(store: ArtefactStore, folder: Path, name: str, runs: dict[str, str]) -> Manifest:
    """A release of one artefact of its own, fitted at FIT[name], with its ref."""
    file = folder / name
    file.write_text(name)
    artefact = store.put(file, Kind.JSON)
    at = SHOP.day_start(FIT[name])
    store.write_ref(
        ArtefactRef(name="als", artefact=artefact, fit_until=at, run_id=runs[name], snapshots={"transactions": name})
    )
    made = Manifest.of(
        ReleaseIdentity(shop=SHOP.name, artefacts={"als": artefact}, feature_services={}, contracts={}),
        Provenance(
            runs={"als": runs[name]}, snapshots={"transactions": name}, fit_until=at, code_revision="x", dag_runs={}
        ),
    )
    store.save_release(made)
    return made


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Every lifetime is 30 days, the replay window 60."""
    return Settings(home=tmp_path / "home", replay_window_days=60, **LIFETIMES)


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return paths.lake(settings)


@pytest.fixture
def releases(settings: Settings, lake: Lake, tmp_path: Path) -> Iterator[dict[str, Manifest]]:
    """Releases a to d: a answered until May, then b, then c which is live; d never answered."""
    store = ArtefactStore(lake)
    made = {name: put_release(store, tmp_path, name, {each: f"run-{each}" for each in FIT}) for name in FIT}
    routing = routing_store(settings)
    for seen, name in enumerate("abc"):
        weights = {made[name].release_id: TOTAL_WEIGHT}
        at = SHOP.day_start(FIT[name]) + timedelta(hours=1)
        routing.write(settings.shop, seen=seen, weights=weights, salt="s", reason="test", at=at)
    for path in (*Path(lake.path("artefacts")).rglob("*"), *Path(lake.path("releases")).glob("*")):
        age(path)
    yield made
    routing._engine.dispose()


def age(path: Path) -> None:
    """Let a file look two days old to the machine's clock."""
    then = time.time() - 2 * 86_400
    os.utime(path, (then, then))


def names(items: list[retention.Item], kind: str, *, goes: bool) -> list[str]:
    return [Path(each.name).name for each in items if each.kind == kind and each.goes == goes]


def test_nothing_goes_unless_a_lifetime_is_set(tmp_path: Path) -> None:
    """The defaults keep everything for ever."""
    settings = Settings(home=tmp_path)
    put_day(paths.lake(settings), "raw", "transactions", date(2017, 1, 1))
    assert retention.plan(settings, NOW) == []
    assert retention.summary(settings, [])["days"]["keep_raw_days"] == "for ever"


def test_days_past_their_lifetime_go_and_the_replay_window_stays(settings: Settings, lake: Lake) -> None:
    """Of raw and quarantine: 61 days old goes, 59 days old stays for replays, 29 days old is not even listed."""
    old, in_window, young = (date(2018, 1, 1) - timedelta(days=n) for n in (61, 59, 29))
    folders = {(lay, d): put_day(lake, lay, "products", d) for lay in ("raw", "quarantine") for d in (old, in_window)}
    put_day(lake, "raw", "products", young)
    kept = put_day(lake, "clean", "products", old)
    items = retention.plan(settings, NOW)
    assert names(items, "raw", goes=True) == [f"ds={old}"]
    assert names(items, "raw", goes=False) == [f"ds={in_window}"]
    assert retention.apply(settings, NOW) == {"raw": 1, "quarantine": 1}
    assert {key for key, folder in folders.items() if (folder / "part.parquet").exists()} == {
        ("raw", in_window),
        ("quarantine", in_window),
    }
    assert partitions.let_go(lake, "raw", "products") == [old], "its manifest is left to say so"
    assert kept.exists(), "clean has no lifetime"
    assert retention.apply(settings, NOW) == {}


def test_raw_days_let_go_are_not_looked_over_again(settings: Settings, lake: Lake, tmp_path: Path) -> None:
    """Of two raw days one is let go: the source's rows of it would all come back as corrections, so looking over it is
    refused, again or with an overlap that reaches into it; the day that is there can be looked over, and a backfill
    takes both as made.
    """
    shop = hand_shop(tmp_path / "source", [line(1), line(2, at=NOON + timedelta(days=1))])
    both, second = days(MONDAY, 2, shop), days(MONDAY + timedelta(days=1), 1, shop)
    extract(lake, shop, "transactions", **both)
    at = MONDAY + timedelta(days=61, hours=1)
    assert retention.apply(settings, at) == {"raw": 1}
    left = tree(lake)
    refusal = (
        "needs its raw days 2017-03-06 to 2017-03-07 .* 1 of them, 2017-03-06 .*MERCATO_KEEP_RAW_DAYS; begin later"
    )
    for window in ({**both, "observed_at": at}, both):
        with pytest.raises(RawLetGo, match=refusal):
            extract(lake, shop, "transactions", **window)
    late = shop.tables["transactions"].known_at.model_copy(update={"overlap": timedelta(hours=1)})
    overlapping = shop.tables["transactions"].model_copy(update={"known_at": late})
    with pytest.raises(RawLetGo, match="overlap: 1:00:00"):
        extract(lake, shop.model_copy(update={"tables": {"transactions": overlapping}}), "transactions", **second)
    assert extract(lake, shop, "transactions", **second, observed_at=at).new_rows == 0
    assert tree(lake) == left
    plan = backfill.plan(settings, ["transactions"], *both.values())
    assert [(each.step, each.present, each.no_input) for each in plan.pieces] == [
        ("extract", ["2017-03-06", "2017-03-07"], []), ("clean", [], ["2017-03-06"]),
    ]  # fmt: skip
    assert retention.apply(settings, at) == {}


def test_the_live_release_the_one_before_and_replayable_ones_stay(
    settings: Settings, lake: Lake, releases: dict[str, Manifest]
) -> None:
    """C is live, b is the rollback, d is in the replay window: only a goes, with its ref and its artefact."""
    retention.apply(settings, NOW)
    store = ArtefactStore(lake)
    assert store.release_ids() == sorted(releases[name].release_id for name in "bcd")
    for name in "bcd":
        assert set(store.fetch(releases[name])) == {"als"}
    assert not lake.exists(lake.path("artefacts", releases["a"].identity.artefacts["als"].sha256))
    why = {Path(each.name).stem: each.why for each in retention.plan(settings, NOW) if each.kind == "release"}
    assert why[releases["c"].release_id] == "live"
    assert why[releases["b"].release_id] == "the release to roll back to"


def test_a_release_with_any_weight_is_live(settings: Settings, releases: dict[str, Manifest]) -> None:
    """A candidate at 5 % beside the champion needs its artefacts too; what both replaced stays to roll back to."""
    weights = {releases["c"].release_id: 9_500, releases["a"].release_id: 500}
    routing_store(settings).write(settings.shop, seen=3, weights=weights, salt="s", reason="canary", at=NOW)
    why = {Path(each.name).stem: each.why for each in retention.plan(settings, NOW) if each.kind == "release"}
    assert why[releases["a"].release_id] == "live"
    assert not [each for each in retention.plan(settings, NOW) if each.goes and each.kind == "release" and
                Path(each.name).stem in {releases["a"].release_id, releases["c"].release_id}]  # fmt: skip


def test_nothing_goes_when_nobody_can_say_what_is_live(
    settings: Settings, releases: dict[str, Manifest], tmp_path: Path
) -> None:
    """An empty routing store beside releases is a wrong setting, not a reason to delete them all."""
    lost = settings.model_copy(update={"store_url": f"sqlite:///{tmp_path}/other.db"})
    with pytest.raises(ArtefactRefused, match="cannot be told which one is live"):
        retention.apply(lost, NOW)


def test_an_artefact_just_written_stays(settings: Settings, lake: Lake, tmp_path: Path) -> None:
    """A training run stores the file before its ref: between the two nobody names it."""
    (tmp_path / "x").write_text("x")
    artefact = ArtefactStore(lake).put(tmp_path / "x", Kind.JSON)
    assert names(retention.plan(settings, NOW), "artefact", goes=False) == [artefact.sha256]
    age(Path(lake.path("artefacts", artefact.sha256)))
    assert names(retention.plan(settings, NOW), "artefact", goes=True) == [artefact.sha256]


def test_a_release_just_made_stays(settings: Settings, lake: Lake, releases: dict[str, Manifest]) -> None:
    """Assembled from old artefacts and not live yet: the release stays with its ref and its artefact."""
    os.utime(Path(ArtefactStore(lake).release_path(releases["a"].release_id)))
    retention.apply(settings, NOW)
    assert set(ArtefactStore(lake).fetch(releases["a"])) == {"als"}


def test_a_ref_just_written_stays(settings: Settings, lake: Lake, releases: dict[str, Manifest]) -> None:
    """A model fitted now as of long ago, in no release yet: its ref and its artefact stay for a day."""
    store = ArtefactStore(lake)
    ref = store.newest_ref("als", until=SHOP.day_start(FIT["a"]))
    assert ref is not None
    store.write_ref(ref)
    retention.apply(settings, NOW)
    assert store.newest_ref("als", until=ref.fit_until) == ref
    assert store.fetch_one("als", ref.artefact).exists()
    assert releases["a"].release_id not in store.release_ids()


def test_a_release_made_while_days_go_stays(
    settings: Settings, lake: Lake, releases: dict[str, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Days go first; what is assembled meanwhile out of an artefact that nobody needed keeps it."""
    put_day(lake, "raw", "products", date(2017, 1, 1))
    store = ArtefactStore(lake)
    made = Manifest.of(
        releases["a"].identity.model_copy(update={"contracts": {"products": "1.0.0"}}), releases["a"].provenance
    )
    delete = retention._delete

    def slowly(*args: Any) -> None:
        delete(*args)
        store.save_release(made)

    monkeypatch.setattr(retention, "_delete", slowly)
    assert retention.apply(settings, NOW) == {"raw": 1, "release": 1}
    assert set(store.fetch(made)) == {"als"}


def test_vectors_that_the_first_replays_of_the_window_read_stay(settings: Settings, lake: Lake, tmp_path: Path) -> None:
    """Of a window of 60 days: a replay as of 59 days ago reads the vectors of 63 days ago, none those before them."""
    store = ArtefactStore(lake)
    for ago in (70, 63, 56, 2):
        (tmp_path / "x").write_text(str(ago))
        put = store.put(tmp_path / "x", Kind.NPZ)
        at = NOW - timedelta(days=ago)
        store.write_ref(ArtefactRef(name="product_vectors", artefact=put, fit_until=at, run_id="r", snapshots={}))
    for path in Path(lake.path("artefacts")).rglob("*"):
        age(path)
    retention.apply(settings, NOW)
    left = {ago: store.newest_ref("product_vectors", until=NOW - timedelta(days=ago)) for ago in (64, 59, 55)}
    assert {ago: ref and (NOW - ref.fit_until).days for ago, ref in left.items()} == {64: None, 59: 63, 55: 56}
    assert all(store.fetch_one(ref.name, ref.artefact) for ref in left.values() if ref)


def test_snapshots_of_a_kept_release_stay(settings: Settings, lake: Lake, releases: dict[str, Manifest]) -> None:
    """The day a kept release is as of, its label windows' first days, the data its provenance names, the newest."""
    four_weeks = timedelta(weeks=4)
    wanted = {FIT["c"], FIT["c"] - four_weeks, FIT["c"] - 2 * four_weeks, FIT["b"], date(2017, 9, 9)}
    for day in (*wanted, FIT["a"], date(2017, 7, 7)):
        put_day(lake, "features", "product_stats", day)
    put_day(lake, "features", "product_stats", date(2017, 8, 8), {"transactions": "b"})  # as b's provenance says
    retention.apply(settings, NOW)
    left = {date.fromisoformat(day) for day in lake.days("features", "product_stats")}
    assert left == {*wanted, date(2017, 8, 8)}
    assert releases["a"].release_id not in ArtefactStore(lake).release_ids()


def test_a_kill_while_deleting_leaves_no_partition_without_data(
    settings: Settings, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest goes first: a partition is whole or unread, and the next run takes what is left."""
    folder = put_day(lake, "quarantine", "products", date(2017, 1, 1))
    removed: list[str] = []
    real_rm = lake.fs.rm_file

    def dies(path: str) -> None:
        if removed:
            raise KeyboardInterrupt
        removed.append(Path(path).name)
        real_rm(path)

    with monkeypatch.context() as patch:
        patch.setattr(type(lake.fs), "rm_file", staticmethod(dies))
        with pytest.raises(KeyboardInterrupt):
            retention.apply(settings, NOW)
    assert removed == ["manifest.json"]
    assert partitions.manifests(lake, "quarantine", "products") == []
    assert folder.exists()
    assert retention.apply(settings, NOW) == {"quarantine": 1}
    assert not folder.exists()


def test_files_that_a_killed_run_left_aside_go_after_a_day(settings: Settings, lake: Lake) -> None:
    """A file of a run at work stays, one of a run that died goes; nobody lists the lake to find them."""
    runs = [lake.writing(lake.path("clean", "products", name)) for name in ("at work", "died")]
    fresh, dead = (run.__enter__() for run in runs)
    for path in (fresh, dead):
        path.write_text("x")
    age(dead)
    hidden = Path(lake.path("clean", "products", ".keep"))
    hidden.write_text("x")
    age(hidden)
    assert retention.apply(settings, NOW) == {"leftover": 1}
    assert list(Path(lake.aside()).iterdir()) == [fresh]
    assert hidden.exists()


def test_impressions_past_their_lifetime_go(settings: Settings) -> None:
    """Rows known over 60 days ago go: the lifetime is 30 days, the replay window 60."""
    micro = [int((NOW - timedelta(days=n)).timestamp() * 1e6) for n in (90, 61, 59, 1)]
    with closing(open_sqlite(impressions_url(settings), "impressions", STEPS)) as log:
        rows = [("q", at, "p", 0.5, 1.0, "search", "r", "a", None, None, None, None, known)
                for at, known in enumerate(micro)]  # fmt: skip
        log.executemany("INSERT INTO impressions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    assert retention.apply(settings, NOW) == {"impressions": 1}
    with closing(sqlite3.connect(settings.root / "impressions.db")) as log:
        assert log.execute("SELECT known_at FROM impressions ORDER BY 1").fetchall() == [(micro[2],), (micro[3],)]


def test_runs_that_made_a_kept_artefact_stay(settings: Settings, lake: Lake, tmp_path: Path) -> None:
    """Of two old MLflow runs the one behind a kept ref stays with its files, the other goes with them."""
    made = {}
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
        tags = {"fit_until": SHOP.day_start(FIT[name]).isoformat()}
        with tracking.run(settings, name, params={}, tags=tags) as run:
            run.artefact(tmp_path / name)
        made[name] = run.run_id
    artefact = ArtefactStore(lake).put(tmp_path / "b", Kind.JSON)
    ref = ArtefactRef(
        name="als", artefact=artefact, fit_until=datetime(2017, 5, 1, 4, tzinfo=UTC), run_id=made["b"], snapshots={}
    )
    ArtefactStore(lake).write_ref(ref)
    assert retention.apply(settings, NOW) == {"run": 1}
    assert tracking.runs_before(settings, NOW) == {made["b"]: "b"}
    files = [path.name for path in (settings.root / "mlartifacts").rglob("*") if path.is_file()]
    assert files == ["b"]
