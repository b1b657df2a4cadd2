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
from dags.runs import after, nightly, publish, settings, until


@task(inlets=[assets.dataset("intent_examples")], outlets=[assets.INTENT], execution_timeout=timedelta(hours=5))
def fit(**context: Any) -> dict[str, Any]:
    """The artefact, what it does on the test messages, and the MLflow run with its report."""
    from monitoring.statistics import paired_gain
    from training.intent_config import Encoder
    from training.intent_job import recipe
    from training.intent_job import train_intent as train

    def wins(challenger: Sequence[float], rival: Sequence[float]) -> bool:
        return paired_gain(challenger, rival).positive

    config = recipe(settings(), Encoder(context["params"]["encoder"]))
    return publish(context, train(settings(), until(context), wins=wins, config=config))


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
            description="How far to go with the pretrained encoder: under a minute, five minutes, an hour or more.",
        ),
    },
    tags=["training"],
    doc_md=__doc__,
)
def train_intent() -> None:
    """Train on tonight's labels; a batch that was refused holds up nothing, as the others were taken."""
    after("import_annotations", even_failed=True) >> fit()


train_intent()
