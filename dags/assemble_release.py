"""Tie the newest artefacts into one release and measure it as it will serve; a shop's first release goes live.

Started by asset events, once every artefact has a new one: however many events came in between, they make
one run. Airflow counts events of backfills too. A run that only they started does nothing, so rebuilding history
releases nothing; one that they started early waits until every artefact is of the night of the newest one.
Runbook: docs/runbooks/assemble_release.md
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import AssetAll, dag, task
from airflow.sdk.exceptions import AirflowSkipException

from dags import assets
from dags.policies import DEFAULT_ARGS, UNTIL_PARAM, deadline
from dags.runs import publish, run_of, settings, shop, until
from dags.windows import only_backfills

ARTEFACTS = (
    [*assets.RETRIEVAL.values(), assets.PRODUCT_INDEX, *assets.RANKERS.values()]
    if shop().sells
    else [assets.PRODUCT_INDEX]
)


@task.sensor(mode="reschedule", poke_interval=60, timeout=6 * 3600)
def anything_new(**context: Any) -> bool:
    """True once every artefact is of the night of the newest event; skipped when only backfills started this run.

    A run started by hand takes what there is.
    """
    from training.jobs import older_artefacts

    run = run_of(context)
    if only_backfills(run):
        raise AirflowSkipException("only backfills had written artefacts: nothing is new")
    return run.run_type != "asset_triggered" or not older_artefacts(settings(), until(context))


@task(inlets=ARTEFACTS, outlets=[assets.RELEASE])
def assemble(**context: Any) -> dict[str, Any]:
    """The release and its id."""
    from monitoring.statistics import paired_gain
    from training.jobs import assemble_release as tie

    def loses(challenger: Sequence[float], rival: Sequence[float]) -> bool:
        return paired_gain(challenger, rival).high < 0

    return publish(context, tie(settings(), until(context), loses=loses))


@task
def evaluate(release: dict[str, Any]) -> dict[str, Any]:
    """Offline quality of the release as it serves, beside the baselines; skipped while its truth is in the future."""
    from mercato.quality import evaluate_release
    from training.errors import NotEnoughData

    try:
        return dict(evaluate_release(settings(), release["release_id"]))
    except NotEnoughData as nothing_yet:
        raise AirflowSkipException(str(nothing_yet)) from nothing_yet


@task
def make_first_live(release: dict[str, Any], **context: Any) -> dict[str, Any]:
    """Generation 1 of the routing document, when the shop had none."""
    from monitoring.rollout import make_first_live as point_to

    return point_to(settings(), release["release_id"], at=until(context))


@dag(
    schedule=AssetAll(*ARTEFACTS),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    deadline=deadline(timedelta(hours=2)),
    params=UNTIL_PARAM,
    tags=["release"],
    doc_md=__doc__,
)
def assemble_release() -> None:
    """Assemble; then make the first release live, and measure it."""
    release = assemble()
    anything_new() >> release
    make_first_live(release)
    if shop().sells:
        evaluate(release)


assemble_release()
