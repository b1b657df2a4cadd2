"""DAG runs over real data: the same window twice, and a window day by day, leave the same bytes."""

import hashlib
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dags import runs
from data_contracts.shop import load_shop
from tests.dags.conftest import parse

SHOP = load_shop("complete_journey")
DAYS = [date(2017, 1, 1) + timedelta(days=i) for i in range(2)]
OTHERS = r"(?!.*_(products|customers|transactions)$|wait_for_).*"
"""Tasks left out: the other tables, whose references begin before this window."""

pytestmark = pytest.mark.filterwarnings("ignore")  # Airflow's own, while it runs a DAG in this process


@pytest.fixture
def dagbag() -> Any:
    """DAGs of this test's own: `dag.test()` of Airflow 3.3.2 writes a run's conf into the params of what it runs."""
    return parse()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dagbag: Any) -> Path:
    """A Mercato home of its own for the tasks; `dag.test()` of Airflow 3.3.2 cannot run a DAG with a deadline."""
    for dag in dagbag.dags.values():
        monkeypatch.setattr(dag, "deadline", None)
    monkeypatch.setenv("MERCATO_HOME", str(tmp_path))
    runs.settings.cache_clear()
    return tmp_path


def _run(dagbag: Any, dag_id: str, since: datetime, until: datetime) -> None:
    conf = {"since": since.isoformat(), "until": until.isoformat()}
    run = dagbag.dags[dag_id].test(run_conf=conf, mark_success_pattern=OTHERS)
    assert run.state == "success"


def _bytes(home: Path) -> Mapping[str, str]:
    return {
        str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest()
        for layer in ("raw", "clean")
        for path in sorted((home / "data" / "complete_journey" / layer).rglob("*"))
        if path.is_file()
    }


def test_the_same_window_twice_and_day_by_day_leaves_the_same_bytes(
    dagbag: Any, airflow_home: Path, home: Path
) -> None:
    """One run writes every day of its window; a second run, and then a run per day, change no byte."""
    since, until = SHOP.day_start(DAYS[0]), SHOP.day_start(DAYS[-1] + timedelta(days=1))
    for dag_id in ("extract_sources", "clean_tables"):
        _run(dagbag, dag_id, since, until)
    once = _bytes(home)
    for day in DAYS:
        for layer in ("raw", "clean"):
            assert f"data/complete_journey/{layer}/transactions/ds={day}/part.parquet" in once
    for dag_id in ("extract_sources", "clean_tables"):
        _run(dagbag, dag_id, since, until)
    assert _bytes(home) == once
    for dag_id in ("extract_sources", "clean_tables"):
        for day in DAYS:
            _run(dagbag, dag_id, *SHOP.day_bounds(day))
    assert _bytes(home) == once


def test_a_run_without_a_window_fails_before_it_reads(dagbag: Any, airflow_home: Path, home: Path) -> None:
    """A manual run without since and until fails in its first task and writes nothing."""
    run = dagbag.dags["extract_sources"].test(run_conf={}, mark_success_pattern=OTHERS)
    states = {each.task_id: each.state for each in run.get_task_instances()}
    assert {states[f"extract_{table}"] for table in ("products", "customers", "transactions")} == {"failed"}
    assert not (home / "data").exists()
