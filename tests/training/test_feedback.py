"""The loop closes: our own logs are sources, and what was shown becomes rows that a ranker learns from."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data_contracts.contract import load_contract
from data_contracts.errors import TableRuleBroken
from data_contracts.lake import arrow_schema, as_of
from data_contracts.partitions import manifests
from data_contracts.shop import load_shop, own_tables
from feature_repo.ranker_features import COLUMN, FEATURE_NAMES
from mercato import paths
from mercato.clock import frozen
from mercato.settings import Settings
from mercato.stores.events import EventLog, EventRow, microseconds
from mercato.stores.impressions import impressions_url
from serving.impressions import Impression, ImpressionLog
from tests.lake_maker import tree
from training import feedback, jobs, ranker
from training.dataset import RankerRows, concatenate
from training.feedback import FeedbackConfig

SHOP = load_shop("complete_journey")
DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)
MIDNIGHT = datetime(2017, 12, 4, 5, tzinfo=UTC)
"""Local midnight of a Monday in New York."""
NOON = MIDNIGHT + DAY / 2
ANY = FeedbackConfig(min_feedback_rows=1)


def event(event_id: str, at: datetime = NOON, **changes: object) -> EventRow:
    """A click on the product p1 of the answer r1."""
    row: dict[str, object] = {
        "event_id": event_id, "type": "click", "customer_key": "c1", "session_id": "s", "product_id": "p1",
        "request_id": "r1", "position": 1, "quantity": None, "price_minor": None, "event_time": microseconds(at),
        "origin": "real", "release_id": None, "propensity": None,
    }  # fmt: skip
    return EventRow(**(row | changes))  # type: ignore[arg-type]


def post(settings: Settings, *rows: EventRow, at: datetime = NOON) -> None:
    """The log takes `rows` at the instant `at`."""
    log = EventLog(settings.events(), frozen(at))
    log.append(rows).result(10)
    log.close()


def show(settings: Settings, at: datetime = NOON, request_id: str = "r1", **changes: object) -> None:
    """The gateway shows p1, p2 and p3 at the instant `at`."""
    answer: dict[str, Any] = {
        "request_id": request_id, "surface": "recommend", "release_id": "rel", "arm": "champion", "customer_key": "c1",
        "session_id": "s", "known_at": microseconds(at), "product_ids": ["p1", "p2", "p3"], "scores": [3.0, 2.0, 1.0],
        "features": features(3), "feature_names": FEATURE_NAMES,
    }  # fmt: skip
    log = ImpressionLog(impressions_url(settings))
    log.write(Impression(**(answer | changes)))
    log.close()


def features(n: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Rows that differ; the second product and every third after it was bought before."""
    values = np.arange(n * len(FEATURE_NAMES), dtype=np.float32).reshape(n, -1)
    values[:, COLUMN["n_purchases"]] = np.arange(n) % 3 == 1
    values[0, COLUMN["als_score"]] = np.nan
    return values


def load(settings: Settings, since: datetime = MIDNIGHT, days: int = 1) -> None:
    """What the nightly runs of `days` days do with both logs."""
    for table in feedback.READS:
        jobs.extract_table(settings, table, since, since + days * DAY)
        jobs.clean_table(settings, table, since, since + days * DAY)


def outcomes(settings: Settings, until: datetime, config: FeedbackConfig = ANY) -> dict[tuple[str, int], Any]:
    """(request, position) -> label."""
    rows = feedback.outcomes(paths.lake(settings), config, until).to_pylist()
    found = {(row["request_id"], row["position"]): row["label"] for row in rows}
    assert len(found) == len(rows)
    return found


def write(settings: Settings, until: datetime, config: FeedbackConfig = ANY) -> feedback.FeedbackReport:
    """The dataset as of `until`."""
    lake = paths.lake(settings)
    return feedback.write(lake, config, until, feedback.outcomes(lake, config, until))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A home of its own."""
    return Settings(home=tmp_path)


def test_every_shop_has_the_logs_without_saying_so() -> None:
    """Both tables stand after the shop's own, fit their contracts and need no other table first."""
    assert list(SHOP.tables)[-2:] == list(own_tables()) == ["interactions", "impressions"]
    for table, spec in own_tables().items():
        assert load_contract(table).references == []
        assert not [rule for rule in spec.mapping.values() if rule.identity], "the log holds no shop's id"
        assert set(spec.mapping) | {"event_time", "known_at"} == {each.name for each in load_contract(table).columns}


def test_an_empty_log_is_a_green_run(settings: Settings) -> None:
    """Without a single event both tables extract and clean, nothing is written, and there is no feedback."""
    load(settings)
    assert outcomes(settings, MIDNIGHT + DAY) == {}
    written = write(settings, MIDNIGHT + DAY)
    assert (written.rows, written.days) == (0, 0)
    assert paths.lake(settings).fs.glob(paths.lake(settings).path("*", "*", "ds=*")) == []
    assert not list(settings.root.glob("*.db-wal")), "reading makes no log"


def test_an_event_is_in_once_however_often_it_comes(settings: Settings) -> None:
    """Delivered twice and extracted twice, an event is one row; the second extraction changes no byte."""
    post(settings, event("e1"), event("e1"), event("e2", product_id="p2"))
    post(settings, event("e1"), at=NOON + DAY)
    show(settings)
    load(settings, days=2)
    lake = paths.lake(settings)
    once = tree(lake)
    load(settings, days=2)
    assert tree(lake) == once
    until = MIDNIGHT + 2 * DAY
    rows = as_of(lake, "interactions", event_before=until, known_before=until).order_by("event_id").to_pyarrow()
    assert rows["event_id"].to_pylist() == ["e1", "e2"]
    assert outcomes(settings, until) == {("r1", 1): 1, ("r1", 2): 1, ("r1", 3): 0}


def test_an_event_belongs_to_the_day_on_which_it_became_durable(settings: Settings) -> None:
    """The last microsecond of a day and the first of the next are in different partitions, each once."""
    post(settings, event("last"), at=MIDNIGHT + DAY - TICK)
    post(settings, event("first"), at=MIDNIGHT + DAY)
    load(settings)
    load(settings, MIDNIGHT + DAY)
    lake = paths.lake(settings)
    found = {each.ds.isoformat(): each.rows for each in manifests(lake, "clean", "interactions")}
    assert found == {"2017-12-04": 1, "2017-12-05": 1}


def test_what_is_written_after_midnight_for_the_day_before_is_in_once(settings: Settings) -> None:
    """An event stamped 23:59:45 by a clock that is behind, and an answer of 23:50 that was written late: neither was
    there when the day was extracted, and the next night takes both, known from midnight on; once, whatever runs again.
    """
    midnight = MIDNIGHT + DAY
    load(settings)
    post(settings, event("behind"), at=midnight - timedelta(seconds=15))
    show(settings, at=midnight - timedelta(minutes=10))
    for day in (midnight, midnight, MIDNIGHT):
        load(settings, day)
    lake = paths.lake(settings)
    until = midnight + DAY
    for table, n in (("interactions", 1), ("impressions", 3)):
        assert {each.ds.isoformat(): each.rows for each in manifests(lake, "clean", table)} == {"2017-12-05": n}
        rows = as_of(lake, table, event_before=until, known_before=until).to_pyarrow()
        assert rows["known_at"].to_pylist() == [midnight] * n
    assert outcomes(settings, until) == {("r1", 1): 1, ("r1", 2): 0, ("r1", 3): 0}


def test_a_day_extracted_before_it_was_over_is_completed(settings: Settings, tmp_path: Path) -> None:
    """Events that arrive after a first extraction are added, and the lake is the one that a single run leaves."""
    other = Settings(home=tmp_path / "other", events_url=settings.events())
    post(settings, event("e1"))
    load(settings)
    post(settings, event("e2"), at=NOON + timedelta(hours=1))
    load(settings)
    load(other)
    assert tree(paths.lake(settings)) == tree(paths.lake(other))
    assert [each.rows for each in manifests(paths.lake(settings), "clean", "interactions")] == [2]


def test_simulated_requests_are_out(settings: Settings) -> None:
    """What a simulation saw and did is no feedback; replayed events are."""
    show(settings)
    show(settings, request_id="r2")
    post(settings, event("e1", origin="simulated"), event("e2", origin="replayed", request_id="r2"))
    load(settings)
    assert outcomes(settings, MIDNIGHT + DAY) == {("r2", 1): 1, ("r2", 2): 0, ("r2", 3): 0}


def test_an_outcome_counts_within_the_window_only(settings: Settings) -> None:
    """Shown at noon with a window of 2 days: a click a microsecond before noon two days later counts, at noon not."""
    show(settings)
    late = NOON + 2 * DAY
    post(settings, event("in", late - TICK), event("out", late, product_id="p2"), at=late)
    post(settings, event("slow clock", NOON - timedelta(hours=1), product_id="p3"), at=late)
    load(settings, days=3)
    config = FeedbackConfig(window_days=2)
    assert outcomes(settings, MIDNIGHT + 3 * DAY, config) == {("r1", 1): 1, ("r1", 2): 0, ("r1", 3): 1}


def test_nothing_known_after_until_is_seen(settings: Settings) -> None:
    """A click of today that becomes known tomorrow is not in a training set as of tonight, but in tomorrow's."""
    show(settings)
    show(settings, MIDNIGHT + DAY - timedelta(minutes=5), request_id="r2")
    post(settings, event("e1"), at=MIDNIGHT + DAY)
    load(settings, days=2)
    assert outcomes(settings, MIDNIGHT + DAY) == {("r1", 1): 0, ("r1", 2): 0, ("r1", 3): 0}
    rows = feedback.outcomes(paths.lake(settings), ANY, MIDNIGHT + 8 * DAY).to_pylist()
    first = next(row for row in rows if (row["request_id"], row["position"]) == ("r1", 1))
    assert (first["label"], first["outcome"], first["known_at"]) == (1, "click", MIDNIGHT + DAY)
    assert [row["settled"] for row in rows if row["position"] == 1] == [True, True]
    assert not any(
        row["settled"] for row in feedback.outcomes(paths.lake(settings), ANY, MIDNIGHT + 2 * DAY).to_pylist()
    )


def test_the_furthest_outcome_is_the_label(settings: Settings) -> None:
    """Click 1, cart 2, purchase 3; a view, another product and another request are none."""
    show(settings)
    steps = [event(kind, type=kind) for kind in ("click", "cart", "purchase", "view")]
    others = [event("e1", product_id="p2", type="view"), event("e2", product_id="p9"), event("e3", request_id="r9")]
    post(settings, *steps, *others, event("e4", request_id=None), event("e5", product_id="p3", type="cart"))
    load(settings)
    assert outcomes(settings, MIDNIGHT + DAY) == {("r1", 1): 3, ("r1", 2): 0, ("r1", 3): 2}


def test_a_version_is_written_once_and_the_same_again(settings: Settings) -> None:
    """The dataset of one instant has the same bytes each time; other settings are another version."""
    show(settings)
    post(settings, event("e1"))
    load(settings)
    lake = paths.lake(settings)
    first = write(settings, MIDNIGHT + DAY)
    assert (first.rows, first.outcomes, first.days) == (3, 1, 1)
    once = tree(lake)
    assert write(settings, MIDNIGHT + DAY) == first
    assert feedback.recorded(lake, ANY, MIDNIGHT + DAY) == first.sha256
    assert tree(lake) == once
    (found,) = manifests(lake, "datasets", f"{feedback.DATASET}/{first.version}")
    assert (found.contract, set(found.inputs)) == ("impression_outcomes@1.0.0", {*feedback.READS, "config"})
    assert write(settings, MIDNIGHT + DAY, FeedbackConfig(window_days=1)).version != first.version


def shown(propensity: list[float], label: list[int], **changes: list[object]) -> pa.Table:
    """Outcomes of one request."""
    n = len(label)
    columns: dict[str, list[object]] = {
        "request_id": ["r1"] * n, "position": list(range(1, n + 1)), "product_id": [f"p{i}" for i in range(n)],
        "customer_key": ["c1"] * n, "surface": ["recommend"] * n, "release_id": ["rel"] * n, "propensity": propensity,
        "features": [row.tobytes().hex() for row in features(n)], "feature_set": [feedback.FEATURE_SET] * n,
        "outcome": [None] * n, "label": label, "settled": [True] * n, "event_time": [NOON] * n, "known_at": [NOON] * n,
    }  # fmt: skip
    return pa.table(columns | changes)


def test_rows_that_break_the_contract_are_not_written(settings: Settings) -> None:
    """A propensity of 0, a label of 4 and a missing key stop the build: counts by rule, keys as examples, no file."""
    lake = paths.lake(settings)
    bad = shown([0.0, 0.5, 0.5], [0, 4, 1], request_id=["r1", "r2", None])
    bad = bad.cast(arrow_schema(feedback.contract()))
    with pytest.raises(TableRuleBroken, match="of 3 rows 3 break a rule") as raised:
        feedback.write(lake, ANY, MIDNIGHT, bad)
    for said in ("propensity_valid 1", "label_valid 1", "request_id_missing 1", "'request_id': 'r2'"):
        assert said in str(raised.value)
    twice = pa.concat_tables([shown([0.5], [1]).cast(bad.schema)] * 2)
    with pytest.raises(TableRuleBroken, match="1 repeat a key"):
        feedback.write(lake, ANY, MIDNIGHT, twice)
    assert not tree(lake)


def test_rows_are_weighted_by_propensity_and_read_what_was_logged(settings: Settings) -> None:
    """Shown with probability 1, 1/2 and 1/100 a row counts 1, 2 and, clipped, 20; the group is the request."""
    rows = feedback.ranker_rows(shown([1.0, 0.5, 0.01], [0, 3, 0]), ANY, MIDNIGHT + DAY)
    assert rows is not None
    assert rows.weights.tolist() == [1.0, 2.0, 20.0]
    assert (rows.groups.tolist(), rows.labels.tolist(), rows.seen.tolist()) == ([3], [0, 3, 0], [False, True, False])
    np.testing.assert_array_equal(rows.features, features(3))
    assert (rows.since, rows.until) == (NOON, MIDNIGHT + DAY)


def test_rows_that_teach_nothing_are_left_out() -> None:
    """Requests without an outcome or not settled, other surfaces, features of another release are not learned from."""
    requests = shown([1.0] * 4, [1, 0, 0, 0], request_id=["r2", "r2", "r1", "r1"])
    rows = feedback.ranker_rows(requests, ANY, MIDNIGHT + DAY)
    assert rows is not None
    assert rows.groups.tolist() == [2]
    for others in ({"surface": ["search"] * 2}, {"feature_set": ["0" * 16] * 2}, {"feature_set": [None] * 2},
                   {"settled": [False] * 2}):  # fmt: skip
        assert feedback.ranker_rows(shown([1.0, 1.0], [1, 0], **others), ANY, MIDNIGHT + DAY) is None


def test_few_outcomes_change_no_ranker() -> None:
    """Below `min_feedback_rows` products that led to something there are no rows; the default asks for 1,000."""
    two = shown([1.0] * 3, [1, 2, 0])
    assert feedback.ranker_rows(two, FeedbackConfig(min_feedback_rows=3), MIDNIGHT + DAY) is None
    assert feedback.ranker_rows(two, FeedbackConfig(min_feedback_rows=2), MIDNIGHT + DAY) is not None
    assert feedback.ranker_rows(two, FeedbackConfig(), MIDNIGHT + DAY) is None


def test_rankers_learn_from_history_first_then_from_feedback() -> None:
    """Rows of purchases come first and count 1; `novel` gets the products never bought before, with their weights."""
    history = feedback.ranker_rows(shown([1.0] * 4, [1, 0, 1, 0]), ANY, MIDNIGHT + DAY)
    fed = feedback.ranker_rows(shown([0.5, 1.0, 0.25], [0, 3, 1]), ANY, MIDNIGHT + 2 * DAY)
    assert history is not None
    both = feedback.joined({"all": history, "novel": history}, fed)
    assert both["all"].weights.tolist() == [1.0] * 4 + [2.0, 1.0, 4.0]
    assert both["novel"].weights.tolist() == [1.0] * 4 + [2.0, 4.0]
    assert [each.groups.tolist() for each in both.values()] == [[4, 3], [4, 2]]
    assert both["all"].until == MIDNIGHT + 2 * DAY
    assert feedback.joined({"all": history}, None) == {"all": history}


def test_a_weight_changes_the_model_and_the_same_weights_do_not() -> None:
    """LightGBM gets the weights: rarely shown rows that count more give another ranker, byte for byte reproducible."""
    config = ranker.RankerConfig(trees=5, leaves=4, min_data=5, min_households=2, threads=1)
    random = np.random.default_rng(0)
    values = random.normal(size=(400, len(FEATURE_NAMES))).astype(np.float32)
    labels = (values[:, 0] + random.normal(size=400) > 1).astype(np.uint8)
    flat = RankerRows(
        values, labels, labels > 1, np.full(20, 20), NOON, NOON + DAY, (int(labels.sum()), 0), np.ones(400, np.float32)
    )
    fed = feedback.ranker_rows(shown([0.1, 1.0, 0.2, 1.0], [1, 0, 3, 0]), ANY, NOON + DAY)
    assert fed is not None
    rows = concatenate([flat, fed])
    even = concatenate([flat, RankerRows(**{name: getattr(fed, name) for name in _FIELDS}, weights=fed.weights**0)])
    weighted, again, unweighted = (ranker.train(config, each).model for each in (rows, rows, even))
    assert weighted == again
    assert weighted != unweighted


_FIELDS = ("features", "labels", "seen", "groups", "since", "until", "relevant")
