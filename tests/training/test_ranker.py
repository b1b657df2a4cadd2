"""Ranker rows and rankers: the past only, all negatives, the same bytes."""

from datetime import timedelta
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pytest

from data_contracts.errors import ArtefactRefused
from feature_repo.ranker_features import FEATURE_NAMES
from serving.runtime.artefacts import Artefacts
from serving.runtime.ranker import Ranker
from tests.serving.small_release import write_encoder
from tests.training.sample import SINCE, UNTIL, transactions, world
from training import dataset, evaluate, ranker
from training.errors import BadConfig, FittedPastLabel, NotEnoughData
from training.trees import to_onnx

SMALL = ranker.RankerConfig(trees=10, min_data=100, threads=1)


@pytest.fixture(scope="module")
def rows() -> dataset.RankerRows:
    """Rows of the sample for weeks 46 to 49."""
    w = world(SINCE)
    return dataset.build(w.artefacts, w.customers, transactions(), SINCE, UNTIL)


@pytest.fixture(scope="module")
def trained(rows: dataset.RankerRows) -> Ranker:
    """A small ranker."""
    return ranker.train(SMALL, rows)


def test_rows_are_whole(rows: dataset.RankerRows) -> None:
    """One group per household with purchases, every candidate kept, and a positive is a purchase of the window."""
    assert rows.features.shape == (rows.groups.sum(), len(FEATURE_NAMES))
    truth = dataset.truth_of(transactions(), SINCE, UNTIL)
    assert rows.groups.size == len(set(truth) & set(world(SINCE).customers))
    assert sum(rows.relevant) == sum(len(v) for k, v in truth.items() if k in world(SINCE).customers)
    assert 0.3 < rows.relevant[0] / sum(rows.relevant) < 0.8


def test_artefact_from_the_future_is_refused() -> None:
    """Retrieval models that have seen the labels cannot make ranker rows; the error names each and the date."""
    w = world(SINCE)
    early = SINCE - timedelta(days=7)
    with pytest.raises(FittedPastLabel, match=r"als.*needed fit_until <= 2017-10-30"):
        dataset.build(w.artefacts, w.customers, transactions(), early, UNTIL)


def test_bad_windows() -> None:
    """An empty window and a window without purchases are told apart."""
    w = world(SINCE)
    with pytest.raises(BadConfig, match="since < until"):
        dataset.build(w.artefacts, w.customers, transactions(), SINCE, SINCE)
    late = SINCE + timedelta(days=2000)
    with pytest.raises(NotEnoughData, match="no known customer"):
        dataset.build(w.artefacts, w.customers, transactions(), late, late + timedelta(days=1))


def test_only_novel_drops_what_was_bought(rows: dataset.RankerRows) -> None:
    """The rows for `novel` are exactly the unseen ones, groups still adding up."""
    novel = dataset.only_novel(rows)
    assert novel.groups.sum() == novel.labels.size == (~rows.seen).sum()
    assert not novel.seen.any()


def test_same_rows_same_bytes(rows: dataset.RankerRows, trained: Ranker, tmp_path: Path) -> None:
    """Training twice writes identical files, and loading gives identical scores."""
    first = trained.save(tmp_path / "a.onnx")
    assert ranker.train(SMALL, rows).save(tmp_path / "b.onnx").read_bytes() == first.read_bytes()
    np.testing.assert_array_equal(Ranker.load(first).scores(rows.features[:100]), trained.scores(rows.features[:100]))


def test_served_trees_score_as_trained(rows: dataset.RankerRows) -> None:
    """The ONNX trees give the mean of LightGBM's scores, missing values included, also where training saw none."""
    data = lgb.Dataset(rows.features, rows.labels, group=rows.groups, feature_name=list(FEATURE_NAMES))
    settings = {"objective": "lambdarank", "verbosity": -1, "num_threads": 1, "feature_fraction": 0.5}
    boosters = [lgb.train({**settings, "feature_fraction_seed": seed}, data, 20) for seed in (0, 1)]
    served = Ranker.of(to_onnx(boosters, {"feature_names": list(FEATURE_NAMES)}))
    asked = rows.features[::50].copy()
    for missing in (False, True):
        asked[:, ::3] = np.nan if missing else asked[:, ::3]
        each = np.array([booster.predict(asked) for booster in boosters])
        assert np.abs(each[0] - each[1]).max() > 1e-3
        np.testing.assert_allclose(served.scores(asked), each.mean(0), rtol=0, atol=1e-5)


def test_splits_that_cannot_be_carried_over_are_refused() -> None:
    """A booster that reads zeros as missing is refused by name, not scored otherwise than it was trained."""
    x = np.random.default_rng(0).normal(size=(400, 2)) * (np.arange(400) % 3 > 0)[:, None]
    data = lgb.Dataset(x, (x[:, 0] > 0.2).astype(float))
    booster = lgb.train({"objective": "binary", "zero_as_missing": True, "verbosity": -1}, data, 3)
    with pytest.raises(BadConfig, match="missing type Zero"):
        to_onnx([booster], {})


def test_other_features_are_refused(rows: dataset.RankerRows) -> None:
    """A ranker over other features is refused before it scores, naming the difference."""
    booster = lgb.train({"verbosity": -1, "num_threads": 1}, lgb.Dataset(rows.features[:2000], rows.labels[:2000]), 2)
    with pytest.raises(ArtefactRefused, match="moon_phase"):
        Ranker.of(to_onnx([booster], {"feature_names": [*FEATURE_NAMES[1:], "moon_phase"]}))


def test_file_without_meta_is_refused(tmp_path: Path) -> None:
    """What is no ONNX model, and a model that is not ours, are refused with what was found."""
    (tmp_path / "r.onnx").write_text("tree\n")
    with pytest.raises(ArtefactRefused, match="does not parse"):
        Ranker.load(tmp_path / "r.onnx")
    with pytest.raises(ArtefactRefused, match="without our meta"):
        Ranker.of(write_encoder(tmp_path, ["milk"])[0].read_bytes())


def test_too_few_households(rows: dataset.RankerRows) -> None:
    """A handful of households is no training set."""
    with pytest.raises(NotEnoughData, match="needed 100000"):
        ranker.train(SMALL.model_copy(update={"min_households": 100_000}), rows)


def test_served_beats_frequency_next_month(trained: Ranker, rows: dataset.RankerRows) -> None:
    """On the four weeks after training, through rank(), the ranker beats popularity by far and is near frequency.

    300 households are few: the claim over decay + popularity is made on all 2,469 in docs/benchmarks.
    """
    w = world(UNTIL)
    artefacts = Artefacts.of(w.catalogue, w.models, {"all": trained})
    truth = dataset.truth_of(transactions(), UNTIL, UNTIL + timedelta(days=28))
    frame = evaluate.evaluate(artefacts, w.customers, truth, UNTIL, baselines=["frequency", "popularity"])
    means = evaluate.per_household(frame, "all").mean()
    assert means["served"] > means["popularity"] + 0.1
    assert means["served"] > means["frequency"] - 0.01
    assert means["served"] < 0.5, "too good: look for leakage"


def test_concatenate_keeps_groups(rows: dataset.RankerRows) -> None:
    """Two windows are one training set with all their groups."""
    both = dataset.concatenate([rows, rows])
    assert both.groups.size == 2 * rows.groups.size
    assert both.features.shape[0] == both.groups.sum()


@pytest.mark.parametrize("n", [3, 256, 5_000])
def test_the_best_rows_are_those_of_a_full_sort(n: int) -> None:
    """Best first, ties by row, whether most scores differ, are zero, or are out of the question."""
    rng = np.random.default_rng(n)
    dense = rng.random(n)
    sparse, masked = np.where(rng.random(n) < 0.99, 0.0, dense), np.where(rng.random(n) < 0.5, -np.inf, dense)
    for scores in (dense, np.round(dense, 2), sparse, np.zeros(n), masked):
        np.testing.assert_array_equal(evaluate._top(scores, 10), np.argsort(-scores, kind="stable")[:10])
