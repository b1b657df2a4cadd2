"""Search over the real products of the sample, through the real encoder."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data_contracts.errors import ArtefactRefused
from feature_repo.customer import CustomerFeatures
from serving.runtime import diversity, part
from serving.runtime.catalogue import STOCK_UNKNOWN
from serving.runtime.delta import part_of
from serving.runtime.encoder import Encoder
from serving.runtime.fusion import FEATURES, Fusion, reciprocal_rank
from serving.runtime.keyword import IndexConfig, KeywordIndex, Postings
from serving.runtime.personal import PERSONAL, affinity
from serving.runtime.search import SearchEngine
from serving.runtime.shelf import Shelf
from serving.runtime.understanding import Bounds, Term, Understanding, as_written
from training.embeddings import EncoderConfig, encode_texts, export_onnx
from training.index import build_keyword_index, build_vector_index, full_texts, semantic_texts

SAMPLE = Path(__file__).resolve().parents[2] / "data" / "complete_journey_300"
AT = datetime(2017, 12, 4, 5, tzinfo=UTC)


@pytest.fixture(scope="module")
def products() -> pd.DataFrame:
    raw = pd.read_parquet(SAMPLE / "products.parquet").rename(columns={"product_category": "category"})
    raw["name"] = None
    few = raw[raw["product_type"].fillna("").str.contains("PIZZA|DOG|MILK|SOAP|APPLE")]
    return few.assign(product_id=few["product_id"].astype(str)).sort_values("product_id", ignore_index=True)


@pytest.fixture(scope="module")
def files(products: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("index")
    config = EncoderConfig()
    model, tokenizer = export_onnx(config, folder)
    texts = sorted(set(semantic_texts(products)))
    build_vector_index(encode_texts(config, model, tokenizer, texts), folder / "vectors.faiss")
    build_keyword_index(products, texts, IndexConfig(), folder / "keyword", encoder="e" * 64, until=AT)
    return {"encoder": model, "tokenizer": tokenizer, "faiss": folder / "vectors.faiss", "keyword": folder / "keyword"}


def shelf_of(products: pd.DataFrame) -> Shelf:
    """Prices 100, 200, … and popularity falling with the row, so that expectations can be worked by hand."""
    n = len(products)
    return Shelf(
        product_ids=products["product_id"].tolist(),
        name=products["product_type"].fillna("").tolist(),
        category=products["category"].fillna("").to_numpy(dtype=np.str_),
        brand=products["brand"].fillna("").to_numpy(dtype=np.str_),
        price_minor=np.arange(1, n + 1, dtype=np.int64) * 100,
        popularity=np.arange(n, 0, -1, dtype=np.float32),
        in_stock=np.full(n, STOCK_UNKNOWN, dtype=np.int8),
    )


@pytest.fixture(scope="module")
def engine(products: pd.DataFrame, files: dict[str, Path]) -> SearchEngine:
    import faiss

    encoder = Encoder.load(files["encoder"], files["tokenizer"])
    return SearchEngine(
        KeywordIndex.load(files["keyword"]), faiss.read_index(str(files["faiss"])), encoder, shelf_of(products)
    )


def kinds(products: pd.DataFrame, rows: Sequence[int]) -> list[str]:
    return [f"{products['product_type'][row]} {products['category'][row]}".lower() for row in rows]


def names(*texts: str) -> list[tuple[str, ...]]:
    """Documents that have nothing but a name."""
    return [(text, "", "", "", "") for text in texts]


def index_of(docs: list[tuple[str, ...]], config: IndexConfig) -> KeywordIndex:
    postings, statistics = Postings.of(docs, config)
    at = np.arange(len(docs), dtype=np.int32)
    return KeywordIndex([str(each) for each in at], at, at, postings, statistics, config, "", {})


FLAT = {"name": 0.0, "brand": 0.0, "category": 0.0, "attributes": 0.0, "description": 0.0}


def test_bm25_hand_worked() -> None:
    """Two names of two words, "a a" and "a b": idf(a) = ln(1 + .5/2.5), and a twice saturates."""
    index = index_of(names("ax ax", "ax bx"), IndexConfig(k1=1.0, b=FLAT))
    idf_a, idf_b = np.log(1 + 0.5 / 2.5), np.log(1 + 1.5 / 1.5)
    assert index.top([Term("ax")], 9).scores == pytest.approx([idf_a * 2 * 2 / 3, idf_a * 1 * 2 / 2])
    assert index.top([Term("bx")], 9).scores == pytest.approx([idf_b])


def test_a_word_in_a_light_field_counts_less_and_says_where_it_was() -> None:
    """The word in the name weighs 1, in the attributes 0.5: 1 * 2/2 against .5 * 2/1.5."""
    config = IndexConfig(k1=1.0, b=FLAT, weights={**dict.fromkeys(FLAT, 1.0), "attributes": 0.5})
    hits = index_of([("kit", "", "", "", ""), ("", "", "", "kit", ""), ("x", "", "", "", "")], config).top(
        [Term("kit")], 9
    )
    assert hits.docs.tolist() == [0, 1]
    assert hits.scores[0] / hits.scores[1] == pytest.approx(1.0 / (0.5 * 2 / 1.5))
    assert (hits.covered / hits.whole).tolist() == [[1, 1], [1, 0], [1, 0]]  # anywhere, name, name or description


def test_of_words_that_stand_for_one_another_the_best_counts() -> None:
    """A synonym at .8 adds nothing to a product that holds the word itself, and finds one that does not."""
    index = index_of(names("laptop notebook", "notebook", "desk"), IndexConfig(k1=1.0, b=FLAT))
    alone = index.top([Term("laptop")], 9).scores
    both = index.top([Term("laptop"), Term("notebook", boost=0.8)], 9)
    assert both.docs.tolist() == [0, 1]
    assert both.scores[0] == alone[0]


def test_an_unknown_word_stands_for_the_words_it_begins() -> None:
    """The beginning finds keyboards; two letters are too few to guess from."""
    index = index_of(names("keyboard", "keyring", "mouse"), IndexConfig())
    assert index.top([Term("keyb")], 9).docs.tolist() == [0]
    assert index.top([Term("ke")], 9).docs.tolist() == []


def test_reciprocal_rank_shares_ranks_and_skips_what_was_not_found() -> None:
    """Scores 5, 5, 3 and none: ranks 1, 1, 2 and no contribution."""
    values = np.array([5, 3, np.nan, 5], dtype=np.float32)
    assert reciprocal_rank(values) == pytest.approx([1 / 61, 1 / 62, 0.0, 1 / 61])


def test_removed_products_leave_their_places_among_the_texts_taken(
    engine: SearchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best that are left are taken, not those of the best that are left."""
    monkeypatch.setattr(part, "KEYWORD_DOCS", 5)
    monkeypatch.setattr(part, "VECTOR_TEXTS", 5)
    best = engine.search(as_written("frozen pizza"), n=100)
    ids = [str(engine.shelf.product_ids[row]) for row in best.rows.tolist()]
    left = engine.changed(None, ids).search(as_written("frozen pizza"), n=100)
    assert left.total > 0
    assert not set(left.rows.tolist()) & set(best.rows.tolist())


def test_words_in_quotes_are_read_in_names_that_hold_them_all() -> None:
    """Of two that hold both words in whatever field the name that says them side by side is shown."""
    docs = [("usb cable", "", "", "", ""), ("cable for usb", "", "", "", ""), ("cable", "", "", "usb", "")]
    index = index_of(docs, IndexConfig())
    assert index.holding({"usb", "cabl"}).tolist() == [0, 1, 2]
    assert index.holding({"usb", "mouse"}).tolist() == []
    assert index.holding(set()).tolist() == []


def test_words_find_products(engine: SearchEngine, products: pd.DataFrame) -> None:
    """Every hit of a plain query on the first page is what was asked for, best first within each category."""
    result = engine.search(as_written("frozen pizza"), n=10)
    assert len(result.rows) == 10
    assert all("pizza" in kind for kind in kinds(products, result.rows.tolist()))
    for category in set(engine.shelf.category[result.rows].tolist()):
        scores = result.scores[engine.shelf.category[result.rows] == category].tolist()
        assert scores == sorted(scores, reverse=True)


def test_meaning_finds_what_words_do_not(engine: SearchEngine, products: pd.DataFrame) -> None:
    """No product text holds the word "puppy", yet dog food is found."""
    assert not any("puppy" in text.lower() for text in full_texts(products))
    result = engine.search(as_written("puppy meals"), n=10)
    assert any("dog" in kind for kind in kinds(products, result.rows.tolist()))


@pytest.mark.parametrize("query", ["zxqv wkjh", "", "   ", "!!!"])
def test_a_query_without_meaning_finds_nothing(engine: SearchEngine, query: str) -> None:
    """An empty page is an answer."""
    result = engine.search(as_written(query), n=10)
    assert result.total == len(result.rows) == 0
    assert result.facets == {"category": {}, "brand": {}}


def test_pages_do_not_overlap_and_totals_hold(engine: SearchEngine) -> None:
    """Three pages of five are the first fifteen."""
    first = engine.search(as_written("milk"), n=15).rows.tolist()
    pages = [engine.search(as_written("milk"), n=5, offset=at).rows.tolist() for at in (0, 5, 10)]
    assert [row for page in pages for row in page] == first


def test_filters_hold_on_every_hit(engine: SearchEngine, products: pd.DataFrame) -> None:
    """Category, brand, price bounds and exclusions are applied after retrieval, before the page is cut."""
    free = engine.search(as_written("milk"), n=50)
    brand = next(iter(free.facets["brand"]))
    kept = engine.search(as_written("milk"), n=50, filters=Bounds(brand=brand.upper()))
    assert kept.total == free.facets["brand"][brand] > 0
    low, high = 20_000, 60_000
    priced = engine.search(as_written("milk"), n=50, filters=Bounds(price_min_minor=low, price_max_minor=high))
    assert all(low <= (row + 1) * 100 <= high for row in priced.rows.tolist())
    best = str(products["product_id"][int(free.rows[0])])
    assert (
        int(free.rows[0])
        not in engine.search(as_written("milk"), n=50, exclude=[best, "no such product"]).rows.tolist()
    )


def test_without_its_encoder_search_still_answers_by_words(products: pd.DataFrame, files: dict[str, Path]) -> None:
    """A failing encoder costs meaning, not the answer, and the answer says so."""
    import faiss

    class Broken(Encoder):
        def __init__(self) -> None:
            super().__init__(None, None)

    index = KeywordIndex.load(files["keyword"]), faiss.read_index(str(files["faiss"]))
    for encoder in (None, Broken()):
        result = SearchEngine(*index, encoder, shelf_of(products)).search(as_written("frozen pizza"), n=5)
        assert result.degraded == ["encoder"]
        assert all("pizza" in kind for kind in kinds(products, result.rows.tolist()))


def test_similar_products_are_of_the_same_kind(engine: SearchEngine, products: pd.DataFrame) -> None:
    """The nearest products share the meaning; the product itself is not among them."""
    row = int(engine.search(as_written("frozen pizza"), n=1).rows[0])
    near = engine.similar(row, n=5)
    assert row not in near.rows.tolist()
    assert all("pizza" in kind for kind in kinds(products, near.rows.tolist()))


def test_indexes_of_other_products_are_refused(products: pd.DataFrame, files: dict[str, Path]) -> None:
    """A keyword index cannot be paired with product features of another catalogue."""
    import faiss

    other = shelf_of(products.iloc[1:].reset_index(drop=True))
    with pytest.raises(ArtefactRefused, match="list different products"):
        SearchEngine(KeywordIndex.load(files["keyword"]), faiss.read_index(str(files["faiss"])), None, other)


def test_the_same_products_give_the_same_bytes(products: pd.DataFrame, files: dict[str, Path], tmp_path: Path) -> None:
    """Both indexes are byte-reproducible."""
    texts = sorted(set(semantic_texts(products)))
    vectors = encode_texts(EncoderConfig(), files["encoder"], files["tokenizer"], texts)
    build_vector_index(vectors, tmp_path / "vectors.faiss")
    build_keyword_index(products, texts, IndexConfig(), tmp_path / "keyword", encoder="e" * 64, until=AT)
    assert (tmp_path / "vectors.faiss").read_bytes() == files["faiss"].read_bytes()
    assert (tmp_path / "keyword").read_bytes() == files["keyword"].read_bytes()


def test_a_brand_in_the_query_leads(engine: SearchEngine, products: pd.DataFrame) -> None:
    """What a query boosts comes first, and nothing is lost by it."""
    plain = engine.search(as_written("milk"), n=500)
    brand = min(plain.facets["brand"], key=plain.facets["brand"].__getitem__)
    asked = as_written("milk")
    led = engine.search(Understanding(asked.raw, asked.text, asked.terms, boosts={"brand": brand.upper()}), n=500)
    of_brand = [products["brand"][row] == brand for row in led.rows.tolist()]
    assert led.total == plain.total
    assert np.mean(of_brand[:5]) > np.mean(of_brand)


def test_what_is_sold_out_comes_last_unless_it_is_what_was_named(engine: SearchEngine) -> None:
    """The two best are sold out: last of all, and said so; by its id or its name one leads; a filter keeps both out."""
    plain = engine.search(as_written("milk"), n=500)
    first, second = plain.rows[:2].tolist()
    stock = np.full(len(engine.shelf.product_ids), STOCK_UNKNOWN, dtype=np.int8)
    stock[[first, second]], stock[plain.rows[2]] = 0, 1
    names = list(engine.shelf.name)
    names[first] = "Best Milk"
    other = engine.changed(None, gone=[])
    other.shelf = replace(engine.shelf, in_stock=stock, name=names)
    found = other.search(as_written("milk"), n=500)
    assert found.rows.tolist() == [*plain.rows[2:].tolist(), first, second]
    assert found.stages["in_stock"][[0, -1]].tolist() == [1, 0]
    assert np.isnan(found.stages["in_stock"][1:-2]).all()
    named = replace(as_written("milk"), raw="best  MILK")
    assert other.search(named, n=500).rows.tolist() == [first, *plain.rows[2:].tolist(), second]
    by_id = replace(as_written("milk"), raw=str(engine.shelf.product_ids[first]))
    assert other.search(by_id, n=1).rows.tolist() == [first]
    for in_stock, out in ((True, {first, second}), (False, {int(plain.rows[2])})):
        kept = other.search(as_written("milk"), n=500, filters=Bounds(in_stock=in_stock))
        assert set(plain.rows.tolist()) - set(kept.rows.tolist()) == out


def test_a_broad_query_spreads_and_a_category_filter_does_not(
    engine: SearchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With everything near enough, seven of the first ten are of one category; inside a category nothing moves."""
    monkeypatch.setattr(diversity, "NEAR", -1.0)
    plain = engine.search(as_written("frozen pizza"), n=500)
    most = next(iter(plain.facets["category"]))
    inside = engine.search(as_written("frozen pizza"), n=500, filters=Bounds(category=most))
    assert (engine.shelf.category[plain.rows[:10]] == most).sum() > diversity.MOST
    monkeypatch.setattr(diversity, "NEAR", 1.0)
    wide = engine.search(as_written("frozen pizza"), n=500)
    assert (engine.shelf.category[wide.rows[:10]] == most).sum() == diversity.MOST
    assert sorted(wide.rows.tolist()) == sorted(plain.rows.tolist())
    again = engine.search(as_written("frozen pizza"), n=500, filters=Bounds(category=most))
    assert again.rows.tolist() == inside.rows.tolist()


def customer_of(product_ids: list[str], counts: list[float], categories: list[str]) -> CustomerFeatures:
    row = {
        "product_ids": product_ids, "decayed_90d": counts,
        **{name: [0] * len(product_ids) for name in ("n_purchases", "n_30d", "n_60d", "decayed_30d", "first_at",
                                                     "last_at", "interval_days")},
        "categories": categories, "category_affinity": [1.0] * len(categories),
        "category_n": [1] * len(categories), "category_last_at": [0] * len(categories),
    }  # fmt: skip
    made = CustomerFeatures.from_row(row)
    assert made is not None
    return made


def test_affinity_hand_worked() -> None:
    """Bought 4 and 1 times (decayed): 1 and 1/4; the category counts as much; nothing bought is 0."""
    customer = customer_of(["a", "b"], [4.0, 1.0], ["Milk"])
    found = affinity(customer, ["a", "b", "c", "d"], ["Milk", "Tea", "Milk", ""])
    assert found.tolist() == [(1 + 1) / 2, (1 / 4) / 2, 1 / 2, 0]
    assert affinity(customer_of(["a"], [0.0], []), ["a"], ["Milk"]).tolist() == [0]


def test_what_a_customer_buys_moves_up_by_a_bounded_amount(engine: SearchEngine) -> None:
    """The product bought moves up, by PERSONAL of the range at most; the same are found; the rest keep their order."""
    plain = engine.search(as_written("milk"), n=500)
    at = 30
    bought = customer_of([str(engine.shelf.product_ids[plain.rows[at]])], [3.0], [])
    found = engine.search(as_written("milk"), n=500, customer=bought)
    place = found.rows.tolist().index(plain.rows[at])
    assert place < at
    assert sorted(found.rows.tolist()) == sorted(plain.rows.tolist())
    assert found.scores[place] - plain.scores[at] == pytest.approx(PERSONAL * np.ptp(plain.scores) / 2, rel=1e-3)
    assert found.stages["personal"][place] == 0.5
    assert np.isfinite(found.stages["personal"]).sum() == 1
    rest = [row for row in plain.rows.tolist() if row != plain.rows[at]]
    assert [row for row in found.rows.tolist() if row != plain.rows[at]] == rest
    assert "personal" not in plain.stages


def test_a_learned_fusion_orders_by_its_weights(engine: SearchEngine) -> None:
    """With all weight on the cosine, the order is that of meaning."""
    by_meaning = engine.fused_by(Fusion({**dict.fromkeys(FEATURES, 0.0), "vector": 1.0}))
    found = by_meaning.search(as_written("puppy meals"), n=20)
    assert list(found.stages["vector"]) == sorted(found.stages["vector"], reverse=True)


def test_weights_of_other_features_are_refused(tmp_path: Path) -> None:
    """A fusion learned over what this code does not compute cannot be served; a whole one comes back as it was."""
    whole = Fusion(dict.fromkeys(FEATURES, 0.5), {"keyword_index": "a" * 64})
    assert Fusion.load(whole.save(tmp_path / "fusion", queries=3)) == whole
    with pytest.raises(ArtefactRefused, match="run rebuild_index"):
        Fusion.load(Fusion({"keyword": 1.0}).save(tmp_path / "other"))


def test_what_changed_since_is_found_and_what_is_gone_is_hidden(engine: SearchEngine, products: pd.DataFrame) -> None:
    """A product put is found by its words, one put again by its new ones only, one removed not at all; and undone."""
    first, second = (str(products["product_id"][int(row)]) for row in engine.search(as_written("milk"), n=2).rows)
    put = {"new": {"name": "Zucchini lamp", "brand": "Lumo", "price_minor": 1250}, first: {"name": "Oat drink"}}
    vectors = engine.encoder.encode(["zucchini lamp, lumo", "oat drink"])
    now = engine.changed(part_of(put, vectors, engine.base), gone=[second])

    def ids(query: str) -> list[str]:
        found = now.search(as_written(query), n=100)
        return [str(found.shelf.product_ids[row]) for row in found.rows]

    assert ids("lumo")[0] == "new"
    assert ids("oat drink")[0] == first
    assert not {second} & {*ids("milk"), *ids("oat drink")}
    assert now.search(as_written("lumo"), n=1, filters=Bounds(price_max_minor=1200)).total == 0
    assert now.similar(now.row["new"], n=5).rows.size == 5
    assert ids("milk").count(first) <= 1
    back = now.changed(None, gone=[])
    assert back.search(as_written("milk"), n=2).rows.tolist() == engine.search(as_written("milk"), n=2).rows.tolist()


def test_a_product_put_again_stays_as_popular_and_a_new_one_is_not(engine: SearchEngine) -> None:
    """A new price does not move the best-seller of a category page; what nobody could buy yet comes last."""
    best = str(engine.shelf.product_ids[int(engine.browse(n=1).rows[0])])
    put = {"new": {"name": "Lamp"}, best: {"name": "Lamp", "list_price_minor": 5}}
    now = engine.changed(part_of(put, engine.encoder.encode(["lamp", "lamp"]), engine.base), gone=[])
    found = now.browse(n=len(now.shelf.product_ids)).rows.tolist()
    assert [found.index(now.row[pid]) for pid in (best, "new")] == [0, len(found) - 1]


def test_only_a_word_that_the_whole_catalogue_does_not_know_stands_for_what_it_begins(engine: SearchEngine) -> None:
    """The word "milk" is no beginning of a new "milkshake" while products hold milk; "zucch" is one of "zucchini"."""
    put = {"shake": {"name": "Milkshake"}, "veg": {"name": "Zucchini"}}
    added = part_of(put, engine.encoder.encode(["milkshake", "zucchini"]), engine.base)
    assert added is not None
    assert added.keyword.top([Term("milk")], 9).docs.tolist() == []
    assert added.keyword.top([Term("zucch")], 9).docs.tolist() == [1]


@pytest.mark.parametrize("meaning", [False, True])
def test_a_filter_is_applied_before_the_best_are_taken(
    engine: SearchEngine, monkeypatch: pytest.MonkeyPatch, *, meaning: bool
) -> None:
    """With two texts taken of hundreds, by words or by meaning, what a filter leaves is found all the same."""
    milk = as_written("milk")
    asked = replace(milk, terms=()) if meaning else replace(milk, text="")
    last = np.sort(engine.search(asked, n=500).rows)[-5:]
    low = int(engine.shelf.price_minor[last[0]])
    monkeypatch.setattr(part, "KEYWORD_DOCS", 2)
    monkeypatch.setattr(part, "VECTOR_TEXTS", 2)
    few = engine.search(asked, n=500)
    assert len(few.rows)
    dear = engine.search(asked, n=500, filters=Bounds(price_min_minor=low))
    assert dear.total >= 2
    assert set(dear.rows.tolist()) <= set(last.tolist())
    assert len(set(few.rows.tolist()) & set(last.tolist())) < 2
    gone = [str(engine.shelf.product_ids[row]) for row in few.rows]
    assert engine.search(asked, n=500, exclude=gone).total >= 2
