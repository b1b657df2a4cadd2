"""The Chorus sample, from zipped JSON to a judged index: a shop that is a catalogue alone."""

from collections import Counter
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import structlog

from data_contracts.shop import load_shop
from mercato import paths
from mercato.identity import identity
from mercato.search_quality import evaluate_search, judge_index, refuse_losses
from mercato.settings import Settings
from mercato.stores.routing import routing_store
from serving.runtime import diversity, search
from serving.runtime.pipeline import Request, rank
from serving.runtime.query import understand as steps
from serving.runtime.query.prices import price_bounds
from serving.runtime.search import SearchEngine, SearchResult
from serving.runtime.understanding import Bounds
from serving.trial import parse
from tests.serving.small_release import write_encoder
from training import embeddings, golden, jobs, query_log, search_jobs, search_quality
from training.behaviour import _priced_queries, answered, behaviours, brands, refuse_misbehaving, unanswered
from training.clean import clean
from training.errors import IndexNotGood
from training.extract import extract
from training.fit import catalogue_rows
from training.search_jobs import Loaded

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


def golden_frame() -> pd.DataFrame:
    return pd.read_csv(SAMPLE / "golden.csv", dtype={"product_id": str})


def golden_sample() -> golden.Judgments:
    return golden.Judgments.of(golden_frame())


def test_an_array_of_sparse_objects_becomes_clean_products(settings: Settings) -> None:
    """Keys that few products have are one column of `name: value`; the list price stays in minor units."""
    products = catalogue_rows(settings, AT).set_index("product_id")
    headset = products.loc["448213"]
    assert (headset["brand"], headset["category"], headset["list_price_minor"]) == ("Philips", "Headset", 1795)
    assert products["attributes"].str.contains("product colour: Black").any()
    assert not products["attributes"].fillna("").str.contains("product type").any()  # it is the category
    assert products["description"].notna().mean() > 0.9


@pytest.fixture
def loaded(settings: Settings) -> Loaded:
    """The index of the sample, as it would be served."""
    return search_jobs.draft(settings, AT)


def test_what_a_shopper_takes_for_granted_holds(loaded: Loaded) -> None:
    """All behaviours of the sample are checked and hold, but that it has no query without an answer."""
    found = {each.name: each for each in behaviours(loaded, golden_sample())}
    refuse_misbehaving(list(found.values()))
    assert {name for name, each in found.items() if each.queries} == set(found) - {"no result"}
    assert str(found["no result"]) == "not checked: the shop has no golden set with such queries"
    assert "golden set" in str(behaviours(loaded, None)[0])


def no_prices(self: SearchEngine, rows: Any, bounds: Bounds, *others: Any) -> Any:
    """A filter that forgot price bounds."""
    return MASKS(self, rows, replace(bounds, price_min_minor=None, price_max_minor=None), *others)


def nothing(engine: SearchEngine) -> SearchResult:
    """An empty page."""
    none = np.zeros(0, dtype=np.float32)
    return SearchResult(none.astype(np.int32), engine.shelf, none, {}, total=0, facets={})


MASKS = SearchEngine._masks


def test_an_index_that_ignores_price_bounds_is_refused(
    settings: Settings, loaded: Loaded, sample: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verdict names the query and the product outside its bounds, and nothing is recorded for a release."""
    monkeypatch.setattr(SearchEngine, "_masks", no_prices)
    monkeypatch.setattr(search_jobs, "record_fusion", lambda *_: pytest.fail("recorded"))
    said = r"prices: 0\.\d+ of \d+ queries, needed 1\.00, worst: '.+ (under|over|between) .+' shows \d+"
    with pytest.raises(IndexNotGood, match=said):
        judge_index(settings, AT)


@pytest.mark.parametrize(
    ("what", "fails"),
    [
        ("spelling", {"typos"}),
        ("synonyms", {"synonyms", "translations"}),
        ("brands", {"brands"}),
        ("answers", {"typos", "synonyms", "translations", "prices", "brands"}),
    ],
)
def test_a_search_that_is_broken_on_purpose_fails_its_gate(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch, what: str, fails: set[str]
) -> None:
    """Without the one ability the gate that is there for it fails, and the others stay silent."""
    if what in steps._RUN:
        monkeypatch.setitem(steps._RUN, what, lambda _: None)
    elif what == "brands":
        monkeypatch.setattr(search, "LEAD", -5.0)
    else:
        monkeypatch.setattr(SearchEngine, "search", lambda self, *_, **__: nothing(self))
    found = behaviours(loaded, golden_sample())
    assert {each.name for each in found if not each.holds} == fails
    with pytest.raises(IndexNotGood, match=r"queries, needed .*, worst: '"):
        refuse_misbehaving(found)


def test_a_brand_that_is_sold_out_refuses_no_index(loaded: Loaded) -> None:
    """Search shows it last, as it must; what is asked is what can be bought."""
    shelf = loaded.engine.shelf
    asked = brands(loaded.answer, shelf)
    gone = next(brand for brand, n in Counter(shelf.brand.tolist()).most_common() if brand and n >= 3)
    stock = np.where(shelf.brand == gone, np.int8(0), np.int8(1))
    engine = copy(loaded.engine)
    engine.shelf = replace(shelf, in_stock=stock)
    sold_out = replace(loaded, engine=engine)
    found = brands(sold_out.answer, engine.shelf)
    assert (found.queries, found.found) == (asked.queries - 1, 1.0)


def test_a_category_after_which_a_number_is_no_price_is_not_asked_about(loaded: Loaded) -> None:
    """Over 40, after "Toys by age", is an age; the other categories are asked about as before."""
    shelf = loaded.engine.shelf
    first = Counter(shelf.category[shelf.price_minor > 0].tolist()).most_common(1)[0][0]
    renamed = replace(shelf, category=np.where(shelf.category == first, "Toys by age", shelf.category))
    queries = [query for query, _, _ in _priced_queries(renamed, 2)]
    assert queries
    assert not any("age over" in query for query in queries)
    assert all(price_bounds(query.casefold(), 2) for query in queries)


def test_a_handful_of_judged_queries_neither_teaches_nor_gates(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interval over two queries says nothing: reciprocal rank, the behaviours, and a warning."""
    few = golden_frame()
    few = few[few["query"].isin(sorted(golden_sample().relevant)[:2])]
    monkeypatch.setattr(golden, "read", lambda _: golden.Judgments.of(few))
    recorded: list[Any] = []
    monkeypatch.setattr(search_jobs, "record_fusion", lambda *given: recorded.append(given[2]))
    with structlog.testing.capture_logs() as logged:
        said = judge_index(settings, AT)
    assert (said["fusion"], said["golden"], len(recorded)) == ("reciprocal rank", 0, 1)
    assert [each["queries"] for each in logged if each["event"] == "golden.too_few"] == [2]


def test_queries_that_nothing_answers_have_no_bar_of_their_own(loaded: Loaded) -> None:
    """One finds nothing, one finds products by a word that it shares: half, and no refusal."""
    judged = golden.Judgments({"zzzz": {}, "gaming sofa": {}}, {"zzzz": "no-result", "gaming sofa": "no-result"})
    found = unanswered(loaded.answer, judged)
    assert (found.found, found.queries, found.holds) == (0.5, 2, True)
    assert str(found) == "0.500 of 2 queries, no bar of its own"


def behind(search: Loaded, products: list[int]) -> Loaded:
    """The same search that shows these rows before all others, whatever was asked."""
    engine = copy(search.engine)

    def after(*args: Any, **page: Any) -> SearchResult:
        found = search.engine.search(*args, **page)
        return replace(
            found, rows=np.array([*products, *(row for row in found.rows if row not in products)], dtype=np.int32)
        )

    engine.search = after  # type: ignore[method-assign]
    return replace(search, engine=engine)


def test_judged_products_that_leave_the_first_page_are_a_loss_unless_what_came_is_new(loaded: Loaded) -> None:
    """The order of judged products is what it was, and still the index is refused: nobody sees them any more.

    When the live release does not hold what stands before them, nothing is lost.
    """
    frame = golden_frame()
    judgments = golden.Judgments.of(frame[frame["query"] != "gaming mouse"])  # its mice are what nobody judged
    judged = {product for grades in judgments.grades.values() for product in grades}
    worse = behind(loaded, [row for product, row in loaded.engine.row.items() if product not in judged][:10])
    refuse_losses(loaded, loaded, judgments)
    with pytest.raises(IndexNotGood, match=r"on all queries .* in the mean of both readings"):
        refuse_losses(worse, loaded, judgments)
    before = copy(loaded.engine)
    ids = [str(each) for each in before.shelf.product_ids]
    before.shelf = replace(before.shelf, product_ids=[each if each in judged else f"old {each}" for each in ids])
    refuse_losses(worse, replace(loaded, engine=before), judgments)


def test_a_query_is_answered_when_its_first_page_shows_something(loaded: Loaded) -> None:
    """Misspelt too; one that nothing answers, when it shows nothing. Products that are gone show nothing."""
    judged = golden.Judgments.of(golden_frame().assign(slice="head"))
    silent = golden.Judgments({"zzzz": {}}, {"zzzz": "no-result"})
    held = set(loaded.engine.row)
    found = answered(loaded.answer, judged, held)
    assert set(found["slice"]) == {"head", "misspelt (simulated)"}
    assert found["answered"].all()
    assert not answered(loaded.answer, judged, set())["answered"].any()
    assert answered(loaded.answer, silent, held)["answered"].all()


def older_format(_settings: Settings, _release_id: str) -> Loaded:
    """A release whose files lack what this code reads."""
    raise KeyError("fields")


def test_a_catalogue_alone_makes_a_release_that_searches_and_recommends_without_failing(
    settings: Settings, sample: None
) -> None:
    """No ALS, no rankers: search answers, recommendations are the popular list, and say what is missing."""
    said = judge_index(settings, AT)
    assert said["ndcg_judged"] > 0.65
    made = jobs.assemble_release(settings, AT, loses=lambda *_: False)
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
    with pytest.MonkeyPatch.context() as patch, structlog.testing.capture_logs() as logged:
        patch.setattr(search_jobs, "of_release", older_format)
        assert judge_index(settings, AT)["ndcg_judged"] == said["ndcg_judged"]
    assert [each["release_id"] for each in logged if each["event"] == "live.no_rival"] == [made["release_id"]]
    scored = evaluate_search(settings, made["release_id"])
    assert {row["method"] for row in scored["rows"]} >= {"served", "bm25", "keyword alone", "reciprocal rank"}
    best = next(row for row in scored["rows"] if row["method"] == "served" and row["asked"] == "as written")
    assert best["ndcg_judged"] == pytest.approx(said["ndcg_judged"], abs=1e-3)
    assert engine.fusion.judged.keys() == {"keyword_index", "faiss_index", "product_features", "query_lexicon"}
    spread = search_quality.score(search_quality.served(engine), golden_sample())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diversity, "MOST", diversity.FIRST)
        plain = search_quality.score(search_quality.served(engine), golden_sample())
    assert spread["ndcg_at_10"].mean() >= plain["ndcg_at_10"].mean()
    assert spread["ndcg_judged"].mean() >= plain["ndcg_judged"].mean()
