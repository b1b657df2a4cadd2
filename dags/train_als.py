"""Fit the models that find candidates: ALS, EASE, user kNN and co-purchase, on purchases before the window's end.

These are the ones to ship. The ranker learns from models fitted before its first label, which `train_ranker` fits.
Runbook: docs/runbooks/train_als.md
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from dags import assets
from dags.policies import DEFAULT_ARGS, UNTIL_PARAM, deadline
from dags.runs import after, nightly, publish, settings, shop, until


@task(inlets=[assets.clean("transactions")])
def fit(model: str, **context: Any) -> dict[str, Any]:
    """The artefacts of one model and the MLflow run that made them."""
    from training.jobs import fit_retrieval

    return publish(context, fit_retrieval(settings(), model, until(context)))


@dag(
    schedule=nightly(),
    catchup=False,
    max_active_runs=1,
    max_active_tasks=2,
    default_args=DEFAULT_ARGS,
    deadline=deadline(timedelta(hours=6)),
    params=UNTIL_PARAM,
    tags=["training"],
    doc_md=__doc__,
)
def train_als() -> None:
    """One task per model."""
    ready = after("clean_tables")
    for model, asset in assets.RETRIEVAL.items():
        ready >> fit.override(task_id=f"fit_{model}", outlets=[asset])(model)


if shop().sells:
    train_als()
