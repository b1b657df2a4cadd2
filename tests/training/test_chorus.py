"""The Chorus sample, from zipped JSON to a judged index: a shop that is a catalogue alone."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from data_contracts.shop import load_shop
from mercato import paths
from mercato.identity import identity
from mercato.search_quality import evaluate_search, judge_index
from mercato.settings import Settings
from mercato.stores.routing import routing_store
from serving.runtime import diversity
from serving.runtime.pipeline import Request, rank
from serving.trial import parse
from tests.serving.small_release import write_encoder
from training import embeddings, golden, jobs, query_log, search_quality
from training.clean import clean
from training.extract import extract
from training.fit import catalogue_rows

SAMPLE = Path(__file__).resolve().parents[1] / "data" / "chorus"
AT = datetime(2021, 1, 10, 23, tzinfo=UTC)
WORDS = ["headset", "camera", "mouse", "stand", "speaker", "calculator", "bluetooth", "laptop", "notebook", "gaming"]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home whose index was built by the jobs of the DAGs and judged on the sample's golden set."""
    settings = Settings(home=tmp_path_factory.mktemp("home"), shop="chorus", mlflow_url="none")
    shop, lake = load_shop("chorus"), paths.lake(settings)
    since, until = shop.window()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MERCATO_SOURCES", str(SAMPLE))
        extract(lake, shop, "products", since=since, until=until)
        clean(lake, shop, "products", identity(settings), since=since, until=until)
        patch.setattr(embeddings, "export_onnx", lambda _, folder: write_encoder(folder, WORDS))
        patch.setattr(query_log, "customers_by_query", lambda *_: {"noiseless headset": 5})
        jobs.train_embeddings(settings, AT)
        jobs.rebuild_index(settings, AT)
    return settings


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """The golden set of the sample instead of the whole one."""
    monkeypatch.setattr(golden, "read", lambda _: golden_sample())


def golden_sample() -> golden.Judgments:
    import pandas as pd

    return golden.Judgments.of(pd.read_csv(SAMPLE / "golden.csv", dtype={"product_id": str}))


def test_an_array_of_sparse_objects_becomes_clean_products(settings: Settings) -> None:
    """Keys that few products have are one column of `name: value`; the list price stays in minor units."""
    products = catalogue_rows(settings, AT).set_index("product_id")
    headset = products.loc["448213"]
    assert (headset["brand"], headset["category"], headset["list_price_minor"]) == ("Philips", "Headset", 1795)
    assert products["attributes"].str.contains("product colour: Black").any()
    assert not products["attributes"].fillna("").str.contains("product type").any()  # it is the category
    assert products["description"].notna().mean() > 0.9


def test_a_catalogue_alone_makes_a_release_that_searches_and_recommends_without_failing(
    settings: Settings, sample: None
) -> None:
    """No ALS, no rankers: search answers, recommendations are the popular list, and say what is missing."""
    said = judge_index(settings, AT)
    assert said["ndcg_judged"] > 0.65
    made = jobs.assemble_release(settings, AT)
    store = jobs.ArtefactStore(paths.lake(settings))
    manifest = store.release(made["release_id"])
    assert sorted(manifest.identity.artefacts) == sorted(jobs.artefacts_of(load_shop("chorus")))
    artefacts, engine, lexicon, _ = parse(store.fetch(manifest))
    assert lexicon is not None
    assert "noiseless headset" in {each.text for each in lexicon.data.suggestions}
    stages = rank(Request(n=5), None, artefacts.catalogue, artefacts, AT)
    assert len(stages.results) == 5
    routing_store(settings).write("chorus", seen=0, weights={made["release_id"]: 10_000}, salt="s", reason="t", at=AT)
    assert judge_index(settings, AT)["ndcg_judged"] == said["ndcg_judged"]  # no worse than what is live: itself
    scored = evaluate_search(settings, made["release_id"])
    assert {row["method"] for row in scored["rows"]} >= {"served", "bm25", "keyword alone", "reciprocal rank"}
    best = next(row for row in scored["rows"] if row["method"] == "served" and row["asked"] == "as written")
    assert best["ndcg_judged"] == pytest.approx(said["ndcg_judged"], abs=1e-3)
    assert engine.fusion.judged.keys() == {"keyword_index", "faiss_index"}
    spread = search_quality.score(search_quality.served(engine), golden_sample())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diversity, "MOST", diversity.FIRST)
        plain = search_quality.score(search_quality.served(engine), golden_sample())
    assert spread["ndcg_at_10"].mean() >= plain["ndcg_at_10"].mean()
    assert spread["ndcg_judged"].mean() >= plain["ndcg_judged"].mean()
