"""The demo's own arithmetic: its plan, what it reuses, how it counts time, what it says when a port is taken."""

import os
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from data_contracts.shop import load_shop
from mercato.demo import _ports
from mercato.demo_airflow import TaskRun, environment, tail
from mercato.demo_state import Made, current, plan, remember
from mercato.demo_view import busy_seconds, dag_seconds
from mercato.settings import Settings
from mercato.stores.routing import TOTAL_WEIGHT, routing_store
from serving.run import PortInUse

T = datetime(2026, 1, 1, tzinfo=UTC)
SHOP = load_shop("complete_journey")


def _task(task_id: str, start: float, end: float, dag_id: str = "train_als") -> TaskRun:
    return TaskRun(dag_id, task_id, "success", T + timedelta(seconds=start), T + timedelta(seconds=end), 1)


def test_time_at_work_is_the_union_of_the_tasks() -> None:
    """[0, 4] and [2, 6] and [8, 9] make 6 + 1 = 7 seconds; waiting and starting other DAGs is no work."""
    tasks = [_task("a", 0, 4), _task("b", 2, 6), _task("c", 8, 9)]
    waits = [_task("wait_for_clean_tables", 0, 100), _task("train_als", 0, 100, dag_id="bootstrap")]
    assert busy_seconds(tasks + waits) == pytest.approx(6 + 1)
    assert busy_seconds([]) == 0


def test_a_dag_takes_from_its_first_task_to_its_last() -> None:
    """DAGs come in the order they began, each with its own span."""
    tasks = [_task("late", 5, 9, "rebuild_index"), _task("a", 0, 4), _task("b", 2, 6)]
    assert dag_seconds(tasks) == [("train_als", 6.0), ("rebuild_index", 4.0)]


def test_the_plan_of_the_complete_journey(tmp_path: Path) -> None:
    """The whole history is loaded; the present is the last Monday with four whole weeks of history after it."""
    steps = plan(Settings(home=tmp_path), SHOP)
    assert steps.at == datetime(2017, 12, 4, 5, tzinfo=UTC)
    assert (steps.since, steps.until) == SHOP.window()
    assert steps.conf()["at"] == "2017-12-04T05:00:00+00:00"


def test_the_digest_follows_what_decides_the_outcome(tmp_path: Path) -> None:
    """The same settings give the same digest; another shop or another place of data gives another."""
    one = plan(Settings(home=tmp_path), SHOP).digest
    assert one == plan(Settings(home=tmp_path), SHOP).digest
    assert one != plan(Settings(home=tmp_path, data_url=str(tmp_path / "elsewhere")), SHOP).digest
    assert one != plan(Settings(home=tmp_path), SHOP.model_copy(update={"currency": "CAD"})).digest


def test_a_demo_is_reused_only_while_its_release_is_live(tmp_path: Path) -> None:
    """Nothing made, another digest or a release that is not live: run again."""
    settings = Settings(home=tmp_path)
    assert current(settings, "d1") is None
    remember(settings, Made("d1", "r-1", "demo-1"))
    assert current(settings, "d1") is None
    routing_store(settings).write(settings.shop, seen=0, weights={"r-1": TOTAL_WEIGHT}, salt="s", reason="test", at=T)
    assert current(settings, "d1") == Made("d1", "r-1", "demo-1")
    assert current(settings, "d2") is None


def test_a_half_written_state_means_run_again(tmp_path: Path) -> None:
    """A state file that cannot be read is no state."""
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "state.json").write_text('{"digest": "d1", "rel')
    assert current(Settings(home=tmp_path), "d1") is None


@pytest.mark.parametrize("offset", [0, 1, 3])
def test_a_taken_port_is_named(tmp_path: Path, offset: int) -> None:
    """The gateway's port and the three after it must be free; the message names the one that is not."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = Settings(home=tmp_path, url=f"http://127.0.0.1:{port - offset}")
        with pytest.raises(PortInUse, match=f"port {port} on 127.0.0.1 taken"):
            _ports(settings)


def test_airflows_secret_is_made_once_and_kept_private(tmp_path: Path) -> None:
    """Two starts share one secret of at least 64 bytes, readable by its owner only."""
    first, second = (environment(tmp_path, 3001, {})["AIRFLOW__API_AUTH__JWT_SECRET"] for _ in range(2))
    assert first == second
    assert len(first) >= 64
    assert (tmp_path / "airflow" / "jwt_secret").stat().st_mode & 0o077 == 0


def test_the_end_of_a_log_is_shown(tmp_path: Path) -> None:
    """The last lines, or that there is no log."""
    log = tmp_path / "x.log"
    assert "no log" in tail(log)
    log.write_text(os.linesep.join(f"line {i}" for i in range(100)))
    assert tail(log, lines=2).split() == ["line", "98", "line", "99"]
