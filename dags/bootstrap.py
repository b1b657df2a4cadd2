"""Set up a new shop: load its history, then train, index and release as of one instant, in order.

`since` and `until` say which history to load; `at` is the instant that features and models are as of.
Each step is an ordinary run of its own DAG with the same run id. Clearing a failed step runs that DAG again.
Runbook: docs/runbooks/bootstrap.md
"""

from datetime import timedelta

from airflow.sdk import Param, chain, dag

from dags.policies import DEFAULT_ARGS, WINDOW_PARAMS, deadline
from dags.runs import shop, start

LOAD = {"since": "{{ params.since }}", "until": "{{ params.until }}"}
AS_OF = {"until": "{{ params.at }}"}
COMPARE = {
    "since": "{{ (macros.datetime.fromisoformat(params.at) - macros.timedelta(weeks=4)).isoformat() }}",
    "until": "{{ params.at }}",
}


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
    """History; then text and index, models, rankers, intent side by side; then the release beside the drift report."""
    text = start("train_embeddings", AS_OF)
    index = start("rebuild_index", AS_OF)
    # The model over pieces of words takes under a minute; the nightly run of train_intent reads with the encoder too.
    intent = start("train_intent", {**AS_OF, "encoder": "none"})
    if not shop().sells:  # a catalogue alone: search, and nothing to recommend from
        chain(start("extract_sources", LOAD), start("clean_tables", LOAD), [text, intent])
        chain(text, index)
        chain([index, intent], start("assemble_release", AS_OF))
        return
    features = start("materialize_features", AS_OF)
    models = start("train_als", AS_OF)
    rankers = start("train_ranker", AS_OF)
    chain(start("extract_sources", LOAD), start("clean_tables", LOAD), [text, features, intent])
    chain([text, features], index)
    chain(features, [models, rankers])
    chain([index, models, rankers, intent], start("assemble_release", AS_OF))
    chain(rankers, start("report_drift", COMPARE))


bootstrap()
