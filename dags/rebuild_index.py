"""Build the product features, the keyword index and the FAISS index of the catalogue, every night.

Runbook: docs/runbooks/rebuild_index.md
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from dags import assets
from dags.policies import DEFAULT_ARGS, UNTIL_PARAM, deadline
from dags.runs import after, nightly, publish, settings, until


@task(inlets=[assets.PRODUCT_EMBEDDINGS, assets.FEATURE_SNAPSHOTS], outlets=[assets.PRODUCT_INDEX])
def build(**context: Any) -> dict[str, Any]:
    """The artefacts of the indexes and the MLflow run that made them."""
    from training.jobs import rebuild_index as build_index

    return publish(context, build_index(settings(), until(context)))


@dag(
    schedule=nightly(),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    deadline=deadline(timedelta(hours=7)),
    params=UNTIL_PARAM,
    tags=["training", "search"],
    doc_md=__doc__,
)
def rebuild_index() -> None:
    """One task."""
    after("train_embeddings", "materialize_features") >> build()


rebuild_index()
