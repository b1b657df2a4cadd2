"""Compute the feature snapshots at the end of the window and put the newest into the online store.

Online reads go on while this runs, and after it was killed: the store serves the rows it had.
Runbook: docs/runbooks/materialize_features.md
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, task

from dags import assets
from dags.policies import DEFAULT_ARGS, UNTIL_PARAM, deadline
from dags.runs import after, nightly, publish, settings, shop, tables, until


@task(inlets=[assets.clean(table) for table in tables()], outlets=[assets.FEATURE_SNAPSHOTS])
def snapshot(**context: Any) -> dict[str, Any]:
    """Rows and digests of the snapshots at `until`."""
    from training.jobs import snapshot_features

    return publish(context, snapshot_features(settings(), until(context)))


@task(inlets=[assets.FEATURE_SNAPSHOTS], outlets=[assets.ONLINE_FEATURES])
def materialize(**context: Any) -> dict[str, Any]:
    """Rows put into the online store, by feature view."""
    from training.jobs import materialize_features as to_online_store

    return publish(context, to_online_store(settings(), until(context), go_back=context["params"]["go_back"]))


@dag(
    schedule=nightly(),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    deadline=deadline(timedelta(hours=5)),
    params={
        **UNTIL_PARAM,
        "go_back": Param(False, type="boolean", description="Put them online although newer ones are there."),
    },
    tags=["features"],
    doc_md=__doc__,
)
def materialize_features() -> None:
    """Snapshots, then the online store."""
    after("clean_tables") >> snapshot() >> materialize()


if shop().sells:
    materialize_features()
