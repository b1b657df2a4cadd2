"""Take in what annotators said: Label Studio's JSON exports from the folder MERCATO_ANNOTATIONS, judged batch by batch.

A batch whose annotators do not agree enough is refused, and the labels that they mix up are named. What a majority
decides becomes a version of `intent_examples`; what none decides becomes a batch for an adjudicator.
Runbook: docs/runbooks/import_annotations.md
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowSkipException

from dags import assets
from dags.policies import DEFAULT_ARGS, UNTIL_PARAM, deadline
from dags.runs import nightly, publish, settings, until


@task(outlets=[assets.dataset("intent_examples")])
def take(**context: Any) -> dict[str, Any]:
    """What was taken, and the version of the dataset; skipped when nothing is new."""
    from training.annotation.jobs import import_annotations as import_dropped

    made = import_dropped(settings(), until(context))
    if made["dataset"] is None:
        raise AirflowSkipException(made["note"] or f"found {made['files']} files and no annotation that is new")
    return publish(context, made)


@dag(
    schedule=nightly(),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    deadline=deadline(timedelta(hours=6)),
    params=UNTIL_PARAM,
    tags=["annotation", "data"],
    doc_md=__doc__,
)
def import_annotations() -> None:
    """One task."""
    take()


import_annotations()
