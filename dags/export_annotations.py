"""Export a batch of messages for annotation: tasks in Label Studio's JSON and CSV, without personal data.

Searches and messages of the last weeks, one of each group of near-duplicates, chosen by a declared mix; what was
exported once is not exported again, and while three batches wait for their annotations there is no new one.
Runbook: docs/runbooks/export_annotations.md
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowSkipException

from dags import assets
from dags.policies import DEFAULT_ARGS, UNTIL_PARAM, deadline
from dags.runs import after, nightly, publish, settings, tables, until

READS = [assets.clean(table) for table in ("interactions", "messages", "products") if table in tables()]


@task(inlets=READS, outlets=[assets.ANNOTATION_TASKS])
def export(**context: Any) -> dict[str, Any]:
    """The batch and where it lies; skipped when there is no new one."""
    from training.annotation.jobs import export_annotations

    made = export_annotations(settings(), until(context))
    if made["batch"] is None:
        raise AirflowSkipException(made["note"])
    return publish(context, made)


@dag(
    schedule=nightly(),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    deadline=deadline(timedelta(hours=6)),
    params=UNTIL_PARAM,
    tags=["annotation"],
    doc_md=__doc__,
)
def export_annotations() -> None:
    """One task."""
    after("clean_tables") >> export()


export_annotations()
