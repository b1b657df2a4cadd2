"""The chain that the DAGs run, on the 300 real households: from source files to a release that can be verified."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from data_contracts.artefact_store import ArtefactStore
from data_contracts.errors import ArtefactRefused
from data_contracts.release import Kind, Manifest
from mercato import paths
from mercato.identity import identity
from mercato.quality import evaluate_release
from mercato.search_quality import judge_index
from mercato.settings import Settings
from serving.runtime import artefacts, search
from serving.runtime.fusion import Fusion
from tests.lake_maker import sample_shop
from tests.serving.small_release import write_encoder
from tests.training.small_intent import small_intent
from training import embeddings, fit, golden, jobs
from training.clean import clean
from training.errors import ArtefactMissing
from training.extract import extract
from training.fit import MODELS
from training.record import record

AT = datetime(2017, 12, 4, 5, tzinfo=UTC)


def small_encoder(_config: Any, folder: Path) -> tuple[Path, Path]:
    """A real ONNX encoder of a few words instead of the pretrained one, which takes a minute here."""
    return write_encoder(folder, ["milk", "pizza", "frozen", "bread", "cheese"])


def never(_challenger: Sequence[float], _rival: Sequence[float]) -> bool:
    """No release is live here, so nobody asks."""
    raise AssertionError


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home with clean tables, features online, and every artefact trained as of AT."""
    settings = Settings(home=tmp_path_factory.mktemp("home"))
    shop, lake = sample_shop(), paths.lake(settings)
    since, until = shop.window()
    for table in ("products", "transactions", "promotions"):
        extract(lake, shop, table, since=since, until=until)
        clean(lake, shop, table, identity(settings), since=since, until=until)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embeddings, "export_onnx", small_encoder)
        jobs.snapshot_features(settings, AT)
        jobs.materialize_features(settings, AT)
        for model in MODELS:
            jobs.fit_retrieval(settings, model, AT)
        jobs.train_embeddings(settings, AT)
    jobs.rebuild_index(settings, AT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(golden, "has", lambda _: False)  # the sample lacks most products of the golden set
        judge_index(settings, AT)
    jobs.build_ranker_rows(settings, AT)
    for goal in ("all", "novel"):
        jobs.train_ranker(settings, goal, AT)
    return settings


@pytest.fixture(scope="module")
def manifest(settings: Settings) -> Manifest:
    """The release of those artefacts."""
    made = jobs.assemble_release(settings, AT, loses=never)
    return ArtefactStore(paths.lake(settings)).release(made["release_id"])


def test_a_release_names_every_artefact_and_where_it_came_from(settings: Settings, manifest: Manifest) -> None:
    """Each artefact can be followed to an MLflow run that logged its config, data, code, metrics and file."""
    assert set(manifest.identity.artefacts) == set(jobs.ARTEFACTS)
    client = MlflowClient(tracking_uri=settings.mlflow())
    for name, run_id in manifest.provenance.runs.items():
        run = client.get_run(run_id)
        assert run.info.status == "FINISHED"
        assert run.data.tags["sha256"] == manifest.identity.artefacts[name].sha256
        assert run.data.tags["code_revision"] == manifest.provenance.code_revision
        assert run.data.tags["contract.transactions"] == manifest.identity.contracts["transactions"]
        assert [each.path for each in client.list_artifacts(run_id)] == [name]
    assert manifest.provenance.fit_until == AT


def test_nothing_in_a_release_is_a_pickle(settings: Settings, manifest: Manifest) -> None:
    """No artefact starts like a pickle, and no npz holds an object array (np.load without pickle reads them all)."""
    for name, path in ArtefactStore(paths.lake(settings)).fetch(manifest).items():
        head = path.read_bytes()[:2]
        assert head[:1] != b"\x80", name
    files = ArtefactStore(paths.lake(settings)).fetch(manifest)
    loaded = artefacts.load(files)
    assert set(loaded.models) == set(MODELS)
    assert set(loaded.rankers) == {"all", "novel"}


def test_assembling_twice_is_the_same_release(settings: Settings, manifest: Manifest) -> None:
    """The same artefacts are the same release."""
    assert jobs.assemble_release(settings, AT, loses=never)["release_id"] == manifest.release_id


def test_an_intent_model_joins_the_next_release(settings: Settings, manifest: Manifest) -> None:
    """What was trained by itself becomes part of the release that is assembled after it."""
    model = small_intent()
    ref = record(
        settings, "intent", model.save, kind=Kind.NPZ, fit_until=AT, config={}, snapshots={"intent_messages": "x"}
    )
    made = ArtefactStore(paths.lake(settings)).release(jobs.assemble_release(settings, AT, loses=never)["release_id"])
    assert made.identity.artefacts == {**manifest.identity.artefacts, "intent": ref.artefact}
    (Path(paths.lake(settings).path("artefacts", "refs", "intent")) / "20171204T050000Z.json").unlink()


@pytest.mark.parametrize("model", ["als", "ease", "user_knn", "co_purchase"])
def test_fitting_again_leaves_the_same_bytes(settings: Settings, manifest: Manifest, model: str) -> None:
    """Every retrieval model is byte-reproducible."""
    again = jobs.fit_retrieval(settings, model, AT)
    assert again["sha256"] == manifest.identity.artefacts[model].sha256


@pytest.mark.parametrize("name", ["keyword_index", "faiss_index", "product_features", "query_lexicon"])
def test_an_index_that_was_not_judged_cannot_be_served(
    settings: Settings, manifest: Manifest, tmp_path: Path, name: str
) -> None:
    """The verdict names what it was given on; anything else is refused, and so is nothing in its place."""
    files = dict(ArtefactStore(paths.lake(settings)).fetch(manifest))
    catalogue = artefacts.load(files).catalogue
    other = tmp_path / ("0" * 64)
    other.write_bytes(files[name].read_bytes())
    with pytest.raises(ArtefactRefused, match=f"judged with {name}"):
        search.load({**files, name: other}, catalogue)
    del files[name]
    with pytest.raises(ArtefactRefused, match=name):
        search.load(files, catalogue)


def test_an_older_verdict_on_two_indexes_still_loads(settings: Settings, manifest: Manifest, tmp_path: Path) -> None:
    """It says nothing of the lexicon, so any lexicon goes with it."""
    files = dict(ArtefactStore(paths.lake(settings)).fetch(manifest))
    judged = {name: files[name].name for name in ("keyword_index", "faiss_index")}
    older = Fusion(None, judged).save(tmp_path / "fusion")
    search.load({**files, "search_fusion": older}, artefacts.load(files).catalogue)


def test_a_release_says_how_much_its_vector_index_finds(manifest: Manifest) -> None:
    """The recall that was measured when it was built."""
    assert manifest.provenance.metrics["faiss_index.recall_at_100"] == 1.0


def test_an_index_of_another_encoder_cannot_be_served(settings: Settings, manifest: Manifest, tmp_path: Path) -> None:
    """The keyword index names the encoder of its vectors; another one is refused."""
    files = dict(ArtefactStore(paths.lake(settings)).fetch(manifest))
    other = tmp_path / ("0" * 64)
    other.write_bytes(files["encoder"].read_bytes())
    files["encoder"] = other
    with pytest.raises(ArtefactRefused, match="built by encoder"):
        search.load(files, artefacts.load(files).catalogue)


def test_a_release_before_its_artefacts_is_refused(settings: Settings) -> None:
    """Nothing fitted after `until` enters a release; the error names the DAG to run."""
    with pytest.raises(ArtefactMissing, match="run the DAG"):
        jobs.assemble_release(settings, datetime(2017, 11, 1, 4, tzinfo=UTC), loses=never)


def test_the_served_artefacts_beat_frequency_on_what_came_after(settings: Settings, manifest: Manifest) -> None:
    """Weeks 50-53 were seen by nothing; on them the served order is at least as good as personal frequency."""
    rows = evaluate_release(settings, manifest.release_id)["rows"]
    found = {(row["goal"], row["method"]): row["ndcg_at_10"] for row in rows if row["slice"] == "every household"}
    assert found["all", "served"] > found["all", "frequency"] > found["all", "popularity"]


def test_ranker_rows_end_where_the_release_begins(settings: Settings) -> None:
    """Labels are the four weeks before `until`: the last ones that may be known."""
    assert fit.label_start(settings, AT) == datetime(2017, 11, 6, 5, tzinfo=UTC)
