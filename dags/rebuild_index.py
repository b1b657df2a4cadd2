"""Build the product features, the keyword index and the FAISS index of the catalogue, every night, and judge them.

An index that does worse on the shop's golden set than it must stays out of releases.

Runbook: docs/runbooks/rebuild_index.md
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from dags import assets
from dags.policies import DEFAULT_ARGS, UNTIL_PARAM, deadline
from dags.runs import after, nightly, publish, settings, shop, until


@task(inlets=[assets.PRODUCT_EMBEDDINGS, assets.FEATURE_SNAPSHOTS, assets.clean("interactions")])
def build(**context: Any) -> dict[str, Any]:
    """The artefacts of the indexes and the MLflow run that made them."""
    from training.jobs import rebuild_index as build_index

    return build_index(settings(), until(context))


@task(outlets=[assets.PRODUCT_INDEX])
def judge(**context: Any) -> dict[str, Any]:
    """How the stages are fused, and the scores on the golden set that allow the index into a release."""
    from mercato.search_quality import judge_index

    return publish(context, judge_index(settings(), until(context)))


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
    """Build beside what is live; then judge."""
    needed = ("train_embeddings", "materialize_features") if shop().sells else ("train_embeddings",)
    after(*needed) >> build() >> judge()


rebuild_index()
