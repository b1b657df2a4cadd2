"""Bring every product's popularity forward by the events of the last five minutes.

Each event counts once, whatever runs were missed or repeated; the time a run takes grows with new events only.
Runbook: docs/runbooks/update_popularity.md
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import CronDataIntervalTimetable, dag, task

from dags import assets
from dags.policies import DEFAULT_ARGS, UNTIL_PARAM, deadline
from dags.runs import publish, settings, shop, until


@task(outlets=[assets.POPULARITY])
def update(**context: Any) -> dict[str, Any]:
    """How many events were new, and how old the newest is."""
    from training.jobs import update_popularity as count_new_events

    return publish(context, count_new_events(settings(), until(context)))


@dag(
    schedule=CronDataIntervalTimetable("*/5 * * * *", timezone=shop().zone),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    deadline=deadline(timedelta(minutes=10)),
    params=UNTIL_PARAM,
    tags=["features"],
    doc_md=__doc__,
)
def update_popularity() -> None:
    """One task."""
    update()


update_popularity()
