"""Delete what is past its lifetime (`MERCATO_KEEP_*_DAYS`, unset: for ever), and files that killed runs left.

What a live release, the one to roll back to, or a replay within `MERCATO_REPLAY_WINDOW_DAYS` needs stays, whatever
its age. `mercato retention plan` shows the same without deleting.
Runbook: docs/runbooks/apply_retention.md
"""

from datetime import timedelta

from airflow.sdk import dag, task

from dags.policies import DEFAULT_ARGS, UNTIL_PARAM, deadline
from dags.runs import nightly, settings, until


@task
def apply(**context: object) -> dict[str, int]:
    """How many of each kind went."""
    from mercato.retention import apply as let_go

    return let_go(settings(), until(context))


@dag(
    schedule=nightly(),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    deadline=deadline(timedelta(hours=8)),
    params=UNTIL_PARAM,
    tags=["data", "releases"],
    doc_md=__doc__,
)
def apply_retention() -> None:
    """One task."""
    apply()


apply_retention()
