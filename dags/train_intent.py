"""Train the intent model: what a shopper's message wants.

Linear models over pieces of words and over a pretrained encoder are always made; `fine_tune` also trains the encoder,
and it ships only where it beats them by more than the paired interval. Without new labels nothing is trained.
Runbook: docs/runbooks/train_intent.md
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, task

from dags import assets
from dags.policies import DEFAULT_ARGS, UNTIL_PARAM, deadline
from dags.runs import nightly, publish, settings, until


@task(outlets=[assets.INTENT], execution_timeout=timedelta(hours=5))
def fit(**context: Any) -> dict[str, Any]:
    """The artefact, what it does on the test messages, and the MLflow run with its report."""
    from monitoring.statistics import paired_gain
    from training.intent_job import train_intent as train

    def wins(challenger: Sequence[float], rival: Sequence[float]) -> bool:
        return paired_gain(challenger, rival).positive

    return publish(
        context, train(settings(), until(context), wins=wins, fine_tune=bool(context["params"]["fine_tune"]))
    )


@dag(
    schedule=nightly(),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    deadline=deadline(timedelta(hours=6)),
    params={
        **UNTIL_PARAM,
        "fine_tune": Param(
            True, type="boolean", description="Train the encoder too: minutes on a GPU, longer without."
        ),
    },
    tags=["training"],
    doc_md=__doc__,
)
def train_intent() -> None:
    """One task."""
    fit()


train_intent()
