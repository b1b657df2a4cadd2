"""Set up a new shop: load its history, then train, index and release as of one instant, in order.

`since` and `until` say which history to load; `at` is the instant that features and models are as of.
Each step is an ordinary run of its own DAG with the same run id. Clearing a failed step runs that DAG again.
Runbook: docs/runbooks/bootstrap.md
"""

from datetime import timedelta

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Param, chain, dag

from dags.policies import DEFAULT_ARGS, WINDOW_PARAMS, deadline

LOAD = {"since": "{{ params.since }}", "until": "{{ params.until }}"}
AS_OF = {"until": "{{ params.at }}"}
COMPARE = {
    "since": "{{ (macros.datetime.fromisoformat(params.at) - macros.timedelta(weeks=4)).isoformat() }}",
    "until": "{{ params.at }}",
}


def run(dag_id: str, conf: dict[str, str]) -> TriggerDagRunOperator:
    """A task that starts `dag_id` with `conf` and waits for it."""
    return TriggerDagRunOperator(
        task_id=dag_id,
        trigger_dag_id=dag_id,
        trigger_run_id="{{ run_id }}",
        logical_date=None,
        conf=conf,
        reset_dag_run=True,
        fail_when_dag_is_paused=True,
        wait_for_completion=True,
        poke_interval=1.5,
        retries=0,  # each DAG retries its own tasks
    )


@dag(
    schedule=None,
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    deadline=deadline(timedelta(hours=6)),
    params={
        **{name: Param(None, type="string", format="date-time") for name in WINDOW_PARAMS},
        "at": Param(None, type="string", format="date-time", description="Features and models are as of this instant."),
    },
    tags=["setup"],
    doc_md=__doc__,
)
def bootstrap() -> None:
    """History; then text and index, models, and rankers side by side; then the release beside the drift report."""
    text = run("train_embeddings", AS_OF)
    index = run("rebuild_index", AS_OF)
    features = run("materialize_features", AS_OF)
    models = run("train_als", AS_OF)
    rankers = run("train_ranker", AS_OF)
    chain(run("extract_sources", LOAD), run("clean_tables", LOAD), [text, features])
    chain([text, features], index)
    chain(features, [models, rankers])
    chain([index, models, rankers], run("assemble_release", AS_OF))
    chain(rankers, run("report_drift", COMPARE))


bootstrap()
