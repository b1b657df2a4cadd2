"""What all DAGs share: their owner, when a failure is tried again, who hears of a late run, which params they take."""

import logging
from datetime import timedelta
from typing import Any

from airflow.sdk import ExceptionRetryPolicy, Param, RetryAction, RetryRule
from airflow.sdk.definitions.callback import SyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

RETRY_BY_KIND = ExceptionRetryPolicy(
    rules=[
        RetryRule("mercato.errors.TransientError", RetryAction.RETRY, timedelta(seconds=30), "a dependency was away"),
        RetryRule("mercato.errors.MercatoError", RetryAction.FAIL, reason="the same input fails again"),
        RetryRule(
            ["builtins.FileNotFoundError", "builtins.PermissionError", "builtins.IsADirectoryError"],
            RetryAction.FAIL,
            reason="a path is wrong, and stays wrong",
        ),
        RetryRule(
            ["builtins.OSError", "sqlite3.OperationalError"],  # ConnectionError and TimeoutError are OSErrors
            RetryAction.RETRY,
            timedelta(seconds=30),
            "network, disk or a locked store",
        ),
    ],
    default=RetryAction.FAIL,  # anything else is a bug: another try gives the same traceback
)

DEFAULT_ARGS: dict[str, Any] = {
    "owner": "ml-platform",
    "retries": 2,
    "retry_delay": timedelta(seconds=30),
    "retry_policy": RETRY_BY_KIND,
    "execution_timeout": timedelta(hours=2),
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
    """An alert in the log when a run is not done `limit` after it was queued."""
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=limit,
        callback=SyncCallback("dags.policies.deadline_missed"),
        name=f"done within {limit}",
    )


def deadline_missed(context: dict[str, Any] | None = None, **_: object) -> None:
    """Log `dag.deadline_missed`; runs in the executor, so that no triggerer is needed."""
    run = (context or {}).get("dag_run") or {}
    dag_id = run.get("dag_id", "?")
    logging.getLogger("mercato.dags").error(
        "dag.deadline_missed dag_id=%s run_id=%s runbook=docs/runbooks/%s.md", dag_id, run.get("dag_run_id"), dag_id
    )
