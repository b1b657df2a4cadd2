"""Train the two rankers: `all` for everything a household buys, `novel` for what it never bought before.

Rows come from the first two stages of the pipeline that serves, with models fitted before the first label.
Runbook: docs/runbooks/train_ranker.md
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from dags import assets
from dags.policies import DEFAULT_ARGS, UNTIL_PARAM, deadline
from dags.runs import after, nightly, publish, settings, shop, until


@task(
    inlets=[*(assets.clean(t) for t in ("transactions", "interactions", "impressions")), assets.FEATURE_SNAPSHOTS],
    priority_weight=10,  # both fits and with them the release wait for the rows; other models do not
)
def rows(**context: Any) -> dict[str, Any]:
    """How many rows both rankers learn from."""
    from training.jobs import build_ranker_rows

    return dict(build_ranker_rows(settings(), until(context)))


@task
def fit(goal: str, **context: Any) -> dict[str, Any]:
    """The ranker's artefact and the MLflow run that made it."""
    from training.jobs import train_ranker as fit_ranker

    return publish(context, fit_ranker(settings(), goal, until(context)))


@dag(
    schedule=nightly(),
    catchup=False,
    max_active_runs=1,
    max_active_tasks=1,  # each fit uses every core that it is given
    default_args=DEFAULT_ARGS,
    deadline=deadline(timedelta(hours=8)),
    params=UNTIL_PARAM,
    tags=["training"],
    doc_md=__doc__,
)
def train_ranker() -> None:
    """The rows, then one task per goal."""
    ready = rows()
    after("materialize_features") >> ready
    for goal, asset in assets.RANKERS.items():
        ready >> fit.override(task_id=f"fit_{goal}", outlets=[asset])(goal)


if shop().sells:
    train_ranker()
