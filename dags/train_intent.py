"""Train the intent model: what a shopper's message wants.

Linear models over pieces of words and over a pretrained encoder are made, then the encoder is trained too; that one
ships only where it beats them by more than the paired interval. `encoder` stops earlier. Without new labels nothing is
trained.
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
    from training.intent_config import Encoder
    from training.intent_job import train_intent as train

    def wins(challenger: Sequence[float], rival: Sequence[float]) -> bool:
        return paired_gain(challenger, rival).positive

    encoder = Encoder(context["params"]["encoder"])
    return publish(context, train(settings(), until(context), wins=wins, encoder=encoder))


@dag(
    schedule=nightly(),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    deadline=deadline(timedelta(hours=6)),
    params={
        **UNTIL_PARAM,
        "encoder": Param(
            "fine-tuned",
            type="string",
            enum=["none", "frozen", "fine-tuned"],
            description="How far to go with the pretrained encoder: under a minute, five minutes, most of an hour.",
        ),
    },
    tags=["training"],
    doc_md=__doc__,
)
def train_intent() -> None:
    """One task."""
    fit()


train_intent()
