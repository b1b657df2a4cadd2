"""What all DAGs share: their owner, when a failure is tried again, who hears of trouble, which params they take."""

from collections.abc import Mapping
from datetime import timedelta
from importlib.util import find_spec
from typing import Any, Literal

from airflow.sdk import Context, ExceptionRetryPolicy, Param, RetryAction, RetryRule
from airflow.sdk.definitions.callback import SyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

_AWAY = [
    "builtins.OSError",  # ConnectionError and TimeoutError are OSErrors
    "sqlite3.OperationalError",
    "sqlalchemy.exc.OperationalError",
    "sqlalchemy.exc.InterfaceError",
]
if find_spec("redis"):  # its errors are no OSErrors, and Airflow imports what a rule names
    _AWAY += ["redis.exceptions.ConnectionError", "redis.exceptions.TimeoutError"]

RETRY_BY_KIND = ExceptionRetryPolicy(
    rules=[
        RetryRule(
            "training.errors.SourceBusy", RetryAction.RETRY, timedelta(hours=1), "a server asked for a long pause"
        ),
        RetryRule("mercato.errors.TransientError", RetryAction.RETRY, timedelta(seconds=30), "a dependency was away"),
        RetryRule("mercato.errors.MercatoError", RetryAction.FAIL, reason="the same input fails again"),
        RetryRule(
            ["builtins.FileNotFoundError", "builtins.PermissionError", "builtins.IsADirectoryError"],
            RetryAction.FAIL,
            reason="a path is wrong, and stays wrong",
        ),
        RetryRule(
            _AWAY,
            RetryAction.RETRY,
            timedelta(seconds=30),
            "network, disk or a locked store",
        ),
    ],
    default=RetryAction.FAIL,  # anything else is a bug: another try gives the same traceback
)


def task_failed(context: Context) -> None:
    """Alert that a task failed for good; the error's kind only, because its message may quote rows."""
    task, error = context["ti"], context.get("exception")
    _alert(
        "task.failed",
        task.dag_id,
        run_id=task.run_id,
        task_id=task.task_id,
        error=type(error).__name__ if isinstance(error, BaseException) else "see the log",
        log_url=task.log_url,
    )


def rule_warned(context: Mapping[str, Any], table: str, alarm: str) -> None:
    """Alert that a table rule of severity warning does not hold; `alarm` has counts and names, no rows."""
    task = context["ti"]
    said = {"run_id": task.run_id, "task_id": task.task_id, "table": table, "found": alarm}
    _alert("table.rule_warned", task.dag_id, level="warning", **said)


def _alert(event: str, dag_id: str, *, level: Literal["error", "warning"] = "error", **said: str | None) -> None:
    from mercato.settings import Settings
    from monitoring.alerts import alert

    alert(Settings(), event, level=level, dag_id=dag_id, **said, runbook=f"docs/runbooks/{dag_id}.md")


DEFAULT_ARGS: dict[str, Any] = {
    "owner": "ml-platform",
    "retries": 2,
    "retry_delay": timedelta(seconds=30),
    "retry_policy": RETRY_BY_KIND,
    "execution_timeout": timedelta(hours=2),
    "on_failure_callback": task_failed,
}

UNTIL_PARAM = {
    "until": Param(
        None,
        type=["null", "string"],
        format="date-time",
        description="Nothing at or after this instant is seen, e.g. 2017-12-04T05:00:00Z. "
        "Manual runs need it; scheduled ones have their data interval.",
    ),
}
WINDOW_PARAMS = {
    "since": Param(
        None,
        type=["null", "string"],
        format="date-time",
        description="First instant of the window, e.g. 2017-12-03T05:00:00Z. "
        "Manual runs need since and until; scheduled ones have their data interval.",
    ),
    **UNTIL_PARAM,
}


def deadline(limit: timedelta) -> DeadlineAlert:
    """An alert when a run is not done `limit` after it was queued."""
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=limit,
        callback=SyncCallback("dags.policies.deadline_missed"),
        name=f"done within {limit}",
    )


def deadline_missed(context: dict[str, Any] | None = None, **_: object) -> None:
    """Alert that a run is late; runs in the executor, so that no triggerer is needed."""
    run = (context or {}).get("dag_run") or {}
    _alert("dag.deadline_missed", str(run.get("dag_id", "?")), run_id=run.get("dag_run_id"))
