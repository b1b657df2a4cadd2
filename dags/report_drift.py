"""Compare the window's data with the reference before it, per clean table and per feature service, with Evidently.

Runbook: docs/runbooks/report_drift.md
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from dags import assets
from dags.policies import DEFAULT_ARGS, WINDOW_PARAMS, deadline
from dags.runs import after, nightly, publish, settings, shop, tables, window


@task(inlets=[*(assets.clean(table) for table in tables()), assets.FEATURE_SNAPSHOTS], outlets=[assets.DRIFT_REPORT])
def report(**context: Any) -> dict[str, Any]:
    """Where the reports lie, and which columns drifted."""
    from monitoring.drift import run

    span = window(context)
    return publish(context, run(settings(), span.since, span.until))


@dag(
    schedule=nightly(),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    deadline=deadline(timedelta(hours=8)),
    params=WINDOW_PARAMS,
    tags=["monitoring"],
    doc_md=__doc__,
)
def report_drift() -> None:
    """One task."""
    after("materialize_features") >> report()


if shop().sells:
    report_drift()
