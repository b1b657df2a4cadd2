"""Airflow for the demo: its parts under the guardian, `bootstrap` triggered, every task's state as it changes."""

import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx

from mercato.errors import MercatoError, TransientError
from mercato.guardian import Guardian, Service, ServiceStopped

REPOSITORY = Path(__file__).resolve().parents[1]
PARTS = {
    "api-server": ["api-server"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
}
"""No triggerer: nothing is deferred, and deadlines are heard of through the executor. Drop folders need one."""
_LOG_LINES = 25
_MAX_TASKS = 1000
_PATIENCE_SECONDS = 60.0


class ChainFailed(MercatoError):
    """A DAG of the chain failed."""


class NotReady(TransientError):
    """A service did not answer in time."""


@dataclass(frozen=True, slots=True)
class TaskRun:
    """One task of the chain, as Airflow sees it."""

    dag_id: str
    task_id: str
    state: str
    start: datetime | None
    end: datetime | None
    try_number: int

    @property
    def works(self) -> bool:
        """Whether it does the shop's work, rather than start other DAGs or wait for them."""
        return self.dag_id != "bootstrap" and not self.task_id.startswith("wait_for_")


def environment(home: Path, port: int, base: Mapping[str, str], *, drops: bool = False) -> dict[str, str]:
    """The environment of Airflow's parts and so of every task; secrets are made once per home.

    `drops`: runs start by themselves, at night and when files arrive.
    """
    folder = home / "airflow"
    folder.mkdir(parents=True, exist_ok=True)
    secret = folder / "jwt_secret"
    if not secret.exists():
        secret.touch(mode=0o600)
        secret.write_text(secrets.token_hex(64))
    address = f"http://127.0.0.1:{port}"
    return {
        **base,
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__API__BASE_URL": address,
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__MAXIMUM_PAGE_LIMIT": str(_MAX_TASKS),
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API_AUTH__JWT_SECRET": secret.read_text(),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{address}/execution/",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "6",  # three branches: as many tasks that wait for a DAG, as many that work
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        # A watcher begins when its DAG's file is parsed for the second time.
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "30" if drops else "300",
        "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder / 'airflow.db'}?timeout=60",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",  # a fifth of a core at 0.2
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": str(drops),  # the demo's present is in 2017; backfills still run
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(REPOSITORY), base.get("PYTHONPATH", "")])),
    }


@dataclass(slots=True)
class Airflow:
    """A running Airflow and its REST API."""

    guardian: Guardian
    env: Mapping[str, str]
    logs: Path
    drops: bool = False
    """Whether a triggerer watches drop folders."""
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=30, trust_env=False))

    @property
    def url(self) -> str:
        """Where its pages are."""
        return self.env["AIRFLOW__API__BASE_URL"]

    def close(self) -> None:
        """Let go of the connections to its API."""
        self.http.close()

    def start(self) -> None:
        """Bring the database up to date and start the parts; returns before they are ready."""
        migrated = self.logs / "airflow-migrate.log"
        command = [sys.executable, "-m", "airflow"]
        done = Path(self.env["AIRFLOW_HOME"]) / f"migrated-{version('apache-airflow')}"
        if not done.exists():  # the file of the database is there as soon as a migration begins
            self.guardian.start(Service("airflow-migrate", [*command, "db", "migrate"], migrated, self.env))
            _wait(lambda: self.guardian.ended().get("airflow-migrate"), 300, f"airflow db migrate; see {migrated}")
            if self.guardian.ended()["airflow-migrate"] != 0:
                raise ServiceStopped(f"airflow db migrate failed; its log is {migrated}:\n{tail(migrated)}")
            done.touch()
        parts = {**PARTS, "triggerer": ["triggerer", "--skip-serve-logs"]} if self.drops else PARTS
        for name, arguments in parts.items():
            log = self.logs / f"airflow-{name}.log"
            self.guardian.start(Service(f"airflow-{name}", [*command, *arguments], log, self.env))

    def wait_ready(self, dag_id: str = "bootstrap", seconds: float = 300) -> None:
        """Return when the API, the scheduler and the DAG are there."""
        _wait(lambda: self._ready(dag_id) or None, seconds, f"Airflow with the DAG {dag_id}; logs are in {self.logs}")

    def _ready(self, dag_id: str) -> bool:
        ended = [name for name in self.guardian.ended() if name.startswith("airflow-") and "migrate" not in name]
        if ended:
            log = self.logs / f"{ended[0]}.log"
            raise ServiceStopped(f"{ended[0]} ended by itself; its log is {log}:\n{tail(log)}")
        with suppress(httpx.HTTPError, ValueError, KeyError):
            health = self._call("GET", "monitor/health")
            return health["scheduler"]["status"] == "healthy" and bool(self._call("GET", f"dags/{dag_id}"))
        with suppress(httpx.HTTPError, ValueError, KeyError):
            for error in self._call("GET", "importErrors")["import_errors"]:
                raise ChainFailed(f"{error['filename']} cannot be imported:\n{error['stack_trace']}")
        return False

    def trigger(self, dag_id: str, run_id: str, conf: Mapping[str, Any]) -> None:
        """Start one run."""
        body = {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf)}
        self._call("POST", f"dags/{dag_id}/dagRuns", json=body)

    def give_up(self, prefix: str) -> None:
        """End the runs whose id begins with `prefix` and that an earlier, interrupted Airflow left unfinished."""
        query = {"run_id_prefix_pattern": prefix, "state": ["running", "queued"], "limit": _MAX_TASKS}
        for run in self._call("GET", "dags/~/dagRuns", params=query)["dag_runs"]:
            path = f"dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}"
            self._call("PATCH", path, json={"state": "failed"})

    def follow(self, dag_id: str, run_id: str, pause: float = 2.0) -> Iterator[list[TaskRun]]:
        """Every task of the runs called `run_id`, again and again until the one of `dag_id` ended; ChainFailed."""
        answered = time.monotonic()
        while True:
            try:
                state = self._call("GET", f"dags/{dag_id}/dagRuns/{run_id}")["state"]
                tasks = self.tasks(run_id)
            except httpx.HTTPError as error:  # a busy machine: the chain goes on without us
                if time.monotonic() - answered > _PATIENCE_SECONDS:
                    raise NotReady(
                        f"Airflow at {self.url} stopped answering: {error}; logs are in {self.logs}"
                    ) from error
                time.sleep(pause)
                continue
            answered = time.monotonic()
            yield tasks
            if state == "success":
                return
            if state == "failed":
                raise ChainFailed(self._why(run_id, tasks))
            time.sleep(pause)

    def tasks(self, run_id: str) -> list[TaskRun]:
        """Every task of the runs called `run_id`."""
        query = {"run_id_prefix_pattern": run_id, "limit": _MAX_TASKS}
        found = self._call("GET", "dags/~/dagRuns/~/taskInstances", params=query)["task_instances"]
        return [
            TaskRun(
                each["dag_id"],
                each["task_id"],
                each["state"] or "waiting",
                _time(each["start_date"]),
                _time(each["end_date"]),
                each["try_number"],
            )
            for each in found
        ]

    def result(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """What a task returned."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
        return self._call("GET", path, params={"deserialize": "false", "stringify": "false"})["value"]

    def _why(self, run_id: str, tasks: list[TaskRun]) -> str:
        failed = [each for each in tasks if each.state == "failed"]
        first = min(
            failed, key=lambda each: (not each.works, each.end or datetime.max.replace(tzinfo=UTC)), default=None
        )
        if first is None:
            return f"the run {run_id} failed without a failed task; look at {self.url}"
        log = Path(self.env["AIRFLOW_HOME"]) / "logs"
        log = log / f"dag_id={first.dag_id}" / f"run_id={run_id}" / f"task_id={first.task_id}"
        log = log / f"attempt={first.try_number}.log"
        return (
            f"{first.dag_id}.{first.task_id} failed; the end of {log}:\n{_readable(log)}\n"
            f"Next: docs/runbooks/{first.dag_id}.md, then run the demo again: what is done is done again, "
            "with the same result"
        )

    def _call(self, verb: str, path: str, **kwargs: Any) -> Any:
        response = self.http.request(verb, f"{self.url}/api/v2/{path}", **kwargs)
        response.raise_for_status()
        return response.json()


def tail(log: Path, lines: int = _LOG_LINES) -> str:
    """The last lines of a log file, or why there is none."""
    if not log.exists():
        return f"(no log at {log})"
    return "\n".join("  " + line[:400] for line in log.read_text(errors="replace").splitlines()[-lines:])


def _readable(log: Path) -> str:
    """The last events of a task's log, which is one JSON object a line; errors with what they say."""
    if not log.exists():
        return tail(log)
    lines = []
    for line in log.read_text(errors="replace").splitlines():
        with suppress(ValueError, AttributeError):
            event = json.loads(line)
            if "::" not in str(event.get("event")):
                lines.append(f"  {event.get('level', 'info'):<8} {event.get('event')}")
            lines.extend(f"  {each['exc_type']}: {each['exc_value']}" for each in event.get("error_detail") or [])
    return "\n".join(lines[-_LOG_LINES:])


def _time(value: str | None) -> datetime | None:
    return datetime.fromisoformat(value) if value else None


def _wait(ask: Callable[[], object], seconds: float, what: str) -> None:
    give_up = time.monotonic() + seconds
    while ask() is None:
        if time.monotonic() > give_up:
            raise NotReady(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.2)
