"""A run's window: where it comes from, in which order, and what happens without one."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pendulum
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dags.windows import Run, Window, only_backfills, until_of, window_of
from data_contracts.errors import NoWindow
from data_contracts.shop import load_shop

SHOP = load_shop("complete_journey")
A = datetime(2017, 12, 3, 5, tzinfo=UTC)
B = datetime(2017, 12, 4, 5, tzinfo=UTC)
instants = st.datetimes(datetime(2016, 1, 1), datetime(2018, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
days = st.dates(date(2016, 1, 1), date(2018, 12, 31))


def test_params_come_first() -> None:
    """Since and until of the params win over every other source."""
    params = {"since": "2017-01-01T05:00:00Z", "until": "2017-02-01T00:00:00-05:00"}
    run = Run("scheduled", params, (A, B), "2017-12-03", ({"since": A.isoformat(), "until": B.isoformat()},))
    expected = Window(datetime(2017, 1, 1, 5, tzinfo=UTC), datetime(2017, 2, 1, 5, tzinfo=UTC))
    assert window_of(run, SHOP) == expected
    assert until_of(run, SHOP) == expected.until


@pytest.mark.parametrize("run_type", ["scheduled", "backfill"])
def test_timed_runs_use_their_data_interval(run_type: str) -> None:
    """A scheduled or backfill run works on its data interval."""
    assert window_of(Run(run_type, {"since": None, "until": None}, (A, B)), SHOP) == Window(A, B)


def test_a_window_can_be_reckoned_with() -> None:
    """Airflow's own times lose their zone when a timedelta is taken from them; those of a window keep it."""
    edges = (pendulum.instance(A), pendulum.instance(B))
    for run in (Run("backfill", {}, edges), Run("manual", {"since": edges[0], "until": edges[1]})):
        window = window_of(run, SHOP)
        assert (window.since - timedelta(hours=1), window.until) == (A - timedelta(hours=1), B)


@pytest.mark.parametrize("run_type", ["manual", "operator_triggered", "asset_triggered"])
def test_other_runs_do_not_use_an_inferred_interval(run_type: str) -> None:
    """The interval of a manual run is inferred from the clock, so it is not read: the run fails."""
    with pytest.raises(NoWindow, match="carries no window; trigger it with since and until"):
        window_of(Run(run_type, {}, (A, B)), SHOP)


def test_half_a_window_is_none() -> None:
    """Since without until, or until without since, is refused where both are needed."""
    with pytest.raises(NoWindow, match="found only since"):
        window_of(Run("manual", {"since": "2017-01-01T00:00:00Z"}), SHOP)
    with pytest.raises(NoWindow, match="found only until"):
        window_of(Run("scheduled", {"until": "2017-01-01T00:00:00Z"}, (A, B)), SHOP)


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"since": "2017-12-03", "until": "2017-12-04"}, "without an offset"),
        ({"since": "yesterday", "until": "2017-12-04T00:00:00Z"}, "need a time like"),
        ({"since": "2017-12-04T00:00:00Z", "until": "2017-12-03T00:00:00Z"}, "not before until"),
        ({"since": "2017-12-04T00:00:00Z", "until": "2017-12-04T00:00:00Z"}, "not before until"),
    ],
)
def test_a_bad_window_says_what_is_wrong(params: dict[str, str], says: str) -> None:
    """Naive, unreadable, empty and reversed windows are refused with the reason."""
    with pytest.raises(NoWindow, match=says):
        window_of(Run("manual", params), SHOP)


def test_until_alone_is_enough_for_one_instant() -> None:
    """What is computed as of one instant needs no since."""
    assert until_of(Run("manual", {"until": "2017-12-04T05:00:00Z"}), SHOP) == B


@given(day=days)
def test_a_partition_key_is_a_business_day(day: date) -> None:
    """A partition key is the shop's day, local midnight to local midnight: 23, 24 or 25 hours, tiling time."""
    this, following = (
        window_of(Run("asset_triggered", partition_key=each.isoformat()), SHOP)
        for each in (day, day + timedelta(days=1))
    )
    assert this.until == following.since
    assert this.until - this.since in {timedelta(hours=hours) for hours in (23, 24, 25)}
    assert this.since.astimezone(SHOP.tz).date() == day
    assert (this.until - timedelta(microseconds=1)).astimezone(SHOP.tz).date() == day


def test_days_when_the_clocks_change() -> None:
    """2017-03-12 has 23 hours in New York, 2017-11-05 has 25."""
    spring, autumn = (window_of(Run("x", partition_key=day), SHOP) for day in ("2017-03-12", "2017-11-05"))
    assert spring.until - spring.since == timedelta(hours=23)
    assert autumn.until - autumn.since == timedelta(hours=25)


def test_a_partition_key_must_be_a_day() -> None:
    """Another key names the form that is needed."""
    with pytest.raises(NoWindow, match="need a business day like"):
        window_of(Run("x", partition_key="week 49"), SHOP)


@given(ends=st.lists(instants, min_size=1, max_size=8))
def test_asset_events_give_the_newest_window(ends: list[datetime]) -> None:
    """However many events started a run, it works on the newest window among them."""
    events = tuple({"since": (end - timedelta(days=1)).isoformat(), "until": end.isoformat()} for end in ends)
    run = Run("asset_triggered", events=events)
    assert window_of(run, SHOP) == Window(max(ends) - timedelta(days=1), max(ends))
    assert until_of(run, SHOP) == max(ends)


def test_backfill_events_are_no_news() -> None:
    """A run started by backfill events alone has no window and says that it is one of these; with news, news win."""
    old = {"since": None, "until": B.isoformat(), "backfill": True}
    new = {"since": None, "until": A.isoformat(), "backfill": False}
    assert only_backfills(Run("asset_triggered", events=(old,)))
    assert not only_backfills(Run("asset_triggered", events=(old, new)))
    assert not only_backfills(Run("manual", {"until": A.isoformat()}))
    assert until_of(Run("asset_triggered", events=(old, new)), SHOP) == A
    with pytest.raises(NoWindow):
        until_of(Run("asset_triggered", events=(old,)), SHOP)


@given(since=instants, until=instants)
def test_windows_are_half_open_utc_and_ordered(since: datetime, until: datetime) -> None:
    """Any accepted window is UTC with since < until; anything else is refused."""
    run = Run("manual", {"since": since.astimezone(SHOP.tz).isoformat(), "until": until.isoformat()})
    if since < until:
        window = window_of(run, SHOP)
        assert (window.since, window.until) == (since, until)
        assert window.since.tzinfo is UTC
    else:
        with pytest.raises(NoWindow):
            window_of(run, SHOP)


@given(first=days, n=st.integers(1, 20))
def test_days_partition_a_longer_window(first: date, n: int) -> None:
    """The windows of n days in a row tile the window of the whole span: no instant is lost or comes twice."""
    windows = [window_of(Run("x", partition_key=str(first + timedelta(days=i))), SHOP) for i in range(n)]
    assert all(left.until == right.since for left, right in pairwise(windows))
    assert (windows[0].since, windows[-1].until) == (SHOP.day_start(first), SHOP.day_start(first + timedelta(days=n)))
