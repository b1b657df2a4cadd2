"""Training pairs: where they come from, what stays out of them, and that draws are the same every time."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training import pairs
from training.datasets.splits import LeakageFound
from training.held_out import near_duplicates, refuse_leaks
from training.pairs import Catalogue, PairConfig
from training.query_noise import abbreviation, by_ear, noisy, typo
from training.search_quality import Judgments

AT = datetime(2026, 1, 5, tzinfo=UTC)
JUDGMENTS = Judgments.of(
    pd.DataFrame(
        [(query, f"p{n}", grade, "all") for n in range(12) for query, grade in ((f"{'abcdefghijkl'[n] * 5} lamp", 3),)]
        + [("aaaaa lamp", "p1", 1, "all")],
        columns=["query", "product_id", "grade", "slice"],
    )
)


def products(*names: str, **columns: object) -> pd.DataFrame:
    """clean/products of these names."""
    empty = dict.fromkeys(("product_type", "brand", "category", "department", "package_size"))
    rows = [{"product_id": f"p{at}", "name": name, **empty, **columns} for at, name in enumerate(names)]
    return pd.DataFrame(rows).assign(event_time=AT, known_at=AT)


LAMPS = products(
    "Glow 40W desk lamp with clamp",
    "Philips reading light warm white",
    "Wooden bookshelf with five shelves",
    "Garden chair foldable green",
)


@pytest.mark.parametrize(
    ("query", "held", "near"),
    [
        ("camera cases", "camera case", True),
        ("head set", "headset", True),
        ("iphone 7", "iphone 8", False),
        ("gaming mouse pad", "gaming mouse", True),
        ("camera bag", "camera case", False),
        ("portable jbl bluetooth speaker black", "bluetooth speaker", False),
        ("fan", "tv", False),
    ],
)
def test_what_counts_as_nearly_the_same_query(query: str, held: str, near: bool) -> None:
    """Two queries are near-duplicates when they share 0.6 of their stems or of their letter trigrams."""
    assert near_duplicates([query, "quite another thing"], [held]).tolist() == [near, False]


def test_the_overlap_by_hand() -> None:
    """Stems {game, mous, pad} and {game, mous} share 2 of 3; trigrams ^aa, aa$ and ^ab, ab$ share none."""
    assert near_duplicates(["gaming mouse pad"], ["gaming mouse"]).all()
    assert not near_duplicates(["aa"], ["ab"]).any()


def test_a_pair_near_a_query_kept_for_judging_is_refused() -> None:
    """The check before training fails, and names the query; what pairs() makes passes it."""
    with pytest.raises(LeakageFound, match=r"1 training pairs.*camera cases"):
        refuse_leaks(["lamp", "camera cases"], ["camera case"])
    structural = pairs.structural(Catalogue.of(LAMPS), PairConfig())
    held = ["desk lamps", "garden chairs", "reading lights", "wood bookshelf"]
    made = pairs.pairs([structural], held, PairConfig(noisy_share=1))
    refuse_leaks(made["query"].tolist(), held)
    assert 0 < len(made) < len(pairs.pairs([structural], [], PairConfig(noisy_share=1)))


@pytest.mark.parametrize("seed", range(8))
def test_no_misspelt_copy_of_a_query_kept_for_judging_teaches(seed: int) -> None:
    """The copy shares too few letters with "bluetooth speaker" to be told from it, so it is never written."""
    config, held = PairConfig(noisy_share=1, seed=seed), ["bluetooth speaker", "gaming mouse", "frozen chicken"]
    asked = ["bluetooth speakers", "gaming mouse", "frozen chicken", "oak wardrobe"]
    rows = pd.DataFrame({"query": asked, "product_id": [f"p{at}" for at in range(4)]})
    rows = rows.assign(origin="attribute", noisy=False, event_time=AT, known_at=AT)
    made = pairs.pairs([rows], held, config)
    assert set(made["product_id"]) == {"p3"}
    milk = rows.iloc[3:].assign(query="milk")
    written = pairs.pairs([milk], [], config).query("noisy")["query"].tolist()
    again = pairs.pairs([milk], written, config)
    assert again["query"].tolist() == ["milk"], "what the noise writes may be near a query kept for judging too"


def test_a_piece_of_a_name_is_words_in_a_row_without_codes() -> None:
    """Out of "Glow 40W desk lamp with clamp" come pieces of "desk lamp with clamp" only, two to four words long."""
    for seed in range(20):
        made = pairs.structural(Catalogue.of(LAMPS), PairConfig(seed=seed))
        piece = made[(made["product_id"] == "p0") & (made["origin"] == "name")]["query"].item()
        assert piece in "desk lamp with clamp"
        assert 2 <= len(piece.split()) <= 4


def test_words_that_most_products_share_make_no_pair() -> None:
    """A query that more than `max_share` of the texts answer would make right answers count as wrong."""
    many = products(*(f"chair of the {word} kind" for word in ("red", "blue", "green", "tall")), category="chair")
    made = pairs.structural(Catalogue.of(many), PairConfig(max_share=0.25))
    assert set(made["origin"]) == {"name"}
    assert all(any(word in query for word in ("red", "blue", "green", "tall")) for query in made["query"])


def test_type_and_brand_ask_for_a_product_that_has_a_name() -> None:
    """Type, brand with type; a text that is nothing but its type is not paired with itself."""
    made = pairs.structural(Catalogue.of(products("Model Z", product_type="toaster", brand="Acme")), PairConfig())
    assert set(made["query"]) == {"toaster", "acme toaster"}
    bare = products("", product_type="toaster").assign(name=None)
    assert pairs.structural(Catalogue.of(bare), PairConfig()).empty


def test_a_new_product_changes_no_other_products_pairs() -> None:
    """Draws hang on the product's own text, so that tomorrow's version differs by what is new."""
    config = PairConfig(noisy_share=0.5)
    now = pairs.pairs([pairs.structural(Catalogue.of(LAMPS), config)], [], config)
    more = pd.concat([LAMPS, products(*["x"] * 4, "Copper kettle two litres").iloc[4:]], ignore_index=True)
    then = pairs.pairs([pairs.structural(Catalogue.of(more), config)], [], config)
    assert set(map(tuple, now.to_numpy())) < set(map(tuple, then.to_numpy()))


def test_searches_are_joined_with_what_they_led_to() -> None:
    """Click, cart and purchase of the same request; simulated events, other requests and bare searches give nothing."""
    rows = [
        ("search", "r1", None, "desk lamp", "real"),
        ("click", "r1", "p0", None, "real"),
        ("cart", "r1", "p1", None, "real"),
        ("purchase", "r1", "p2", None, "replayed"),
        ("impression", "r1", "p3", None, "real"),
        ("search", "r2", None, "chair", "simulated"),
        ("click", "r2", "p3", None, "simulated"),
        ("search", "r3", None, None, "real"),
        ("click", "r3", "p3", None, "real"),
        ("click", None, "p3", None, "real"),
    ]
    events = pd.DataFrame(rows, columns=["type", "request_id", "product_id", "query", "origin"])
    made = pairs.searched(events.assign(event_time=AT, known_at=AT))
    assert made[["query", "product_id", "origin"]].to_numpy().tolist() == [
        ["desk lamp", "p0", "click"],
        ["desk lamp", "p1", "click"],
        ["desk lamp", "p2", "purchase"],
    ]


def test_judgments_teach_only_for_queries_that_are_not_kept() -> None:
    """Where two of five folds are kept for judging, products of grade 2 and more are positives of the rest."""
    config = PairConfig(held_out_folds=2)
    held = pairs.held_out(JUDGMENTS, config)
    assert pairs.held_out(JUDGMENTS, PairConfig()) == sorted(JUDGMENTS.grades), "all of them, unless told otherwise"
    made = pairs.judged(JUDGMENTS, held, config, AT)
    assert len(held) == 3 + 3, "12 queries dealt out to five folds: 3, 3, 2, 2, 2"
    assert set(made["query"]) == set(JUDGMENTS.grades) - set(held)
    assert not ((made["query"] == "aaaaa lamp") & (made["product_id"] == "p1")).any()


def test_products_of_the_same_baskets_and_department_are_near() -> None:
    """The nearest co-purchased text of the same department; a neighbour of another department is not."""
    mixed = LAMPS.assign(department=["light", "light", "home", "home"])
    neighbours = {"p0": ["p2", "p1"], "p2": ["p0"]}
    made = pairs.bought_together(Catalogue.of(mixed), mixed, neighbours, PairConfig())
    assert made[["query", "product_id"]].to_numpy().tolist() == [
        ["glow 40w desk lamp with clamp, light", "p1"],
    ]


def test_a_product_that_left_the_shop_is_bought_with_nothing() -> None:
    """Baskets know products that the catalogue has no more; they are no product of the department that none names."""
    made = pairs.bought_together(Catalogue.of(LAMPS), LAMPS, {"p0": ["gone", "p1"]}, PairConfig())
    assert made["product_id"].tolist() == ["p1"]


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz 0123456789", max_size=30), st.integers(0, 2**32 - 1))
def test_noise_changes_one_word_at_most_and_always_the_same_way(query: str, seed: int) -> None:
    """Short words, codes and numbers stay; the same seed writes the same."""
    query = " ".join(query.split())
    made = noisy(query, np.random.default_rng(seed))
    assert made == noisy(query, np.random.default_rng(seed))
    before, after = query.split(), made.split()
    changed = [(one, other) for one, other in zip(before, after, strict=True) if one != other]
    assert len(changed) <= 1
    assert all(len(one) >= 4 and one.isalpha() for one, _ in changed)


def test_noise_by_hand() -> None:
    """The three ways of writing another word than was meant."""
    draws = [np.random.default_rng(seed) for seed in range(60)]
    assert {"frzn", "froz"} == {abbreviation("frozen", rng) for rng in draws}
    assert {by_ear("phone", rng) for rng in draws} == {"fone"}
    assert by_ear("milk", draws[0]) == "milk"
    typos = {typo("milk", rng) for rng in draws}
    assert typos <= {"mlk", "mik", "miilk", "millk", "mulk", "molk", "mikk", "mlik", "mikl"}
    assert len(typos) > 5
