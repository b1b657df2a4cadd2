"""Copy each table of the shop's sources into `raw/`, one partition per business day of `known_at`.

A run over a longer window writes every day in it. What was extracted once keeps its first `known_at`.
Runbook: docs/runbooks/extract_sources.md
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, task

from dags import assets
from dags.policies import DEFAULT_ARGS, WINDOW_PARAMS, deadline
from dags.runs import nightly, publish, settings, tables, window


@task
def extract(table: str, **context: Any) -> dict[str, Any]:
    """What was written for one table: rows and partitions."""
    from training.jobs import extract_table

    span = window(context)
    return publish(
        context,
        extract_table(settings(), table, span.since, span.until, look_again=context["params"]["look_again"]),
    )


@dag(
    schedule=nightly(),
    catchup=False,
    max_active_runs=1,
    max_active_tasks=2,
    default_args=DEFAULT_ARGS,
    deadline=deadline(timedelta(hours=3)),
    params={
        **WINDOW_PARAMS,
        "look_again": Param(
            False,
            type="boolean",
            description="Look over a window that was extracted before: rows that raw lacks are known from now on.",
        ),
    },
    tags=["data"],
    doc_md=__doc__,
)
def extract_sources() -> None:
    """One task per table, for one run at a time: backfills beside the nightly run too."""
    for table in tables():
        extract.override(task_id=f"extract_{table}", outlets=[assets.raw(table)], max_active_tis_per_dag=1)(table)


extract_sources()
