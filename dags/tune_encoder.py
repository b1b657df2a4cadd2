"""Fine-tune the encoder behind search, every week, on what shoppers searched and what products say of themselves.

The tuned encoder is chosen only when it finds more on judged queries that it never saw; the embeddings
of later nights use the one chosen.
A week with too few new pairs, and a shop without judged queries, is skipped.
Runbook: docs/runbooks/tune_encoder.md
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import CronDataIntervalTimetable, dag, task
from airflow.sdk.exceptions import AirflowSkipException

from dags import assets
from dags.policies import DEFAULT_ARGS, UNTIL_PARAM, deadline
from dags.runs import after, publish, settings, shop, until


@task(inlets=[assets.dataset("search_pairs"), assets.clean("products")], outlets=[assets.ENCODER_CHOICE])
def tune(**context: Any) -> dict[str, Any]:
    """Which encoder was chosen, and why."""
    from mercato.tuning import tune_encoder as choose
    from training.errors import NotEnoughData

    try:
        return publish(context, choose(settings(), until(context)))
    except NotEnoughData as nothing_yet:
        raise AirflowSkipException(str(nothing_yet)) from nothing_yet


@dag(
    schedule=CronDataIntervalTimetable("0 0 * * 1", timezone=shop().zone),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    deadline=deadline(timedelta(hours=8)),
    params=UNTIL_PARAM,
    tags=["training", "search"],
    doc_md=__doc__,
)
def tune_encoder() -> None:
    """Waits for the pairs of the night; a night that made none, or never ran, leaves the tuning to the next week."""
    after("build_datasets", else_skip=True) >> tune()


tune_encoder()
