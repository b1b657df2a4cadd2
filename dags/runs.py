"""How a task meets its run: the shop at parse time, the window and the outlets at task time."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import CronDataIntervalTimetable, task

from dags.policies import rule_warned
from dags.windows import Run, Window, until_of, window_of
from data_contracts.contract import load_contract
from data_contracts.shop import Shop, load_shop
from mercato.settings import Settings


@cache
def settings() -> Settings:
    """The settings of this process."""
    return Settings()


@cache
def shop() -> Shop:
    """The shop that `MERCATO_SHOP` names; its YAML only, no data."""
    return load_shop(settings().shop)


def tables() -> tuple[str, ...]:
    """The shop's tables."""
    return tuple(shop().tables)


def refers_to(table: str) -> list[str]:
    """The tables that must be clean before `table`, by its contract."""
    return load_contract(table).references


def nightly() -> CronDataIntervalTimetable:
    """One run a business day of the shop, after it ended; the data interval is that day."""
    return CronDataIntervalTimetable("0 0 * * *", timezone=shop().zone)


def run_of(context: Mapping[str, Any]) -> Run:
    """What the task's context says about the run's time."""
    dag_run = context["dag_run"]
    started_by = context.get("triggering_asset_events") or {}
    edges = (context.get("data_interval_start"), context.get("data_interval_end"))
    return Run(
        run_type=str(getattr(dag_run.run_type, "value", dag_run.run_type)),
        params=dict(context["params"]),
        interval=(edges[0], edges[1]) if edges[0] and edges[1] else None,
        partition_key=dag_run.partition_key,
        # What a watcher says is the payload of its event.
        events=tuple(each.extra.get("payload") or each.extra for events in started_by.values() for each in events),
    )


def window(context: Mapping[str, Any]) -> Window:
    """The run's window `[since, until)`."""
    return window_of(run_of(context), shop())


def until(context: Mapping[str, Any]) -> datetime:
    """The end of the run's window."""
    return until_of(run_of(context), shop())


def publish(context: Mapping[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """`result`, which also goes on the event of each outlet, with the window it stands for; alarms reach a person."""
    run = run_of(context)
    since = run.params.get("since") or (run.interval[0].isoformat() if run.interval else result.get("since"))
    said = {"since": since, "until": until_of(run, shop()).isoformat(), "backfill": run.run_type == "backfill"}
    for outlet in context["task"].outlets:
        context["outlet_events"][outlet].extra = {**result, **said}
    for alarm in result.get("alarms", ()):
        rule_warned(context, result.get("table") or result["name"], alarm)
    return result


def start(
    dag_id: str, conf: dict[str, Any], run_id: str = "{{ run_id }}", *, wait: bool = True
) -> TriggerDagRunOperator:
    """A task that starts `dag_id` with `conf` (templates) and, unless told otherwise, waits for its end."""
    return TriggerDagRunOperator(
        task_id=dag_id,
        trigger_dag_id=dag_id,
        trigger_run_id=run_id,
        logical_date=None,
        conf=conf,
        reset_dag_run=True,
        fail_when_dag_is_paused=True,
        wait_for_completion=wait,
        poke_interval=1.5,
        retries=0,  # each DAG retries its own tasks
    )


def after(*dag_ids: str, even_failed: bool = False, else_skip: bool = False) -> Any:
    """A task that holds a scheduled run until its last business day succeeded in `dag_ids`, or is over (`even_failed`).

    When that has not come after six hours it fails, or skips what follows (`else_skip`).
    Manual and backfill runs go on at once: who starts them answers for their input.
    """
    patience: dict[str, Any] = {"mode": "reschedule", "poke_interval": 60, "timeout": 6 * 3600, "retries": 0}

    @task.sensor(task_id="wait_for_" + "_and_".join(dag_ids), soft_fail=else_skip, **patience)
    def wait(**context: Any) -> bool:
        if run_of(context).run_type != "scheduled":
            return True
        day = [shop().last_midnight(context["data_interval_end"] - timedelta(microseconds=1))]
        states = ["success", "failed"] if even_failed else ["success"]
        return all(context["ti"].get_dr_count(dag_id=of, logical_dates=day, states=states) for of in dag_ids)

    return wait()
