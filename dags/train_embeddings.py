"""Embed the text of every product with the encoder that queries are embedded with.

The encoder is the one that the last tune_encoder chose, or the pretrained one where nothing was tuned.
Runbook: docs/runbooks/train_embeddings.md
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from dags import assets
from dags.policies import DEFAULT_ARGS, UNTIL_PARAM, deadline
from dags.runs import after, nightly, publish, settings, until


@task(inlets=[assets.clean("products"), assets.ENCODER_CHOICE], outlets=[assets.PRODUCT_EMBEDDINGS])
def embed(**context: Any) -> dict[str, Any]:
    """The artefacts (encoder, tokenizer, vectors) and the MLflow run that made them."""
    from training.jobs import train_embeddings as embed_products

    return publish(context, embed_products(settings(), until(context)))


@dag(
    schedule=nightly(),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    deadline=deadline(timedelta(hours=6)),
    params=UNTIL_PARAM,
    tags=["training"],
    doc_md=__doc__,
)
def train_embeddings() -> None:
    """One task."""
    after("clean_tables") >> embed()


train_embeddings()
