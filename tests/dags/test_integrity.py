"""What every DAG has, and what parsing one costs."""

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from dags.policies import RETRY_BY_KIND
from data_contracts.errors import NoWindow, SchemaMismatch
from data_contracts.shop import load_shop
from mercato.errors import MercatoError, StoreUnavailable
from tests.dags.conftest import ENV, ROOT, parse
from training.errors import SourceBusy, SourceDown

EXPECTED = {
    "apply_retention",
    "assemble_release",
    "bootstrap",
    "build_datasets",
    "clean_tables",
    "export_annotations",
    "extract_sources",
    "import_annotations",
    "materialize_features",
    "rebuild_index",
    "receive_files",
    "report_drift",
    "train_als",
    "train_embeddings",
    "train_intent",
    "train_ranker",
    "tune_encoder",
    "update_popularity",
}
HEAVY = {"pandas", "torch", "lightgbm", "faiss", "feast", "ibis", "mlflow", "duckdb", "evidently", "transformers"}
GRAPH = Path(__file__).parent / "golden_graph.json"


def test_every_file_parses(dagbag: Any) -> None:
    """No file fails to import, and the DAGs are the ones of the issue."""
    assert dagbag.import_errors == {}
    assert set(dagbag.dags) == EXPECTED


@pytest.mark.parametrize("dag_id", sorted(EXPECTED))
def test_every_dag_has_what_an_operator_needs(dagbag: Any, dag_id: str) -> None:
    """Owner, tags, docs with a runbook that exists, deadline, retries by kind, a limit on time, no catching up."""
    dag = dagbag.dags[dag_id]
    runbook = f"docs/runbooks/{dag_id}.md"
    assert dag.owner == "ml-platform"
    assert dag.tags
    assert dag.doc_md.strip()
    assert runbook in dag.doc_md
    assert dag.deadline
    assert not dag.catchup
    assert dag.max_active_runs == 1
    for task in dag.tasks:
        assert task.execution_timeout, task.task_id
        assert task.has_on_failure_callback, task.task_id
        waits = task.task_id.startswith("wait_for_") or hasattr(task, "trigger_dag_id")
        assert task.retries == (0 if waits else 2), task.task_id
        assert task.retry_policy is not None, task.task_id


@pytest.mark.parametrize("dag_id", sorted(EXPECTED))
def test_every_runbook_says_what_to_do(dag_id: str) -> None:
    """A runbook has the four parts: symptom, check, fix, undo."""
    text = (ROOT / "docs" / "runbooks" / f"{dag_id}.md").read_text()
    assert re.findall(r"^## (\w+)", text, re.MULTILINE) == ["Symptom", "Check", "Fix", "Undo"]


def test_a_shop_without_sales_makes_no_examples_of_recommendations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its nights stay green: the datasets are those that a catalogue gives."""
    from dags import runs

    catalogue = load_shop("chorus")
    assert not catalogue.sells
    monkeypatch.setattr(runs, "shop", lambda: catalogue)
    bag = parse("build_datasets.py")
    assert bag.import_errors == {}
    made = {each.task_id for each in bag.dags["build_datasets"].tasks if each.task_id.startswith("build_")}
    assert made == {"build_product_corpus", "build_search_pairs"}


@pytest.mark.parametrize(
    ("dag_id", "waits_for", "enough"),
    [
        ("train_intent", "import_annotations", {"success", "failed"}),
        ("train_ranker", "materialize_features", {"success"}),
        ("tune_encoder", "build_datasets", {"success"}),
    ],
)
def test_a_night_waits_for_what_it_reads(dagbag: Any, dag_id: str, waits_for: str, enough: set[str]) -> None:
    """Until that is done; a batch of annotations that was refused holds up no training, as the others were taken."""
    wait = dagbag.dags[dag_id].get_task(f"wait_for_{waits_for}").python_callable
    asked: list[dict[str, Any]] = []

    def get_dr_count(**of: Any) -> int:
        asked.append(of)
        return len(asked) - 1

    night = SimpleNamespace(run_type="scheduled", partition_key=None)
    end = datetime(2017, 12, 4, 5, tzinfo=UTC)
    started = datetime(2017, 12, 3, 5, tzinfo=UTC)
    said = {"dag_run": night, "params": {}, "data_interval_end": end, "ti": SimpleNamespace(get_dr_count=get_dr_count)}
    assert not wait(**said)
    assert wait(**said)
    assert {(of["dag_id"], *of["logical_dates"]) for of in asked} == {(waits_for, started)}
    assert all(set(of["states"]) == enough for of in asked)
    night.run_type = "manual"
    assert wait(**said)
    assert len(asked) == 2


def test_a_catalogue_alone_gets_an_intent_model_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bootstrap trains one beside text and index, before the release."""
    from dags import runs

    monkeypatch.setattr(runs, "shop", lambda: load_shop("chorus"))
    bag = parse("bootstrap.py")
    assert bag.import_errors == {}
    dag = bag.dags["bootstrap"]
    assert dag.get_task("train_intent").upstream_task_ids == {"clean_tables"}
    assert dag.get_task("assemble_release").upstream_task_ids == {"rebuild_index", "train_intent"}


def test_dag_files_stay_tables_of_contents() -> None:
    """No DAG file has more than 120 lines."""
    lengths = {path.name: len(path.read_text().splitlines()) for path in (ROOT / "dags").glob("*.py")}
    assert max(lengths.values()) <= 120, lengths


def test_time_scheduled_dags_carry_a_real_data_interval(dagbag: Any) -> None:
    """A nightly DAG's interval is the business day before, 23 hours long when the clocks go forward."""
    timed = {id_: dag for id_, dag in dagbag.dags.items() if "Cron" in type(dag.timetable).__name__}
    assert set(timed) == EXPECTED - {"bootstrap", "assemble_release", "receive_files"}
    assert timed.pop("update_popularity").timetable.expression == "*/5 * * * *"
    assert timed.pop("tune_encoder").timetable.expression == "0 0 * * 1", "the week that ended on Sunday"
    from airflow.timetables.base import TimeRestriction
    from airflow.timetables.interval import CronDataIntervalTimetable
    from pendulum import instance

    for dag in timed.values():
        table = CronDataIntervalTimetable(dag.timetable.expression, timezone=str(dag.timetable.timezone))
        edge = instance(datetime(2017, 3, 12, 5, tzinfo=UTC))
        info = table.next_dagrun_info(
            last_automated_data_interval=None, restriction=TimeRestriction(edge, None, catchup=True)
        )
        assert info is not None
        assert info.data_interval.start == datetime(2017, 3, 12, 5, tzinfo=UTC)
        assert info.data_interval.end - info.data_interval.start == timedelta(hours=23)


def test_parsing_loads_nothing_heavy() -> None:
    """Airflow parses these files again and again: no library of data or models is loaded then."""
    code = (
        "import sys, warnings; warnings.simplefilter('ignore')\n"
        "from airflow.dag_processing.dagbag import DagBag\n"
        f"before = set(sys.modules); bag = DagBag({str(ROOT / 'dags')!r})\n"
        "import json; print(json.dumps([len(bag.dags), sorted(set(sys.modules) - before)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, **ENV}, timeout=120
    )
    n, loaded = json.loads(done.stdout.splitlines()[-1])
    assert n == len(EXPECTED)
    assert HEAVY.isdisjoint(loaded), HEAVY & set(loaded)


def _graph(dagbag: Any) -> dict[str, Any]:
    return {
        dag_id: {
            "schedule": type(dag.timetable).__name__,
            "tasks": {
                task.task_id: {
                    "then": sorted(each.task_id for each in task.downstream_list),
                    "reads": sorted(each.name for each in task.inlets),
                    "writes": sorted(each.name for each in task.outlets),
                    **({"starts": task.trigger_dag_id} if hasattr(task, "trigger_dag_id") else {}),
                }
                for task in sorted(dag.tasks, key=lambda each: each.task_id)
            },
        }
        for dag_id, dag in sorted(dagbag.dags.items())
    }


def test_the_graph_is_the_golden_one(dagbag: Any) -> None:
    """DAGs, tasks and assets hang together as in golden_graph.json; UPDATE_GOLDEN=1 writes it anew."""
    found = _graph(dagbag)
    if os.environ.get("UPDATE_GOLDEN"):
        GRAPH.write_text(json.dumps(found, indent=1) + "\n")
    assert found == json.loads(GRAPH.read_text())


def test_every_asset_read_is_written(dagbag: Any) -> None:
    """Nothing reads an asset that no task writes, and each asset has one writer."""
    graph = _graph(dagbag)
    tasks = [task for dag in graph.values() for task in dag["tasks"].values()]
    written = [name for task in tasks for name in task["writes"]]
    assert len(written) == len(set(written))
    assert {name for task in tasks for name in task["reads"]} <= set(written)


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (StoreUnavailable("locked"), "retry"),
        (ConnectionResetError("gone"), "retry"),
        (TimeoutError("slow"), "retry"),
        (OSError(28, "No space left on device"), "retry"),
        (OperationalError("select 1", None, Exception("the server closed the connection")), "retry"),
        (NoWindow("none"), "fail"),
        (SchemaMismatch("columns"), "fail"),
        (MercatoError("ours"), "fail"),
        (FileNotFoundError("path"), "fail"),
        (TypeError("bug"), "fail"),
    ],
)
def test_a_failure_is_tried_again_by_its_kind(error: Exception, action: str) -> None:
    """What is retryable is tried again, what gives the same result is not; Airflow keeps this when it serialises."""
    from airflow.sdk import ExceptionRetryPolicy

    for policy in (RETRY_BY_KIND, ExceptionRetryPolicy.deserialize(RETRY_BY_KIND.serialize())):
        assert policy.evaluate(error, try_number=1, max_tries=3).action.value == action


def test_a_server_that_asks_for_a_long_pause_gets_one() -> None:
    """Asked again after half a minute, as other failures are, it would only refuse again."""
    kinds = {SourceBusy: timedelta(hours=1), SourceDown: timedelta(seconds=30)}
    for kind, pause in kinds.items():
        assert RETRY_BY_KIND.evaluate(kind("x"), try_number=1, max_tries=3).retry_delay == pause


def test_every_error_of_ours_is_tried_again_as_it_says() -> None:
    """The `retryable` flag and the retry policy agree for every error class there is."""
    kinds = _subclasses(MercatoError)
    assert len(kinds) > 5
    for kind in kinds:
        decision = RETRY_BY_KIND.evaluate(kind.__new__(kind), try_number=1, max_tries=3)
        assert (decision.action.value == "retry") == kind.retryable, kind


def _subclasses(kind: type[MercatoError]) -> list[type[MercatoError]]:
    return [kind, *(deeper for each in kind.__subclasses__() for deeper in _subclasses(each))]


def test_build_datasets_knows_what_each_dataset_reads(dagbag: Any) -> None:
    """The DAG repeats it because the builders are too heavy to import at parse time."""
    from training.datasets.kinds import BUILDERS

    tasks = {name: f"build_{name}" for name, each in BUILDERS.items() if each.reads}
    dag = dagbag.dags["build_datasets"]
    assert {task for task in dag.task_ids if task.startswith("build_")} == set(tasks.values())
    for name, task in tasks.items():
        found = [each.name for each in dag.get_task(task).inlets]
        assert found == [f"clean_{table}" for table in BUILDERS[name].reads]
