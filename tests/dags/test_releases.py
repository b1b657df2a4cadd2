"""When a release is assembled: of one night's artefacts, whatever asset events started the run."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from data_contracts.artefact_store import ArtefactRef, ArtefactStore
from data_contracts.release import Artefact, Kind
from mercato import paths
from mercato.settings import Settings
from tests.feature_repo.clean_sample import SHOP, T
from training.jobs import artefacts_of

TONIGHT, LAST_NIGHT = T, SHOP.day_start(T.astimezone(SHOP.tz).date() - timedelta(days=1))
RANKERS = ("ranker_all", "ranker_novel")


def told(name: str, *, backfill: bool) -> dict[str, list[Any]]:
    """The event of one artefact; a backfill's is as of last night."""
    until = LAST_NIGHT if backfill else TONIGHT
    extra = {"since": None, "until": until.isoformat(), "backfill": backfill}
    return {name: [SimpleNamespace(extra=extra)]}


def context(run_type: str = "asset_triggered", **events: list[Any]) -> dict[str, Any]:
    """Of a run that the events started."""
    by_hand = {"until": TONIGHT.isoformat()} if run_type == "manual" else {}
    run = SimpleNamespace(run_type=run_type, partition_key=None)
    return {"dag_run": run, "params": by_hand, "triggering_asset_events": events}


@pytest.fixture
def settings(tmp_path: Any) -> Settings:
    """A home with every artefact of last night, and all but the rankers of tonight; the encoder is older."""
    settings = Settings(home=tmp_path)
    for name, dag in artefacts_of(SHOP).items():
        nights = [LAST_NIGHT - timedelta(days=9)] if dag == "train_embeddings" else [LAST_NIGHT, TONIGHT]
        for night in nights[:1] if name in RANKERS else nights:
            made(settings, name, night)
    return settings


def made(settings: Settings, name: str, at: Any) -> None:
    """A run left its artefact."""
    ref = ArtefactRef(
        name=name, artefact=Artefact(kind=Kind.JSON, sha256="0" * 64), fit_until=at, run_id="r", snapshots={}
    )
    ArtefactStore(paths.lake(settings)).write_ref(ref)


def test_a_backfill_pairs_no_old_model_with_new_ones(
    dagbag: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rankers of a backfilled day complete the set before tonight's are done: the run waits for these. Backfills alone
    are skipped, and a person who starts a run gets what there is.
    """
    anything_new = dagbag.dags["assemble_release"].get_task("anything_new").python_callable
    monkeypatch.setitem(anything_new.__globals__, "settings", lambda: settings)
    fresh = told("als", backfill=False) | told("product_index", backfill=False)
    early = context(**fresh, **told("ranker_all", backfill=True))
    assert anything_new(**context("manual"))
    for ranker in RANKERS:
        assert not anything_new(**early)
        made(settings, ranker, TONIGHT)
    assert anything_new(**early)
    with pytest.raises(AirflowSkipException, match="nothing is new"):
        anything_new(**context(**told("als", backfill=True), **told("ranker_all", backfill=True)))
