"""What the feature store refuses, and how it says so."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from data_contracts import partitions
from data_contracts.errors import CorruptFile
from feature_repo import config, store, writer
from feature_repo.errors import NoSnapshot, SnapshotMismatch, UnknownFeatureService
from feature_repo.views import SERVICES, VIEWS, View, service_columns, service_digest
from mercato.errors import BadSetting
from mercato.paths import Lake
from mercato.settings import Settings
from tests.feature_repo.clean_sample import DAY, WEEK, T, transactions

KNOWN = str(transactions()["customer_key"].iloc[0])
ENTITY = pd.DataFrame({"customer_key": ["c1"], "event_timestamp": [pd.Timestamp(T)]})


def rewrite(lake: Lake, view: View, change: Callable[[pa.Table], pa.Table]) -> None:
    """Put a changed snapshot of T in the place of the one that is there."""
    frame = change(writer.compute(lake, view, T))
    with partitions.writing(lake) as aside:
        writer.put(lake, aside, view, frame, T)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop_columns(["n_60d"]), "n_60d is missing (need list<element: int64>)"),
        (
            lambda t: t.set_column(1, "snapshot_at", t["snapshot_at"].cast(pa.string())),
            "snapshot_at is string (need int64)",
        ),
        (
            lambda t: t.set_column(
                t.num_columns - 1, "event_timestamp", t["event_timestamp"].cast(pa.timestamp("ns", tz="UTC"))
            ),
            "event_timestamp is timestamp[ns, tz=UTC] (need timestamp[us, tz=UTC])",
        ),
    ],
)
def test_a_snapshot_that_does_not_fit_its_view_is_named(
    online: Settings, lake: Lake, change: Callable[[pa.Table], pa.Table], said: str
) -> None:
    """A missing column or a wrong type says view, time, column, need and next step, offline and online."""
    rewrite(lake, VIEWS["customer_history"], change)
    said = said.replace("list<element: int64>", str(pa.list_(pa.int64())))
    for act in (
        lambda: store.materialize(online, T, T),
        lambda: store.historical(online, ENTITY, "ranker_all_v1"),
    ):
        with pytest.raises(SnapshotMismatch, match="run materialize_features") as caught:
            act()
        assert f"customer_history at {T.isoformat()}: {said}" in str(caught.value)


def test_a_snapshot_that_was_cut_short_is_refused(online: Settings, lake: Lake) -> None:
    """A file shorter than its manifest says is refused before it is parsed."""
    path = writer.written(lake, "customer_history")[0].path
    body = lake.read_bytes(path)
    lake.write_bytes(path, body[: len(body) // 2])
    with pytest.raises(CorruptFile, match="cut short"):
        store.materialize(online, T, T)


def test_a_window_without_snapshots_names_the_newest(online: Settings) -> None:
    """Materialising a window for which none was written names the newest that there is."""
    with pytest.raises(NoSnapshot, match=re.escape(f"the newest is of {(T + WEEK).isoformat()}")):
        store.materialize(online, T + 2 * WEEK, T + 3 * WEEK)


def test_a_backfill_does_not_give_customers_old_features_back(online: Settings, lake: Lake) -> None:
    """A view that is online up to a later time is left alone by a materialisation of an earlier one."""
    assert {done.at for done in store.materialize(online, T + WEEK, T + WEEK)} == {T + WEEK}
    assert store.materialize(online, T - DAY, T) == []


def test_of_several_snapshots_the_newest_goes_online(settings: Settings) -> None:
    """A window over two snapshots materialises the later one, each customer once."""
    store.apply(settings)
    assert {done.at for done in store.materialize(settings, T - DAY, T + WEEK)} == {T + WEEK}


def test_registering_again_keeps_what_is_online(online: Settings) -> None:
    """`apply` is idempotent: Feast still serves, and still knows what was materialised."""
    store.apply(online)
    feast = store.FeatureStore(config=config.repo_config(online))
    assert [end for _, end in feast.get_feature_view("customer_history").materialization_intervals] == [T]
    served = feast.get_online_features(["customer_history:snapshot_at"], [{"customer_key": KNOWN}]).to_dict()
    assert served["snapshot_at"] == [T.timestamp()]


def test_a_snapshot_time_inside_a_day_is_refused(lake: Lake) -> None:
    """Partitions are days: a T that is no local midnight would replace the day's snapshot."""
    with pytest.raises(SnapshotMismatch, match=r"midnight in America/New_York, e\.g\. 2017-12-04 05:00"):
        writer.write_snapshots(lake, T + timedelta(hours=5), views=["customer_profile"])


@pytest.mark.parametrize(
    ("entity", "said"),
    [
        (ENTITY.drop(columns="customer_key"), "needs event_timestamp and customer_key or product_id"),
        (ENTITY.drop(columns="event_timestamp"), "needs event_timestamp and customer_key or product_id"),
        (ENTITY.assign(event_timestamp=pd.Timestamp("2017-12-04")), "need times with a zone"),
    ],
)
def test_an_entity_frame_that_cannot_be_joined_is_named(settings: Settings, entity: Any, said: str) -> None:
    """Missing keys, a missing time and times without a zone each say what is needed."""
    with pytest.raises(SnapshotMismatch, match=said):
        store.historical(settings, entity, "ranker_all_v1")


def test_an_unknown_service_names_the_known_ones(settings: Settings) -> None:
    """A misspelt feature service is answered with the list of services."""
    with pytest.raises(UnknownFeatureService, match="need one of als_v1"):
        store.historical(settings, ENTITY, "ranker_v9")


def test_feast_knows_each_service_by_its_digest(online: Settings) -> None:
    """Every service is registered with exactly its features, and tagged with the digest that a release states."""
    feast = store.FeatureStore(config=config.repo_config(online))
    for name in SERVICES:
        service = feast.get_feature_service(name)
        found = {p.name: [field.name for field in p.features] for p in service.feature_view_projections}
        assert found == {view: list(columns) for view, columns in service_columns(name).items()}
        assert service.tags["digest"] == service_digest(name)


def test_digests_tell_services_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Services of different names or features differ in their digest; another type of one feature changes it."""
    before = {name: service_digest(name) for name in SERVICES}
    assert len(set(before.values())) == len(SERVICES)
    monkeypatch.setitem(VIEWS["customer_profile"].columns, "n_baskets", "Float32")  # type: ignore[arg-type]
    assert {name for name in SERVICES if service_digest(name) != before[name]} == {"ranker_all_v1", "ranker_novel_v1"}


def test_no_two_views_of_a_service_share_a_feature_name() -> None:
    """One customer's row joins several views, so a name twice would hide one of them."""
    for name in SERVICES:
        features = [feature for columns in service_columns(name).values() for feature in columns]
        assert len(features) == len(set(features))


def test_an_online_url_of_another_kind_is_refused() -> None:
    """Only stores that exist can be named."""
    with pytest.raises(BadSetting, match="need sqlite:///PATH or redis://HOST:PORT"):
        config.online_store("mysql://host/db")
