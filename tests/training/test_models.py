"""Every retrieval model keeps the same contract."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from data_contracts.errors import ArtefactRefused
from serving.runtime.models import MODELS
from tests.training.sample import SINCE, UNTIL, products, transactions, world
from training import als, copurchase, dataset, ease, knn, product_features
from training.errors import BadConfig, NotEnoughData
from training.metrics import all_metrics


def quality(model: Any) -> float:
    """NDCG@10 of a model alone over the households that bought in weeks 46 to 49; history may be shown again."""
    truth = dataset.truth_of(transactions(), SINCE, UNTIL)
    index = {p: i for i, p in enumerate(model.item_ids)}
    values = []
    for key, customer in world(SINCE).customers.items():
        if key not in truth:
            continue
        known = [(index[p], w) for p, w in zip(customer.product_ids, customer.decayed_90d, strict=True) if p in index]
        items, weights = np.array([i for i, _ in known], int), np.array([w for _, w in known], np.float32)
        served = np.argsort(-model.scores(items, weights), kind="stable")[:10]
        relevant = np.array([index.get(p, -1 - n) for n, p in enumerate(truth[key])])
        values.append(all_metrics(served, relevant)[0])
    return float(np.mean(values))


class ModelContract:
    """Rules of every retrieval model; a subclass names the module, the config and the floor."""

    name: str
    module: Any
    config: Any
    floor: float

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls) -> Any:
        return cls.module.fit(cls.config, transactions(), SINCE)

    def test_same_input_leaves_the_same_bytes(self, model: Any, tmp_path: Path) -> None:
        """Fitting twice on the same purchases, in another row order, writes identical files."""
        shuffled = transactions().sample(frac=1.0, random_state=1)
        first = model.save(tmp_path / "a.npz").read_bytes()
        assert self.module.fit(self.config, shuffled, SINCE).save(tmp_path / "b.npz").read_bytes() == first

    def test_round_trip(self, model: Any, tmp_path: Path) -> None:
        """A loaded model scores as the saved one, and saves the same bytes again."""
        path = model.save(tmp_path / "a.npz")
        loaded = MODELS[self.name].load(path)
        items, weights = np.arange(5), np.ones(5, np.float32)
        np.testing.assert_array_equal(loaded.scores(items, weights), model.scores(items, weights))
        assert list(loaded.item_ids) == list(model.item_ids)
        assert loaded.save(tmp_path / "b.npz").read_bytes() == path.read_bytes()

    def test_unknown_customer(self, model: Any) -> None:
        """Without a history every score is zero: nothing is known, nothing fails."""
        scores = model.scores(np.empty(0, int), np.empty(0, np.float32))
        assert scores.shape == (len(model.item_ids),)
        assert not scores.any()

    def test_future_is_not_read(self, model: Any, tmp_path: Path) -> None:
        """Purchases at or after `until` change no byte, and fit_until says where the data end."""
        past = transactions()[transactions()["event_time"] < SINCE]
        again = self.module.fit(self.config, past, SINCE)
        assert again.save(tmp_path / "a.npz").read_bytes() == model.save(tmp_path / "b.npz").read_bytes()
        assert model.meta["fit_until"] == SINCE.isoformat()

    def test_no_customer_key_inside(self, model: Any, tmp_path: Path) -> None:
        """The artefact holds no customer key: forgetting a customer needs no new model file."""
        with np.load(model.save(tmp_path / "a.npz"), allow_pickle=False) as archive:
            texts = [archive[n].tobytes() for n in archive.files if archive[n].dtype == np.uint8]
        assert not any(b"c1004" in t or b"customer" in t for t in texts)

    def test_empty_input(self) -> None:
        """No purchase before `until` is refused with what was found."""
        with pytest.raises(NotEnoughData, match="found no purchase"):
            self.module.fit(self.config, transactions(), SINCE - timedelta(days=4000))

    def test_missing_column(self) -> None:
        """A frame without a needed column is refused by name."""
        with pytest.raises(BadConfig, match="basket_id"):
            self.module.fit(self.config, pd.DataFrame({"customer_key": [], "product_id": [], "event_time": []}), SINCE)

    def test_other_kind_is_refused(self, tmp_path: Path) -> None:
        """A file of another kind, or no archive at all, is refused by name."""
        (tmp_path / "x.npz").write_bytes(b"PK not an archive")
        with pytest.raises(ArtefactRefused, match=r"x\.npz"):
            MODELS[self.name].load(tmp_path / "x.npz")

    def test_quality_floor(self, model: Any) -> None:
        """On real households the model beats its floor, which lies above popularity."""
        assert quality(model) > self.floor


class TestALS(ModelContract):
    name, module, config, floor = "als", als, als.ALSConfig(embedding_size=16, epochs=5), 0.2


class TestEASE(ModelContract):
    name, module, config, floor = "ease", ease, ease.EASEConfig(items=1000), 0.2


class TestUserKNN(ModelContract):
    name, module, config, floor = "user_knn", knn, knn.KNNConfig(k=50), 0.18


class TestCoPurchase(ModelContract):
    name, module, config, floor = "co_purchase", copurchase, copurchase.CoPurchaseConfig(min_baskets=5), 0.1


def three_baskets() -> pd.DataFrame:
    """Bread and butter share two of three baskets; milk is bought once, with bread."""
    rows = [("a", "1", "bread"), ("a", "1", "butter"), ("b", "2", "bread"), ("b", "2", "butter"), ("b", "3", "bread")]
    rows.append(("b", "3", "milk"))
    frame = pd.DataFrame(rows, columns=["customer_key", "basket_id", "product_id"])
    return frame.assign(event_time=pd.Timestamp("2017-01-02", tz="UTC"))


def test_a_list_price_is_shown_where_there_is_one() -> None:
    """What a product was sold for on average is its price only where the source lists none."""
    sold = world(SINCE).stats.set_index("product_id")["price_minor"]
    dear, plain = sold[sold > 0].index[:2]
    listed = products()["product_id"].map({dear: int(sold[dear]) + 100}).astype("Int64")
    made = product_features.fit(products().assign(list_price_minor=listed), world(SINCE).stats, SINCE)
    prices = made.stats["price_minor"]
    assert prices[made.index[dear]] == sold[dear] + 100
    assert prices[made.index[plain]] == sold[plain]


def test_co_purchase_by_hand() -> None:
    """bread-butter: 2 / (sqrt(3 * 2) + 1); bread-milk: 1 / (sqrt(3 * 1) + 1)."""
    config = copurchase.CoPurchaseConfig(min_baskets=1, shrinkage=1.0, lookback_days=365)
    model = copurchase.fit(config, three_baskets(), pd.Timestamp("2017-02-01", tz="UTC").to_pydatetime())
    assert list(model.item_ids) == ["bread", "butter", "milk"]
    scores = model.scores(np.array([0]), np.ones(1, np.float32))
    np.testing.assert_allclose(scores, [0, 2 / (np.sqrt(6) + 1), 1 / (np.sqrt(3) + 1)], rtol=1e-6)


def test_ease_by_hand() -> None:
    """Two items bought by the same two households with weight w: B = w^2 * 2 / (w^2 * 2 + reg)."""
    frame = three_baskets().query("product_id != 'milk' and basket_id != '3'")
    frame = frame.assign(event_time=pd.Timestamp("2017-01-31 23:59:59.999999", tz="UTC"))
    model = ease.fit(
        ease.EASEConfig(reg=2.0, min_households=1), frame, pd.Timestamp("2017-02-01", tz="UTC").to_pydatetime()
    )
    w = np.log1p(1.0)
    scores = model.scores(np.array([0]), np.ones(1, np.float32))
    np.testing.assert_allclose(scores, [0.0, 2 * w**2 / (2 * w**2 + 2.0)], rtol=1e-4)
