"""Take in the files that a retailer drops: extract their tables, clean the days that they fill, renew the features.

Started by a watcher of each source with `drop: true` in the shop's YAML, once files are whole. A day that is over
and was not extracted yet is extracted by the source's rule; a row that a day extracted before lacks is a late
correction, known at the instant at which its file was seen, and cleaned with that day's nightly run. Days that an
earlier run extracted and did not clean are cleaned too.
Runbook: docs/runbooks/receive_files.md
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import AssetWatcher, TriggerRule, chain, dag, task
from airflow.sdk.exceptions import AirflowSkipException

from dags import assets
from dags.drops import FilesArrived
from dags.policies import DEFAULT_ARGS, UNTIL_PARAM, deadline
from dags.runs import publish, run_of, settings, shop, start, until

DROPS = shop().drops
WATCHERS = [AssetWatcher(name="drop_folders", trigger=FilesArrived(DROPS))] if DROPS else []
RUN_ID = "files_{{ run_id }}"
SINCE = {"since": "{{ ti.xcom_pull(task_ids='window')['since'] }}"}
UNTIL = {"until": "{{ ti.xcom_pull(task_ids='window')['until'] }}"}


@task
def extract(table: str, **context: Any) -> dict[str, Any]:
    """What the files of one table brought; skipped when the ones that arrived are of other tables."""
    from training.jobs import extract_arrived

    arrived = {each for event in run_of(context).events for each in event["tables"]}
    if table not in (arrived or DROPS):
        raise AirflowSkipException(f"no file of {table} arrived")
    return publish(context, extract_arrived(settings(), table, until(context)))


@task(trigger_rule=TriggerRule.NONE_FAILED)
def window(found: list[dict[str, Any] | None]) -> dict[str, str]:
    """The days to clean, of all tables together, those that a failed run left too; skipped when there is none."""
    unclean = [each for each in found if each and each["since"]]
    if not unclean:
        raise AirflowSkipException("every day that is over is clean; late rows are cleaned tonight")
    return {"since": min(each["since"] for each in unclean), "until": unclean[0]["until"]}


@dag(
    schedule=[assets.dropped_files(WATCHERS)],
    catchup=False,
    max_active_runs=1,
    max_active_tasks=2,
    default_args=DEFAULT_ARGS,
    deadline=deadline(timedelta(hours=4)),
    params=UNTIL_PARAM,
    tags=["data"],
    doc_md=__doc__,
)
def receive_files() -> None:
    """Extract, clean, renew features; models are trained at night."""
    found = [extract.override(task_id=f"extract_{table}", outlets=[assets.raw(table)])(table) for table in DROPS]
    span = window(found)
    # Not waited for: it may stand in line behind a night's run that waits for hours, and the next files must not.
    features = start("materialize_features", UNTIL, RUN_ID, wait=False)
    chain(span, start("clean_tables", {**SINCE, **UNTIL}, RUN_ID), features)


receive_files()
