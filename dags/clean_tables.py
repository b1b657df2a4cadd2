"""Check `raw/` against the data contracts: rows that hold go to `clean/`, rows that break a rule to `quarantine/`.

A broken rule over a whole table stops the run and leaves `clean/` as it was.
Runbook: docs/runbooks/clean_tables.md
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from dags import assets
from dags.policies import DEFAULT_ARGS, WINDOW_PARAMS, deadline
from dags.runs import after, nightly, publish, refers_to, run_of, settings, tables, window


@task
def clean(table: str, **context: Any) -> dict[str, Any]:
    """What was written for one table: rows kept, rows quarantined, partitions."""
    from training.jobs import clean_table

    span = window(context)
    scheduled = run_of(context).run_type == "scheduled"
    return publish(context, clean_table(settings(), table, span.since, span.until, scheduled=scheduled))


@dag(
    schedule=nightly(),
    catchup=False,
    max_active_runs=1,
    max_active_tasks=2,
    default_args=DEFAULT_ARGS,
    deadline=deadline(timedelta(hours=4)),
    params=WINDOW_PARAMS,
    tags=["data"],
    doc_md=__doc__,
)
def clean_tables() -> None:
    """One task per table, after the tables that it refers to, and for one run at a time: backfills too."""
    ready = after("extract_sources")
    cleaned = {
        table: clean.override(
            task_id=f"clean_{table}",
            inlets=[assets.raw(table)],
            outlets=[assets.clean(table)],
            max_active_tis_per_dag=1,
        )(table)
        for table in tables()
    }
    for table, this in cleaned.items():
        ready >> this
        for other in refers_to(table):
            cleaned[other] >> this


clean_tables()
