"""Build the training datasets that come from clean tables: a version each, split, checked against its contract.

The same inputs make the same version, so a night without news adds none. The event of each dataset names its version
and its validation report. Datasets that people label come from files: `mercato dataset build NAME --file`.
Runbook: docs/runbooks/build_datasets.md
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from dags import assets
from dags.policies import DEFAULT_ARGS, UNTIL_PARAM, deadline
from dags.runs import after, nightly, publish, settings, shop, until

READS = {
    "product_corpus": ("products", "transactions"),
    "recommendation_examples": ("transactions", "interactions", "products"),
    "search_pairs": ("products", "transactions", "interactions"),
}
"""Dataset -> the clean tables that it is made of."""


@task
def build(name: str, **context: Any) -> dict[str, Any]:
    """The version, its rows, and where its report lies."""
    from training.jobs import build_dataset

    return publish(context, build_dataset(settings(), name, until(context)))


@dag(
    schedule=nightly(),
    catchup=False,
    max_active_runs=1,
    max_active_tasks=1,  # a dataset is made in memory
    default_args=DEFAULT_ARGS,
    deadline=deadline(timedelta(hours=6)),
    params=UNTIL_PARAM,
    tags=["training", "data"],
    doc_md=__doc__,
)
def build_datasets() -> None:
    """One task per dataset."""
    ready = after("clean_tables")
    for name, reads in READS.items():
        if name == "recommendation_examples" and not shop().sells:  # a catalogue alone has nothing to recommend from
            continue
        inlets = [assets.clean(table) for table in reads]
        ready >> build.override(task_id=f"build_{name}", inlets=inlets, outlets=[assets.dataset(name)])(name)


build_datasets()
