"""Replay: the same bytes as were recorded, from what was known then; the lake is only read."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from data_contracts import partitions
from data_contracts.artefact_store import ArtefactStore
from data_contracts.contract import load_contract
from data_contracts.lake import as_of
from data_contracts.release import Kind
from data_contracts.shop import load_shop
from mercato import paths
from mercato.commands import time
from mercato.settings import Settings
from tests.feature_repo import clean_sample
from tests.lake_maker import make_lake, tree
from tests.serving.small_release import write_encoder
from training import embeddings, feedback, index, intent_live, jobs, replay_compare, replay_datasets
from training.errors import BadConfig
from training.jobs import artefacts_of
from training.replay import NOT_REBUILT, PARTS, Part, Report, _chosen, replay
from training.replay_lake import copy_known

T = clean_sample.T
DAY = timedelta(days=1)
ONLY = ("als", "index", "product_corpus")


def small_encoder(_config: Any, folder: Path) -> tuple[Path, Path]:
    """A real ONNX encoder of a few words instead of the pretrained one, which takes a minute here."""
    return write_encoder(folder, ["milk", "pizza", "frozen", "bread", "cheese"])


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A home whose features, ALS and index were made by the jobs of the DAGs; the vectors are a week older."""
    settings = Settings(home=tmp_path_factory.mktemp("home"), mlflow_url="none")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embeddings, "export_onnx", small_encoder)
        for table, frame in current_contracts().items():
            clean_sample.write(paths.lake(settings), table, frame)
        jobs.snapshot_features(settings, T)
        jobs.materialize_features(settings, T)
        jobs.fit_retrieval(settings, "als", T)
        jobs.train_embeddings(settings, T - 7 * DAY)
        jobs.rebuild_index(settings, T)
        replay_datasets.rebuild(settings, T, "product_corpus")
        yield settings


def current_contracts() -> dict[str, pd.DataFrame]:
    """Clean tables of the sample."""
    bought = clean_sample.transactions()
    ids = bought["product_id"]
    return {
        "transactions": bought,
        "products": clean_sample.products(ids),
        "promotions": clean_sample.promotions(ids),
    }


@pytest.fixture(scope="module")
def report(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """A replay of that day; the lake has the same bytes after it."""
    before = tree(paths.lake(settings))
    made = replay(settings, tmp_path_factory.mktemp("replay"), T, T, only=ONLY)
    assert tree(paths.lake(settings)) == before
    return made


def test_a_replay_makes_what_was_recorded(report: Report) -> None:
    """As of D and known at D every snapshot, model and index has the recorded bytes, older vectors included."""
    said = {each["name"]: each["verdict"] for each in report.compared}
    assert said == dict.fromkeys(report.rebuilt, "identical")
    assert {"als", "faiss_index", "product_vectors", "features/product_stats", "datasets/product_corpus"} <= set(said)
    assert [name for name in report.not_reproduced if not name.startswith("contract/")] == []
    assert all(len(sha256) == 64 for sha256 in report.rebuilt.values())


def test_twice_is_the_same(settings: Settings, report: Report, tmp_path: Path) -> None:
    """A second replay prints the same hashes."""
    again = replay(settings, tmp_path / "again", T, T, only=["als"])
    assert again.rebuilt == {"als": report.rebuilt["als"]}


def test_rows_of_another_contract_version_are_told(report: Report) -> None:
    """The report names the contract each table was written under, and says where it is another one now."""
    now = load_contract("products").label
    assert report.contracts["products"] == {"rows": ["products@1.0.0"], "now": now}
    assert ("contract/products" in report.not_reproduced) == (now != "products@1.0.0")


def test_what_changed_since_is_said(settings: Settings, tmp_path: Path) -> None:
    """Other bytes than recorded: the report says which code, contract or package made those, and what is missing."""
    lake = paths.lake(settings)
    store = ArtefactStore(lake)
    ref = store.newest_ref("als", until=T)
    assert ref is not None
    other = ref.model_copy(
        update={
            "artefact": ref.artefact.model_copy(update={"sha256": "0" * 64}),
            "code_revision": "1234+5678",
            "packages": {**ref.packages, "numpy": "1.0"},
            "contracts": {**ref.contracts, "transactions": "0.9.0"},
            "snapshots": {"transactions": "f" * 64},
        }
    )
    store.write_ref(other)
    try:
        made = replay(settings, tmp_path / "r", T, T, only=["als"])
    finally:
        store.write_ref(ref)
    assert [each["verdict"] for each in made.compared] == ["differs"]
    why = "; ".join(made.not_reproduced["als"])
    for reason in (
        "clean/transactions was written anew since",
        "made by the code 1234+5678",
        "package numpy was 1.0",
        "contract transactions was 0.9.0",
        "the recorded artefact is missing",
    ):
        assert reason in why


def test_what_was_never_made_is_said(settings: Settings, tmp_path: Path) -> None:
    """No model of that day is recorded: the report names the newest before, and why none can be built. A part that was
    not made fails no replay of what was; where nothing was made, nothing was reproduced.
    """
    made = replay(settings, tmp_path / "m", T, T, only=["als", "datasets/search_pairs", "ease"])
    assert sorted(made.not_made) == ["datasets/search_pairs", "ease"]
    assert "ease" in made.rebuilt
    assert made.reproduced, "als was made, and is as recorded"
    early = clean_sample.SHOP.day_start((T - 7 * DAY).date())
    made = replay(settings, tmp_path / "r", early, early, only=["als"])
    assert "it was not made: none is recorded as of" in made.not_made["als"][0]
    assert ("als" in made.not_reproduced, made.reproduced) == (False, False)
    summer = clean_sample.SHOP.day_start(date(2017, 8, 1))
    nothing = replay(settings, tmp_path / "s", summer, summer, only=["als"])
    assert nothing.rebuilt == {}
    assert "found no partition of clean/transactions" in nothing.not_made["als"][1]


def test_every_artefact_of_a_release_is_rebuilt_or_said_not_to_be() -> None:
    """The report has no gap between what a release holds and what the parts make."""
    makes = {made for part in PARTS.values() for made in part.makes}
    assert {*jobs.ARTEFACTS, intent_live.ARTEFACT} - makes == NOT_REBUILT.keys()


def test_what_no_part_makes_is_listed(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole replay names the recorded fusion with the reason, and succeeds all the same."""
    store = ArtefactStore(paths.lake(settings))
    ref = store.newest_ref("als", until=T)
    assert ref is not None
    store.write_ref(ref.model_copy(update={"name": "search_fusion"}))
    monkeypatch.setattr("training.replay.PARTS", {"als": PARTS["als"]})
    made = replay(settings, tmp_path / "r", T, T)
    assert made.not_reproduced["search_fusion"] == [NOT_REBUILT["search_fusion"]]
    assert "intent" not in made.not_reproduced, "none was made"
    assert made.reproduced


def test_a_catalogue_alone_has_what_its_bootstrap_makes(tmp_path: Path) -> None:
    """Without sales there are vectors, indexes and two datasets; a model of sales is refused by name."""
    shop = load_shop("chorus")
    chosen = _chosen(shop, [])
    assert {made for part in chosen for made in PARTS[part].makes} >= artefacts_of(shop).keys() - NOT_REBUILT.keys()
    assert sorted(chosen) == ["embeddings", "index", "product_corpus", "search_pairs"]
    assert _chosen(shop, ["index"]) == ["embeddings", "index"]
    with pytest.raises(BadConfig, match="found als, need names out of"):
        _chosen(shop, ["als"])


def test_a_later_correction_counts_from_when_it_was_known(settings: Settings, tmp_path: Path) -> None:
    """A purchase that reached us two days late changes the model for K after it, and not for K before."""
    home = Settings(home=tmp_path / "home", mlflow_url="none")
    tables = current_contracts()
    bought = tables["transactions"]
    late = bought[bought["event_time"] < T].tail(40).assign(known_at=pd.Timestamp(T + 2 * DAY).as_unit("us"))
    late = late.assign(basket_id="late-" + late["basket_id"])
    clean_sample.write(paths.lake(home), "products", tables["products"])
    clean_sample.write(paths.lake(home), "transactions", pd.concat([bought[bought["known_at"] < T], late]))
    made = {
        days: replay(home, tmp_path / str(days), T, T + days * DAY, only=["als"]).rebuilt["als"] for days in (0, 1, 3)
    }
    assert made[0] == made[1] != made[3]


def versions(*rows: tuple[str, str, int, int]) -> pd.DataFrame:
    """Products of (product_id, package_size, day of event_time, day of known_at)."""
    first = datetime.fromisoformat("2017-10-02T16:00:00+00:00")
    columns = {column.name: None for column in load_contract("products").columns}
    made = [
        {
            **columns,
            "product_id": product,
            "package_size": size,
            "event_time": first + event * DAY,
            "known_at": first + known * DAY,
        }
        for product, size, event, known in rows
    ]
    return pd.DataFrame(made).astype({"event_time": "datetime64[us, UTC]", "known_at": "datetime64[us, UTC]"})


@pytest.mark.parametrize("known", [3, 10, 30])
def test_the_scratch_lake_answers_what_the_replay_is_about(tmp_path: Path, known: int) -> None:
    """In it as_of(T, T) is as_of(T, min(T, K)) of the lake for K <= D, and as_of(T, K) for K > D, at every T <= D."""
    lake, scratch = make_lake(tmp_path / "lake"), make_lake(tmp_path / "scratch")
    rows = versions(
        ("p1", "1 OZ", 0, 0), ("p1", "2 OZ", 4, 4), ("p1", "3 OZ", 2, 12),  # corrected late, for an earlier time
        ("p2", "1 OZ", 1, 1), ("p2", "2 OZ", 1, 6), ("p2", "4 OZ", 1, 20),  # the same time, told three times
        ("p3", "1 OZ", 5, 9), ("p4", "1 OZ", 11, 11), ("p5", "1 OZ", 0, 25),
    )  # fmt: skip
    clean_sample.write(lake, "products", rows)
    noon = datetime.fromisoformat("2017-10-02T16:00:00+00:00")
    event_before, known_before = noon + 10 * DAY, noon + known * DAY + timedelta(hours=1)
    copy_known(lake, scratch, event_before=event_before, known_before=known_before)
    for days in (1, 3, 5, 7, 10):
        at = noon + days * DAY
        limit = known_before if known_before > event_before else min(at, known_before)
        expected = as_of(lake, "products", event_before=at, known_before=limit)
        found = as_of(scratch, "products", event_before=at, known_before=at)
        columns = ["product_id", "package_size", "event_time"]
        pd.testing.assert_frame_equal(
            found.select(*columns).order_by("product_id").execute(),
            expected.select(*columns).order_by("product_id").execute(),
        )


@pytest.mark.parametrize("known", [3, 30])
def test_days_from_before_a_contract_gained_a_column_are_replayed(tmp_path: Path, known: int) -> None:
    """In the day in which K lies, and in hindsight over older and newer days: the older rows have nulls."""
    lake, scratch = make_lake(tmp_path / "lake"), make_lake(tmp_path / "scratch")
    clean_sample.write(lake, "products", versions(("p1", "1 OZ", 3, 3), ("p2", "2 OZ", 5, 5)))
    old, *_ = partitions.manifests(lake, "clean", "products")
    rows = pq.read_table(partitions.part_path(lake, old), partitioning=None).drop_columns(["name"])
    data = partitions.encode(rows)
    about = old.model_dump(include={"table", "layer", "ds", "contract", "inputs"})
    with partitions.writing(lake) as out:
        out.put(data, partitions.describe(rows, data, **about))
    noon = datetime.fromisoformat("2017-10-02T16:00:00+00:00")
    event_before = noon + 10 * DAY
    copy_known(lake, scratch, event_before=event_before, known_before=noon + known * DAY + timedelta(hours=1))
    found = as_of(scratch, "products", event_before=event_before, known_before=event_before).order_by("product_id")
    assert list(found.execute()["package_size"]) == ["1 OZ", "2 OZ"][: 1 if known < 10 else 2]


def test_vectors_are_compared_within_a_tolerance(settings: Settings, tmp_path: Path) -> None:
    """Another processor's last bits are within the tolerance, another model's vectors are not."""
    store = ArtefactStore(paths.lake(settings))
    ref = store.newest_ref("product_vectors", until=T)
    assert ref is not None
    texts, vectors, encoder = index.read_vectors(store.fetch_one(ref.name, ref.artefact))
    noise = np.zeros_like(vectors)
    noise[:, 0] = 1e-3
    others = [*texts[:-1], texts[-1] + " s"]
    for name, said_of, changed, verdict in (
        ("near", texts, vectors + noise * 0.01, "within tolerance"),
        ("far", texts, np.roll(vectors, 1, axis=1), "differs"),
        ("fewer", texts, vectors[:, :-1], "differs"),
        ("of other texts", others, vectors, "differs"),
    ):
        index.write_vectors(tmp_path / name, said_of, changed.astype(np.float32), encoder=encoder, until=T)
        scratch = ArtefactStore(make_lake(tmp_path / "scratch"))
        made = scratch.put(tmp_path / name, Kind.NPZ)
        said = replay_compare.artefact("product_vectors", made.sha256, scratch, ref, store)
        assert said.verdict == verdict, (name, said.difference)


def test_a_name_that_is_none_or_a_used_folder_is_refused(settings: Settings, tmp_path: Path) -> None:
    """Nothing is overwritten, and a typing error does not replay everything."""
    (tmp_path / "mine").write_text("x")
    with pytest.raises(BadConfig, match="is not empty"):
        replay(settings, tmp_path, T, T)
    with pytest.raises(BadConfig, match="found asl, need names out of features"):
        replay(settings, tmp_path / "new", T, T, only=["asl"])
    with pytest.raises(BadConfig, match="need a midnight in America/New_York"):
        replay(settings, tmp_path / "new", T + timedelta(hours=1), T)


def test_the_command_prints_names_and_hashes(
    settings: Settings, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`mercato replay` takes a day of the shop and answers JSON; its scratch folder is gone afterwards."""
    monkeypatch.setenv("MERCATO_HOME", str(settings.home))
    app = typer.Typer()
    app.command()(time.replay)
    done = CliRunner().invoke(app, ["--as-of", "2017-12-04", "--only", "als"], catch_exceptions=False)
    assert done.exit_code == 0
    found = json.loads(done.stdout[done.stdout.index("{\n") :])
    assert found["rebuilt"] == {"als": asdict(report)["rebuilt"]["als"]}
    assert found["as_of"] == found["known_at"] == T.isoformat()
    assert CliRunner().invoke(app, ["--as-of", "2017-11-27", "--only", "als"]).exit_code == 65, "it was not recorded"


def test_a_defect_in_one_part_does_not_cost_the_others(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part that stops with an error of Python's own is named with it, and the next part is built."""

    def broken(*_: Any) -> None:
        raise IndexError("out of bounds")

    monkeypatch.setitem(PARTS, "ease", Part(("ease",), broken))
    made = replay(settings, tmp_path / "r", T, T, only=["ease", "user_knn"])
    assert made.not_reproduced["ease"] == ["IndexError: out of bounds; see the log"]
    assert "user_knn" in made.rebuilt


def test_feedback_is_rebuilt_and_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was shown and came of it is made again with the ranker rows; when more is known of then, it is told."""

    def build(home: Settings, at: datetime) -> None:
        lake = paths.lake(home)
        feedback.write(lake, feedback.DEFAULT, at, feedback.outcomes(lake, feedback.DEFAULT, at))

    def shown(*requests: str) -> pd.DataFrame:
        at = pd.Timestamp(T - 2 * DAY).as_unit("us")
        row = dict.fromkeys(each.name for each in load_contract("impressions").columns) | {
            "position": 1, "product_id": "p", "score": 1.0, "propensity": 1.0, "surface": "recommend",
            "release_id": "rel", "arm": "champion", "event_time": at, "known_at": at,
        }  # fmt: skip
        return pd.DataFrame([{**row, "request_id": each} for each in requests])

    name = f"datasets/{feedback.DATASET}"
    assert name in PARTS["ranker_rows"].makes
    monkeypatch.setitem(PARTS, "ranker_rows", Part((name,), build))
    home = Settings(home=tmp_path / "home", mlflow_url="none")
    clean_sample.write(paths.lake(home), "impressions", shown("r1"))
    build(home, T)
    same = replay(home, tmp_path / "same", T, T, only=[name])
    assert ([each["verdict"] for each in same.compared], same.reproduced) == (["identical"], True)
    clean_sample.write(paths.lake(home), "impressions", shown("r1", "r2"))
    other = replay(home, tmp_path / "other", T, T, only=[name])
    assert ([each["verdict"] for each in other.compared], other.reproduced) == (["differs"], False)
    assert "clean rows, code or packages changed" in other.not_reproduced[name][0]
