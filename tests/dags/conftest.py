"""Airflow for tests: a home of its own, set before the first `import airflow`, a database made once a session."""

import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOME = Path(tempfile.gettempdir()) / f"mercato-airflow-tests-{os.getpid()}"
ENV = {
    "AIRFLOW_HOME": str(HOME),
    "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
    "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{HOME}/airflow.db",
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    "PYTHONPATH": str(ROOT),
}
os.environ.update(ENV)


def parse(name: str = "") -> Any:
    """The DAGs of that file, or of all, as they parse now; what Airflow and its providers deprecate is their own."""
    HOME.mkdir(exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from airflow.dag_processing.dagbag import DagBag

        return DagBag(str(ROOT / "dags" / name))


@pytest.fixture(scope="session")
def dagbag() -> Any:
    """Every DAG, parsed once."""
    return parse()


@pytest.fixture(scope="session")
def airflow_home() -> Path:
    """The folder of an Airflow whose database is migrated."""
    HOME.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "airflow", "db", "migrate"]
    subprocess.run(command, check=True, capture_output=True, timeout=200, env={**os.environ, **ENV})
    return HOME


def pytest_sessionfinish() -> None:
    """Airflow's home goes with the process that made it."""
    shutil.rmtree(HOME, ignore_errors=True)
