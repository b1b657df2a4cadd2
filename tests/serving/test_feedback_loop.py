"""From the shopper's click to the training set: through the gateway, extract, clean and the dataset."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from data_contracts.lake import as_of
from data_contracts.shop import load_shop
from feature_repo.ranker_features import COLUMN
from mercato import paths
from mercato.clock import start_shifted
from mercato.settings import Settings
from serving.gateway import Gateway
from tests.feature_repo.clean_sample import T
from tests.lake_maker import tree
from tests.serving.conftest import client_of, wait_ready
from training import feedback, jobs

SHOP = load_shop("complete_journey")


def shop_and_click(settings: Settings) -> tuple[str, list[str], datetime]:
    """A known household asks for five products and clicks on the second, sent twice; the answer and the time."""
    gateway = Gateway.open(settings)
    try:
        wait_ready(gateway)
        with client_of(gateway) as client:
            answer = client.post("/v1/recommend", json={"customer_id": "149", "n": 5}).json()
            products = [each["product_id"] for each in answer["results"]]
            click = {
                "event_id": "click-1", "type": "click", "customer_id": "149", "session_id": "s",
                "product_id": products[1], "request_id": answer["request_id"], "position": 2,
                "event_time": gateway.now().isoformat(),
            }  # fmt: skip
            counts = [client.post("/v1/events", json={"events": [click, click]}).json() for _ in range(2)]
        assert [(each["accepted"], each["duplicate"]) for each in counts] == [(1, 1), (0, 2)]
        return answer["request_id"], products, gateway.now()
    finally:
        gateway.close()


def test_an_event_posted_today_is_in_tomorrows_training_set_once(home: Path) -> None:
    """After extract, clean and the dataset, each run twice, the click is the label of one row, with what was served.

    The household is known by its key alone, and the ranker's features are the logged ones to the bit.
    """
    settings = Settings(home=home, clock="shifted")
    start_shifted(home / "clock.json", T + timedelta(hours=10), settings.shop)
    request_id, products, at = shop_and_click(settings)
    since, until = SHOP.day_bounds(SHOP.business_day(at))
    lake, config = paths.lake(settings), feedback.FeedbackConfig(min_feedback_rows=1)
    trees = []
    for _ in range(2):
        for table in feedback.READS:
            jobs.extract_table(settings, table, since, until)
            jobs.clean_table(settings, table, since, until)
        feedback.write(lake, config, until, feedback.outcomes(lake, config, until))
        trees.append(tree(lake))
    assert trees[0] == trees[1]
    frame = feedback.outcomes(lake, config, until)
    assert frame.column("product_id").to_pylist() == products
    assert frame.column("request_id").to_pylist() == [request_id] * 5
    assert frame.column("label").to_pylist() == [0, 1, 0, 0, 0]
    assert set(frame.column("customer_key").to_pylist()) == {"c149"}
    assert feedback.ranker_rows(frame, config, until) is None, "a purchase may follow yet"
    later = until + timedelta(days=config.window_days)
    rows = feedback.ranker_rows(feedback.outcomes(lake, config, later), config, later)
    assert rows is not None
    assert (rows.groups.tolist(), rows.labels.tolist(), rows.weights.tolist()) == ([5], [0, 1, 0, 0, 0], [1.0] * 5)
    assert np.isfinite(rows.features[:, COLUMN["product_n_7d"]]).all()
    clicks = as_of(lake, "interactions", event_before=until, known_before=until).to_pyarrow().to_pylist()
    assert [(each["event_id"], each["customer_key"], each["origin"]) for each in clicks] == [
        ("click-1", "c149", "real")
    ]
    raw = as_of(lake, "impressions", event_before=until, known_before=until).to_pyarrow().to_pylist()
    assert not [row for row in (*clicks, *raw) if "149" in map(str, row.values())], "a shop's own id got in"
