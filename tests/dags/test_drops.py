"""The watcher of drop folders, without an Airflow process, and the DAG that it starts."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dags import runs
from dags.drops import FilesArrived
from data_contracts.shop import Shop, load_shop
from mercato import clock, demo_airflow
from tests.dags.conftest import parse

NOW = datetime(2017, 3, 8, 14, tzinfo=UTC)
SHOP = load_shop("online_retail")
DROPPED = "transactions"


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shop's clock stands still."""
    monkeypatch.setattr(clock, "clock", lambda _settings: clock.frozen(NOW))


async def events(trigger: FilesArrived, during: Mapping[int, Any], looks: int) -> list[Any]:
    """Payloads of a trigger until it looked so many times; `during`: what happens before its n-th look."""
    found, n = [], 0
    plain = asyncio.to_thread

    async def look(function: Any) -> Any:
        nonlocal n
        n += 1
        if n > looks:
            raise EOFError
        during.get(n, lambda: None)()
        return await plain(function)

    with pytest.MonkeyPatch.context() as patch, suppress(EOFError):
        patch.setattr(asyncio, "to_thread", look)
        async for event in trigger.run():
            found.append(event.payload)  # noqa: PERF401 - what came before the error counts
    return found


def test_one_event_carries_the_tables_and_the_shops_time(tmp_path: Path, now: None) -> None:
    """A file that stalls half-written for a look is still not whole when it grows; whole, it is told once."""
    file = tmp_path / "sales.csv"
    during = {1: lambda: file.write_text("a\n"), 2: lambda: file.write_text("a\n1\n")}
    trigger = FilesArrived({"transactions": f"{tmp_path}/*.csv"}, pause=0.0)
    told = asyncio.run(events(trigger, during, looks=6))
    assert told == [{"until": NOW.isoformat(), "tables": ["transactions"], "files": {"transactions": 1}}]


def test_a_restarted_watcher_tells_what_is_there(tmp_path: Path, now: None) -> None:
    """What arrived while it was down is not lost; made again from what Airflow stored, it looks at the same files."""
    (tmp_path / "sales.csv").write_text("a\n1\n")
    path, kwargs = FilesArrived({"transactions": f"{tmp_path}/*.csv"}, pause=0.0).serialize()
    assert path == f"{FilesArrived.__module__}.{FilesArrived.__qualname__}"
    assert len(asyncio.run(events(FilesArrived(**kwargs), {}, looks=4))) == 1


def test_a_look_that_fails_is_tried_again(tmp_path: Path, now: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is not set stops no watcher: once it is, files are told."""
    (tmp_path / "sales.csv").write_text("a\n1\n")
    monkeypatch.delenv("DROPPED_HERE", raising=False)
    during = {3: lambda: monkeypatch.setenv("DROPPED_HERE", str(tmp_path))}
    trigger = FilesArrived({"transactions": "$DROPPED_HERE/*.csv"}, pause=0.0)
    assert len(asyncio.run(events(trigger, during, looks=5))) == 1


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Shop:
    """The second shop, whose sales come by drop folder."""
    table = SHOP.table(DROPPED)
    source = table.source.model_copy(update={"drop": True})
    tables = {**SHOP.tables, DROPPED: table.model_copy(update={"source": source})}
    made = SHOP.model_copy(update={"tables": tables})
    monkeypatch.setattr(runs, "shop", lambda: made)
    return made


@pytest.fixture
def receive_files(shop: Shop) -> Any:
    """The DAG as that shop has it."""
    bag = parse("receive_files.py")
    assert bag.import_errors == {}
    return bag.dags["receive_files"]


def test_only_dropped_tables_are_watched_and_extracted(receive_files: Any, shop: Shop, dagbag: Any) -> None:
    """The asset has one watcher of the one path; a shop without drop folders has none, and its DAG extracts nothing."""
    (watcher,) = receive_files.timetable.asset_condition.objects[0].watchers
    assert watcher.trigger.paths == shop.drops == {DROPPED: "$MERCATO_SOURCES/uci_online_retail.parquet"}
    assert {each.task_id for each in receive_files.tasks} == {
        f"extract_{DROPPED}", "window", "clean_tables", "materialize_features"
    }  # fmt: skip
    plain = dagbag.dags["receive_files"]
    assert plain.timetable.asset_condition.objects[0].watchers == []
    assert not any(each.task_id.startswith("extract_") for each in plain.tasks)


def test_a_run_takes_its_time_and_its_tables_from_the_events() -> None:
    """Two arrivals before one run: the newest instant, in the payload of what Airflow stores."""
    said = [{"until": (NOW + n * timedelta(hours=1)).isoformat(), "tables": ["transactions"]} for n in range(2)]
    context = {
        "dag_run": SimpleNamespace(run_type="asset_triggered", partition_key=None),
        "params": {},
        "triggering_asset_events": {
            "dropped_files": [SimpleNamespace(extra={"from_trigger": True, "payload": each}) for each in said]
        },
    }
    assert runs.until(context) == NOW + timedelta(hours=1)
    assert [each["tables"] for each in runs.run_of(context).events] == [["transactions"]] * 2


@pytest.mark.parametrize(
    ("found", "days"),
    [
        ([{"since": "b", "until": "d"}, {"since": "a", "until": "d"}, None], {"since": "a", "until": "d"}),
        ([{"since": None, "until": "d"}, None], None),
        ([], None),
    ],
)
def test_the_days_of_all_tables_are_cleaned_together(receive_files: Any, found: Any, days: Any) -> None:
    """From the earliest day that any table filled; nothing to clean skips what follows."""
    from airflow.sdk.exceptions import AirflowSkipException

    window = receive_files.get_task("window").python_callable
    if days is None:
        with pytest.raises(AirflowSkipException):
            window(found)
    else:
        assert window(found) == days


def test_the_demo_has_a_triggerer_for_drop_folders_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain demo starts three parts and no run by itself."""
    started: list[str] = []
    guardian: Any = SimpleNamespace(start=lambda service: started.append(service.name))
    for drops in (False, True):
        env = demo_airflow.environment(tmp_path, 1, {}, drops=drops)
        (tmp_path / "airflow" / f"migrated-{version('apache-airflow')}").touch()
        airflow = demo_airflow.Airflow(guardian, env, tmp_path, drops)
        airflow.start()
        airflow.close()
        assert env["AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE"] == str(drops)
    assert [started.count(f"airflow-{name}") for name in ("scheduler", "triggerer")] == [2, 1]
