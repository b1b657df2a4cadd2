"""rank(): one pipeline, known and unknown customers, rules, reasons, and every fallback with its fault injected."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_contracts.errors import ArtefactRefused
from serving.runtime import artefacts as loading
from serving.runtime import pipeline
from serving.runtime.artefacts import Artefacts
from serving.runtime.catalogue import Catalogue
from serving.runtime.config import PipelineConfig
from serving.runtime.pipeline import Request, Stages, rank
from tests.training.sample import SINCE, UNTIL, World, transactions, world
from training import dataset, ranker


def w() -> World:
    """The sample as of SINCE; built at the first test, not at collection."""
    return world(SINCE)


@pytest.fixture(scope="module")
def served() -> Artefacts:
    """Retrieval models of the sample with two small rankers."""
    rows = dataset.build(w().artefacts, w().customers, transactions(), SINCE, UNTIL)
    config = ranker.RankerConfig(trees=5, min_data=100, threads=1)
    novel = config.model_copy(update={"goal": "novel"})
    return Artefacts.of(
        w().catalogue, w().models, {"all": ranker.train(config, rows), "novel": ranker.train(novel, rows)}
    )


def somebody() -> Any:
    """A household with a long history."""
    return max(w().customers.values(), key=lambda c: len(c.product_ids))


def ids(stages: Stages) -> list[str]:
    """What was shown."""
    return [r.product_id for r in stages.results]


class Broken:
    """A ranker that answers with what it was given, or raises it."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def scores(self, features: Any) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return np.full(features.shape[0], self.answer, np.float32)


def broken(answer: Any) -> Artefacts:
    """Artefacts whose ranker for `all` is broken."""
    return replace(w().artefacts, rankers={"all": Broken(answer)})  # type: ignore[dict-item]


def test_known_customer_is_not_degraded(served: Artefacts) -> None:
    """All stages answer: n products, none twice, scores falling, nothing degraded."""
    stages = rank(Request(n=20), somebody(), w().catalogue, served, SINCE)
    assert len(set(ids(stages))) == 20
    assert stages.degraded == stages.hard_faults == ()
    shown = [r.score for r in stages.results]
    assert shown == sorted(shown, reverse=True)
    assert all(r.reasons for r in stages.results)


def test_same_request_same_answer(served: Artefacts) -> None:
    """No clock and no chance: the same request gives the same scores, to the bit."""
    first, second = (rank(Request(), somebody(), w().catalogue, served, SINCE) for _ in range(2))
    np.testing.assert_array_equal(first.scores, second.scores)
    assert first.results == second.results


def test_novel_shows_nothing_bought(served: Artefacts) -> None:
    """`novel` never shows a product of the history."""
    customer = somebody()
    stages = rank(Request(n=50, goal="novel"), customer, w().catalogue, served, SINCE)
    assert len(stages.results) == 50
    assert not set(ids(stages)) & set(customer.product_ids)


def test_excluded_and_basket_are_not_shown(served: Artefacts) -> None:
    """What the client excludes, and what lies in the basket, is not recommended."""
    customer = somebody()
    shown = ids(rank(Request(), customer, w().catalogue, served, SINCE))
    again = ids(rank(Request(exclude=shown[:3], product_ids=shown[3:5]), customer, w().catalogue, served, SINCE))
    assert len(again) == 10
    assert not set(again) & set(shown[:5])


def test_unknown_products_are_ignored(served: Artefacts) -> None:
    """Ids that the catalogue does not know, in request or history, change nothing."""
    customer = somebody()
    strange = replace(customer, product_ids=["no-such", *customer.product_ids[1:]])
    odd = Request(product_ids=["no-such"], exclude=["nor-this"])
    assert ids(rank(odd, customer, w().catalogue, served, SINCE)) == ids(
        rank(Request(), customer, w().catalogue, served, SINCE)
    )
    assert len(ids(rank(Request(), strange, w().catalogue, served, SINCE))) == 10


def test_history_all_unknown(served: Artefacts) -> None:
    """A customer whose whole history left the catalogue still gets n products."""
    customer = somebody()
    gone = replace(customer, product_ids=[f"gone-{i}" for i in range(len(customer.product_ids))])
    assert len(ids(rank(Request(), gone, w().catalogue, served, SINCE))) == 10


def test_cold_start_is_popular_and_varied(served: Artefacts) -> None:
    """An unknown customer sees popular products of many categories, and that is not degraded."""
    stages = rank(Request(), None, w().catalogue, served, SINCE)
    rows = [r.row for r in stages.results]
    assert stages.degraded == ()
    assert len(set(w().catalogue.category_code[rows].tolist())) >= 8
    assert set(rows) <= set(w().catalogue.popular[:200].tolist())


def test_cold_start_follows_the_page(served: Artefacts) -> None:
    """An unknown customer on a product page sees what shares baskets with it, and is told so."""
    page = w().models["co_purchase"].item_ids[0]
    row = w().catalogue.index[page]
    stages = rank(Request(product_ids=[page]), None, w().catalogue, served, SINCE)
    assert page not in ids(stages)
    assert any(reason == f"goes with {w().catalogue.text['name'][row]}" for r in stages.results for reason in r.reasons)


def test_explain_shows_each_stage(served: Artefacts) -> None:
    """With explain each result carries the scores of retrieval, ranker and end; without it none."""
    stages = rank(Request(explain=True), somebody(), w().catalogue, served, SINCE)
    assert {"ranker", "context", "final"} <= set(stages.results[0].scores)
    assert rank(Request(), somebody(), w().catalogue, served, SINCE).results[0].scores == {}


def test_missing_ranker_is_retrieval_order() -> None:
    """Without a ranker the customer's own decayed purchases lead, and the answer says so."""
    customer = somebody()
    stages = rank(Request(), customer, w().catalogue, w().artefacts, SINCE)
    assert stages.degraded == (pipeline.RANKER_MISSING,)
    best = customer.product_ids[int(np.argmax(customer.decayed_90d))]
    assert best in ids(stages)


def test_raising_ranker_is_retrieval_order() -> None:
    """A ranker that raises is a degraded answer, the one without a ranker, and no exception."""
    stages = rank(Request(), somebody(), w().catalogue, broken(RuntimeError("cut file")), SINCE)
    assert stages.degraded == (pipeline.RANKER_FAILED,)
    assert ids(stages) == ids(rank(Request(), somebody(), w().catalogue, w().artefacts, SINCE))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_scores_are_a_hard_fault(value: float) -> None:
    """NaN or infinite scores never order an answer, and take the release out of traffic."""
    stages = rank(Request(), somebody(), w().catalogue, broken(value), SINCE)
    assert stages.hard_faults == stages.degraded == (pipeline.NON_FINITE,)
    assert np.isfinite(stages.scores).all()


def test_nothing_but_the_catalogue() -> None:
    """With no model at all known and unknown customers still get n products, marked degraded."""
    bare = Artefacts.of(w().catalogue, {})
    for customer in (somebody(), None):
        stages = rank(Request(), customer, w().catalogue, bare, SINCE)
        assert len(stages.results) == 10
        assert pipeline.RETRIEVAL_MISSING in stages.degraded


def test_files_and_memory_rank_alike(served: Artefacts, tmp_path: Path) -> None:
    """Artefacts loaded from their files give the answers of the draft they were saved from."""
    paths = {name: model.save(tmp_path / f"{name}.npz") for name, model in w().models.items()}
    paths["product_features"] = w().catalogue.save(tmp_path / "product_features.npz")
    for goal, model in served.rankers.items():
        paths[f"ranker_{goal}"] = model.save(tmp_path / f"ranker_{goal}.txt")
    loaded = loading.load(paths)
    for request in (Request(explain=True), Request(goal="novel")):
        draft = rank(request, somebody(), w().catalogue, served, SINCE)
        assert rank(request, somebody(), loaded.catalogue, loaded, SINCE).results == draft.results
    assert loaded.fit_until()["als"] == SINCE


def test_catalogue_is_required_and_reproducible(tmp_path: Path) -> None:
    """Nothing ranks without product_features; the catalogue written twice has the same bytes."""
    with pytest.raises(ArtefactRefused, match="needed product_features"):
        loading.load({})
    first = w().catalogue.save(tmp_path / "a.npz")
    assert Catalogue.load(first).save(tmp_path / "b.npz").read_bytes() == first.read_bytes()


def test_rankers_must_agree_on_candidates(served: Artefacts) -> None:
    """Two rankers trained over different candidates cannot be served together."""
    other = served.rankers["novel"]
    meta = {**other.meta, "pipeline": PipelineConfig(als=7).model_dump()}
    with pytest.raises(ArtefactRefused, match="different candidate settings"):
        Artefacts.of(w().catalogue, w().models, {**served.rankers, "novel": replace(other, meta=meta)})


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 60),
    who=st.integers(0, 10_000),
    goal=st.sampled_from(["all", "novel"]),
    places=st.lists(st.integers(-1, 20_000), max_size=3),
)
def test_any_request_is_answered(n: int, who: int, goal: pipeline.Goal, places: list[int]) -> None:
    """Whatever is asked for whomever: at most n products, none twice, none excluded, all of the catalogue."""
    keys = sorted(w().customers)
    page = ["unknown" if at < 0 else w().catalogue.product_ids[at] for at in places]
    stages = rank(
        Request(n=n, goal=goal, product_ids=page),
        w().customers[keys[who % len(keys)]],
        w().catalogue,
        w().artefacts,
        SINCE,
    )
    shown = ids(stages)
    assert len(shown) == len(set(shown)) == n
    assert not set(shown) & set(page)
    assert all(p in w().catalogue.index for p in shown)
