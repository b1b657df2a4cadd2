"""Backfill: what a window lacks, in order and with a price; killed and run again it leaves the same bytes."""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
import typer
from filelock import FileLock
from typer.testing import CliRunner

from data_contracts import partitions
from data_contracts.contract import load_contract
from data_contracts.shop import Shop
from feature_repo.views import VIEWS, view_digest
from mercato import backfill, paths
from mercato.commands import time
from mercato.identity import identity
from mercato.paths import Lake
from mercato.settings import Settings
from mercato.stores import steps
from mercato.stores.migrations import open_sqlite
from mercato.stores.steps import STEPS
from tests.feature_repo import clean_sample
from tests.lake_maker import MONDAY, NOON, finished, hand_shop, line, tree
from training import jobs

ROOT = Path(__file__).parents[2]
DAY = timedelta(days=1)
DAYS = 12
TABLES = ["products", "transactions"]
KILLED = """
import os, signal, sys
from functools import partial
from pathlib import Path
from mercato import backfill, log
from mercato.settings import Settings
from tests.mercato import test_backfill as test
from training import clean, extract  # imported before the fork

def killed_at(n):
    "The n-th file that is put in place is the last thing that happens."
    plain, seen = Path.replace, []
    def replace(self, target):
        done = plain(self, target)
        seen.append(target)
        if len(seen) == n:
            os.kill(os.getpid(), signal.SIGKILL)
        return done
    Path.replace = replace

log.configure()
shop = test.shop_of(Path(sys.argv[2]))
for n in (9, 17, 0):
    if not os.fork():
        test.use(shop, setattr)
        killed_at(n)
        test.run(Settings(home=Path(sys.argv[1]), identity_key="k" * 32))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


def shop_of(folder: Path) -> Shop:
    """The hand-written shop: twelve days in March with three lines each, the fourth day without any."""
    lines = [
        line(basket=100 * day + n, product=10 + n, at=NOON + day * DAY, household_id=7 + n)
        for day in range(DAYS)
        if day != 3
        for n in range(3)
    ]
    return hand_shop(folder, lines)


def use(shop: Shop, patch: Callable[[object, str, object], None]) -> None:
    """Let jobs and planner see `shop`, in chunks of six days."""
    for module in (jobs, backfill):
        patch(module, "load_shop", lambda _name: shop)
    patch(backfill, "CHUNK_DAYS", 6)


def window(shop: Shop) -> tuple[datetime, datetime]:
    return MONDAY, shop.day_start(shop.business_day(MONDAY + DAYS * DAY + timedelta(hours=2)))


def run(settings: Settings) -> None:
    """Products of the day on which they are known, then the transactions of the twelve days."""
    shop = backfill.load_shop("complete_journey")
    known = shop.table("products").event_time.constant
    assert known is not None
    day = shop.business_day(known)
    backfill.run(settings, ["products"], shop.day_start(day), shop.day_start(day + DAY))
    backfill.run(settings, ["transactions"], *window(shop))


def data(settings: Settings) -> dict[str, str]:
    """Files of the lake."""
    return finished(paths.lake(settings))


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    made = shop_of(tmp_path / "source")
    use(made, monkeypatch.setattr)
    return made


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", identity_key="k" * 32)


def state(found: backfill.Plan) -> dict[str, tuple[int, int, int, int, int]]:
    return {
        f"{each.step} {each.table}": (
            len(each.present), len(each.missing), len(each.changed), len(each.empty), len(each.no_input)
        )
        for each in found.pieces
    }  # fmt: skip


def test_killed_anywhere_and_run_again_is_a_clean_run(shop: Shop, settings: Settings, tmp_path: Path) -> None:
    """Kill -9 after the 9th file came into place, then after the 17th, then a last run: every byte as without kills.

    The identity map is the same for both, since its keys are random.
    """
    identity(settings).keys(shop.name, ["7", "8", "9"])
    other = Settings(home=tmp_path / "other", identity_key="k" * 32)
    other.root.mkdir()
    for path in settings.root.glob("identity*"):
        (other.root / path.name).write_bytes(path.read_bytes())
    run(settings)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(other.root), str(tmp_path / "source")],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["-9", "-9", "0"], done.stderr[-2000:]
    assert data(other) == data(settings)
    files = 2 * 2 * (1 + DAYS - 1) + 1
    assert len(data(settings)) == files, "part and manifest, raw and clean, of 1 and 11 days; the name of the quiet day"


def test_the_plan_says_what_is_there_and_run_makes_the_rest(shop: Shop, settings: Settings) -> None:
    """Missing before, present after; days without rows are empty, not missing; a second run makes nothing."""
    before = backfill.plan(settings, TABLES, *window(shop))
    assert [(each.step, each.table) for each in before.pieces] == [
        ("extract", "products"), ("extract", "transactions"), ("clean", "products"), ("clean", "transactions"),
    ]  # fmt: skip
    assert (before.partitions, before.overwrites) == (4 * DAYS, 0)
    assert len(before.without_estimate) == 4
    assert tree(paths.lake(settings)) == {}, "a plan writes nothing"
    run(settings)
    after = backfill.plan(settings, ["transactions"], *window(shop))
    assert state(after) == {"extract transactions": (11, 0, 0, 1, 0), "clean transactions": (11, 0, 0, 1, 0)}
    assert after.partitions == 0
    assert after.contracts["transactions"] == load_contract("transactions").label
    assert backfill.run(settings, ["transactions"], *window(shop))["chunks"] == []
    again = backfill.plan(settings, ["transactions"], *window(shop), redo=True)
    assert state(again) == {"extract transactions": (11, 1, 0, 0, 0), "clean transactions": (0, 1, 11, 0, 0)}


def test_only_what_changed_is_made_again(shop: Shop, settings: Settings) -> None:
    """Another raw partition, another contract, a file cut short: those days are named with the reason, and made."""
    run(settings)
    lake = paths.lake(settings)
    whole = data(settings)
    other_raw, other_contract, cut = (str(shop.business_day(MONDAY + n * DAY)) for n in (0, 1, 2))
    for day, change in (
        (other_raw, {"inputs": {"raw": "0" * 64}}),
        (other_contract, {"contract": "transactions@0.9.0"}),
    ):
        there = partitions.manifest(lake, "clean", "transactions", day)
        assert there is not None
        text = there.model_copy(update=change).model_dump_json(indent=1) + "\n"
        Path(lake.partition("clean", "transactions", day), "manifest.json").write_text(text)
    file = Path(lake.partition("clean", "transactions", cut), "part.parquet")
    file.write_bytes(file.read_bytes()[:-1])
    pieces = backfill.plan(settings, ["clean_tables"], *window(shop)).pieces
    (clean,) = (each for each in pieces if each.changed)
    assert (clean.step, clean.table) == ("clean", "transactions")
    assert clean.changed == {
        other_raw: "its raw partition is another one now",
        other_contract: f"it was written under transactions@0.9.0, in force is {load_contract('transactions').label}",
        cut: "its file was cut short",
    }
    made = backfill.run(settings, ["transactions"], *window(shop))
    assert [(each["first"], each["last"]) for each in made["chunks"]] == [(other_raw, cut)]
    assert data(settings) == whole


def test_clean_without_raw_is_not_promised(shop: Shop, settings: Settings) -> None:
    """Cleaning alone cannot make what was never extracted: those days are listed apart and left."""
    found = backfill.plan(settings, ["clean_tables"], *window(shop))
    assert {each.step for each in found.pieces} == {"clean"}
    assert all(len(each.no_input) == DAYS and not each.days() for each in found.pieces)


def test_two_at_once_do_not_mix(shop: Shop, settings: Settings) -> None:
    """The second one is told to wait, and has done nothing."""
    settings.root.mkdir(parents=True)
    with (
        FileLock(settings.root / "backfill-complete_journey.lock"),
        pytest.raises(backfill.BackfillRunning, match="another backfill of complete_journey is at work"),
    ):
        backfill.run(settings, TABLES, *window(shop))
    assert tree(paths.lake(settings)) == {}


def test_an_unknown_name_is_refused(shop: Shop, settings: Settings) -> None:
    """The message lists the tables and the DAGs."""
    with pytest.raises(backfill.UnknownTarget, match=r"found transaction, need .*transactions.*clean_tables"):
        backfill.plan(settings, ["transaction"], *window(shop))


def test_the_estimate_is_a_line_through_past_runs(settings: Settings, shop: Shop) -> None:
    """Runs of 1 day in 3 s and 11 days in 13 s: 2 s a call and 1 s a day, so 12 days in 2 chunks take 16 s."""
    settings.root.mkdir(parents=True)
    with closing(open_sqlite(settings.sqlite("steps"), "steps", STEPS)) as log:
        for days, seconds in ((1, 3.0), (11, 13.0)):
            since, until = datetime(2016, 1, 1, tzinfo=UTC), datetime(2016, 1, 1, tzinfo=UTC) + days * DAY
            row = ("complete_journey", "extract", "transactions", since.isoformat(), until.isoformat(), seconds, "x")
            log.execute(
                "INSERT INTO steps (shop, step, name, since, until, seconds, code_revision) VALUES (?,?,?,?,?,?,?)", row
            )
    found = backfill.plan(settings, ["transactions"], *window(shop))
    assert found.pieces[0].seconds == pytest.approx(2 * 2 + 12 * 1)
    assert (found.seconds, found.without_estimate) == (16.0, ["clean transactions"])


def test_snapshots_follow_their_tables(settings: Settings) -> None:
    """A range gets a snapshot a day; they are missing, then present, and changed once clean days they read are."""
    lake = paths.lake(settings)
    bought = clean_sample.fill(lake)
    window = (clean_sample.T - 2 * DAY, clean_sample.T)
    ask = partial(backfill.plan, settings, ["materialize_features"], *window)
    days = [str(clean_sample.SHOP.business_day(clean_sample.T - n * DAY)) for n in (2, 1)]
    assert ask().pieces[0].missing == days
    backfill.run(settings, ["materialize_features"], *window)
    for view in VIEWS:
        assert lake.days("features", view) == ["2017-12-03", "2017-12-04"]
    (piece,) = ask().pieces
    assert (piece.present, piece.missing, piece.changed) == (days, [], {})
    assert [each.seconds > 0 for each in steps.finished(settings, "snapshot", "features")] == [True, True]
    clean_sample.write(lake, "transactions", bought[bought["known_at"] < clean_sample.T].iloc[:-1])
    assert ask().pieces[0].changed[days[-1]] == "clean/transactions changed"


def test_a_plan_of_snapshots_reads_each_manifest_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six clean days and six snapshots of every view: twelve days' manifests, not one more for each pair of days."""
    lake = paths.lake(settings)
    frame = pa.table({"event_time": pa.array([MONDAY], pa.timestamp("us", "UTC"))})
    encoded = partitions.encode(frame)
    tables = {("clean", "transactions"), *(("features", view) for view in VIEWS)}
    with partitions.writing(lake) as out:
        for layer, table in tables:
            for n in range(6):
                known = {"layer": layer, "table": table, "contract": "x@1.0.0", "inputs": {}}
                out.put(encoded, partitions.describe(frame, encoded, ds=date(2017, 3, 7 + n), **known))
    reads: list[str] = []
    read_bytes = Lake.read_bytes
    monkeypatch.setattr(Lake, "read_bytes", lambda lake, path: reads.append(path) or read_bytes(lake, path))
    plan = backfill.plan(settings, ["materialize_features"], MONDAY, MONDAY + 6 * DAY)
    assert len(plan.pieces[0].changed) == 6
    assert len(reads) == len(set(reads)) == 6 * len(tables)


def test_the_commands_answer_json(shop: Shop, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """`mercato backfill plan` and `run` print what they found and made; progress goes to stderr. A date is midnight
    of the shop, in New York.
    """
    monkeypatch.setenv("MERCATO_HOME", str(settings.home))
    monkeypatch.setenv("MERCATO_IDENTITY_KEY", "k" * 32)
    since, until = window(shop)
    span = ["--since", str(shop.business_day(since)), "--until", until.isoformat()]
    app = typer.Typer()
    app.add_typer(time.backfill, name="backfill")
    plan = CliRunner().invoke(app, ["backfill", "plan", "extract_sources", *span], catch_exceptions=False)
    said = json.loads(plan.stdout)
    assert said["contracts"]["products"] == load_contract("products").label
    assert datetime.fromisoformat(said["since"]) == since
    definition = view_digest(VIEWS["customer_history"])
    shown = CliRunner().invoke(app, ["backfill", "plan", "extract_sources", "materialize_features", *span, "--table"])
    for label in (said["code_revision"], said["contracts"]["products"], f"customer_history@{definition[:12]}"):
        assert label in shown.stdout
    made = CliRunner().invoke(app, ["backfill", "run", "products", *span], catch_exceptions=False)
    assert made.exit_code == 0
    assert json.loads(made.stdout[made.stdout.index("{\n") :])["days"] == DAYS
