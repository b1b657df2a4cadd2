"""`airflow backfill create` through a running Airflow: days rebuilt after the fact are the days as they came."""

import hashlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path

import pytest

from data_contracts.shop import load_shop
from mercato.demo_airflow import Airflow, environment
from mercato.guardian import Guardian
from mercato.settings import Settings
from training import jobs

SHOP = load_shop("online_retail")
SOURCES = Path(__file__).parents[1] / "data" / "online_retail"
FIRST = date(2010, 12, 1)
DAYS = 2
CHAIN = ("extract_sources", "clean_tables")
TABLES = ("products", "transactions")
"""What comes from the shop's own file; events and impressions come from the gateway, which does not run here."""


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of Airflow's parts, and so of every task: a home and a port of their own."""
    home = tmp_path_factory.mktemp("backfill")
    (home / "logs").mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MERCATO"))}
    mine = {
        **clean,
        "MERCATO_HOME": str(home),
        "MERCATO_SHOP": SHOP.name,
        "MERCATO_SOURCES": str(SOURCES),
        "OMP_NUM_THREADS": "1",
    }
    return environment(home, port, mine)


@pytest.fixture(scope="module")
def airflow(env: Mapping[str, str]) -> Iterator[Airflow]:
    """Airflow's parts, up; all of them end with the test."""
    with Guardian() as guardian:
        running = Airflow(guardian, env, Path(env["MERCATO_HOME"]) / "logs")
        running.start()
        running.wait_ready("clean_tables")
        yield running
        running.close()


def _backfill(airflow: Airflow, dag_id: str) -> None:
    """Runs of all days, oldest first, as the runbooks say to type it; returns when they succeeded."""
    last = FIRST + timedelta(days=DAYS - 1)
    midnight = "T00:00:00+00:00"  # London in winter
    at_once = "1" if dag_id == "clean_tables" else "2"  # docs/runbooks/clean_tables.md
    command = [sys.executable, "-m", "airflow", "backfill", "create", "--dag-id", dag_id, "--max-active-runs", at_once,
               "--from-date", f"{FIRST}{midnight}", "--to-date", f"{last}{midnight}"]  # fmt: skip
    for _ in range(5):
        done = subprocess.run(command, env=dict(airflow.env), capture_output=True, text=True, timeout=120, check=False)
        if "database is locked" not in done.stderr:  # SQLite, while the scheduler writes: nothing was created
            break
    assert done.returncode == 0, done.stderr[-3000:]
    give_up = time.monotonic() + 200 * DAYS
    while True:
        runs = airflow._call("GET", f"dags/{dag_id}/dagRuns", params={"limit": 100})["dag_runs"]
        states = [run["state"] for run in runs]
        if len(states) == DAYS and set(states) <= {"success", "failed"}:
            break
        assert time.monotonic() < give_up, f"{dag_id}: {states}"
        time.sleep(1)
    assert states == ["success"] * DAYS, [task for task in airflow.tasks("backfill") if task.state == "failed"]


def _bytes(home: Path) -> dict[str, str]:
    """Path -> hash of every partition of the tables that come from the shop's own file."""
    root = home / "data" / SHOP.name
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for layer in ("raw", "quarantine", "clean")
        for table in TABLES
        for path in sorted((root / layer / table).rglob("*"))
        if path.is_file()
    }


def test_days_backfilled_after_the_fact_equal_the_days_as_they_came(
    airflow: Airflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backfill leaves the bytes that a run per day leaves."""
    home = Path(airflow.env["MERCATO_HOME"])
    for dag_id in CHAIN:
        _backfill(airflow, dag_id)
    (tmp_path / "identity.key").write_text((home / "identity.key").read_text())
    monkeypatch.setenv("MERCATO_SOURCES", str(SOURCES))
    daily = Settings(home=tmp_path, shop=SHOP.name, identity_url=f"sqlite:///{home}/identity.db")
    for day in range(DAYS):
        since, until = SHOP.day_bounds(FIRST + timedelta(days=day))
        for table in TABLES:
            jobs.extract_table(daily, table, since, until)
            jobs.clean_table(daily, table, since, until)
    assert _bytes(home) == _bytes(tmp_path)
    assert len(_bytes(home)) >= 2 * 2 * len(TABLES) * DAYS
