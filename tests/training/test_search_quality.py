"""Scores of judged queries, worked by hand."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from training import golden, search_quality
from training.behaviour import NO_RESULT
from training.errors import BadConfig
from training.search_quality import Judgments, bm25, cross_fitted, folds, misspelt, ndcg, score

FRAME = pd.DataFrame(
    [("mouse", "a", 3, "head"), ("mouse", "b", 0, "head"), ("mouse", "c", 1, "head"), ("ghost", "a", 0, "tail")],
    columns=["query", "product_id", "grade", "slice"],
)


def test_ndcg_hand_worked() -> None:
    """Grades 0, 3, 1 against the ideal 3, 1, 0: gains 7 and 1 moved one place down."""
    log = np.log2
    assert ndcg([0, 3, 1], [3, 1, 0]) == pytest.approx((7 / log(3) + 1 / 2) / (7 + 1 / log(3)))
    assert np.isnan(ndcg([0], [0]))


def test_unjudged_products_count_as_wrong_in_one_reading_and_not_at_all_in_the_other() -> None:
    """Served x (unjudged), a, c: .63 of the first reading, the whole of the second."""
    found = score(lambda _: ["x", "a", "c"], Judgments.of(FRAME))
    assert found["query"].tolist() == ["mouse"]  # nothing is relevant for "ghost"
    log = np.log2
    assert found["ndcg_at_10"][0] == pytest.approx((7 / log(3) + 1 / 2) / (7 + 1 / log(3)))
    assert found["ndcg_judged"][0] == 1
    assert found["judged_at_10"][0] == pytest.approx(0.2)


def test_golden_sets_say_what_they_hold() -> None:
    """Known slices, each with queries that something answers; only no-result queries have no product at all."""
    for shop in ("chorus", "complete_journey"):
        judged = golden.read(shop)
        answered = {query for query, grades in judged.grades.items() if max(grades.values(), default=0) > 0}
        assert {query for query, grades in judged.grades.items() if not grades} == {
            query for query, name in judged.slices.items() if name == NO_RESULT
        }
        assert {judged.slices[query] for query in answered} <= {
            "head",
            "tail",
            "attribute",
            "brand",
            "typo",
            "hinglish",
        }
    assert list(judged.slices.values()).count("hinglish") == 15
    assert len(score(lambda _: [], judged)) == len(answered)  # the others have no nDCG


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("query;product_id;grade;slice\na;1;3;head\n", "has the columns query;product_id;grade;slice; need query, "),
        (
            "query,product_id,grade\na,1,3\n",
            "has the columns query, product_id, grade; need query, product_id",
        ),
        ("query,product_id,grade,slice\na,1,,head\n", "line 2: found the grade '', need 0"),
        ("query,product_id,grade,slice\na,1,3,head\na,2,9,head\n", "line 3: found the grade '9', need 0 (wrong) to 4"),
        ("query,product_id,grade,slice\na,1,3,head\na,1,0,head\n", "line 3: found 1 for 'a' a second time"),
        (
            "query,product_id,grade,slice\na,1,3,head\na,2,0,tail\n",
            "line 3: found 'a' in the slice tail, above it is",
        ),
        ("query,product_id,grade,slice\na,1,3,Typo\n", "line 2: found the slice 'Typo', need a name in small letters"),
        ("query,product_id,grade,slice\na,1,3,no-result\n", "line 2: found something relevant for 'a', which is in"),
        ("query,product_id,grade,slice\n ,1,3,head\n", "line 2: found no query"),
        ("query,product_id,grade,slice\nkäse,1,3,head\n", "is no CSV in UTF-8"),
        ("", "is no CSV in UTF-8"),
    ],
)
def test_a_golden_set_that_contradicts_itself_is_refused(tmp_path: Path, content: str, said: str) -> None:
    """File, line, what was found and what is allowed: people write it by hand, and all gates rest on it."""
    (tmp_path / "shop.csv").write_text(content, encoding="latin-1")
    with pytest.raises(BadConfig, match=re.escape(said)) as error:
        golden.read("shop", tmp_path)
    assert "shop.csv" in str(error.value)


def test_a_typo_is_one_edit_per_long_word_and_always_the_same() -> None:
    """Short words, codes and digits stay."""
    for word in ("keyboard", "bluetooth", "headphones", "mouse", "camera"):
        typo = misspelt(word)
        assert typo != word
        assert typo == misspelt(word)
        assert abs(len(typo) - len(word)) <= 1
    assert misspelt("usb fan tn2110 hdmi") == "usb fan tn2110 hdmi"


def test_no_query_is_scored_by_what_learned_from_it() -> None:
    """Each query is in one fold, and that fold's fit has not seen it."""
    grades = {f"q{at}": {"a": 1} for at in range(12)}
    judged = Judgments(grades, dict.fromkeys(grades, "all"))
    seen: list[set[str]] = []

    def fit(known: Judgments) -> search_quality.Search:
        seen.append(set(known.grades))
        return lambda query: [] if query in seen[-1] else ["a"]

    scored = pd.concat(cross_fitted(fit, judged))
    assert sorted(scored["query"]) == sorted(grades)
    assert (scored["ndcg_at_10"] == 1).all()
    assert sorted(folds(list(grades)).values()).count(0) == 3


def test_the_baseline_reads_name_and_description() -> None:
    """Stems of both count; a product without any of the words is not found."""
    products = pd.DataFrame(
        {
            "product_id": ["1", "2", "3"],
            "name": ["Red mice", "Cat", None],
            "description": [None, "hunts <b>mice</b>", ""],
        }
    )
    assert sorted(bm25(products)("mouse mice")) == ["1", "2"]


def test_the_baseline_reads_composed_names_where_a_shop_has_none() -> None:
    """Such a shop is The Complete Journey: a name is type, size and brand."""
    fields = {"product_id": ["1", "2"], "name": [None, None], "product_type": ["FLUID MILK", None]}
    more = {"package_size": ["1 GA", None], "brand": ["National", "Private"], "category": ["MILK", "BREAD:ITALIAN"]}
    found = bm25(pd.DataFrame({**fields, **more, "description": [None, None]}))
    assert [found(query) for query in ("milk", "national milk", "italian")] == [["1"], ["1"], ["2"]]
