"""A shop's YAML: typos are named, business days follow the shop's own clock."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.errors import BadShop, NoWindow
from data_contracts.shop import SHOPS, Shop, load_shop
from data_contracts.sources import Csv, Files

SHOP = load_shop("complete_journey")
INSTANTS = st.datetimes(datetime(2016, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
DAYS = st.dates(date(2016, 1, 1), date(2030, 1, 1))


@given(INSTANTS)
def test_every_instant_lies_in_exactly_its_business_day(instant: datetime) -> None:
    """Since <= instant < until of its own day, and the day's bounds map back to the day and the next one."""
    day = SHOP.business_day(instant)
    since, until = SHOP.day_bounds(day)
    assert since <= instant < until
    assert (SHOP.business_day(since), SHOP.business_day(until)) == (day, day + timedelta(days=1))


@given(DAYS, st.integers(1, 30))
def test_days_tile_a_window(first: date, n: int) -> None:
    """Days in a row have no gap and no overlap, whatever the clocks do."""
    since, until = SHOP.day_start(first), SHOP.day_start(first + timedelta(days=n))
    days = SHOP.whole_days(since, until)
    bounds = [SHOP.day_bounds(day) for day in days]
    assert len(days) == n
    assert (bounds[0][0], bounds[-1][1]) == (since, until)
    assert all(one[1] == two[0] for one, two in pairwise(bounds))


@pytest.mark.parametrize(("day", "hours"), [("2017-03-12", 23), ("2017-11-05", 25), ("2017-06-01", 24)])
def test_the_day_on_which_clocks_change(day: str, hours: int) -> None:
    """New York's days have 23 hours in spring, 25 in autumn."""
    since, until = SHOP.day_bounds(date.fromisoformat(day))
    assert until - since == timedelta(hours=hours)


def test_week_fifty_begins_where_the_demo_stands() -> None:
    """Week 1 begins on Monday 2016-12-26, so week 50 is 49 weeks later: 2017-12-04 05:00 UTC."""
    assert SHOP.week_start(1) == datetime(2016, 12, 26, 5, tzinfo=UTC)
    assert SHOP.week_start(50) == datetime(2017, 12, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize("shift", [(timedelta(hours=1), timedelta()), (timedelta(), timedelta(hours=1))])
def test_a_window_of_broken_days_is_refused(shift: tuple[timedelta, timedelta]) -> None:
    """Partitions are whole days; the message proposes a window that would do."""
    since, until = SHOP.day_bounds(date(2017, 6, 1))
    with pytest.raises(NoWindow, match=r"2017-06-01 04:00:00\+00:00"):
        SHOP.whole_days(since + shift[0], until + shift[1])
    with pytest.raises(NoWindow, match="naive"):
        SHOP.business_day(datetime(2017, 6, 1))  # noqa: DTZ001


def test_a_shop_moved_to_another_folder_reads_its_files_as_before() -> None:
    """Dialect, format and member of a source stay; only the folder is another one."""
    bills = Files(kind="files", path="a/k.zip", format="csv", member="k*", csv=Csv(delimiter=";", decimal=","))
    table = SHOP.tables["transactions"].model_copy(update={"source": bills})
    moved = SHOP.model_copy(update={"tables": {"transactions": table}}).reading_from(Path("b"))
    assert moved.tables["transactions"].source == bills.model_copy(update={"path": "b/k.zip"})


@pytest.mark.parametrize(
    ("found", "typo", "message"),
    [
        ("known_at:", "know_at:", "the key 'know_at' is not known, did you mean 'known_at'"),
        ("zone: America/New_York\n", "zone: America/New_Yrok\n", "did you mean 'America/New_York'"),
        ("kind: package_parquet", "kind: package_parket", "package_parquet"),
        ("quantity: quantity", "quantty: quantity", "no such column, did you mean 'quantity'"),
        ("{money: sales_value}", "{money: sales_valu}", "did you mean 'sales_value'"),
        ("{money: sales_value}", "{monei: sales_value}", "did you mean 'money'"),
        ("delay: PT15M", "delay: -PT15M", "nothing is known before it happens"),
        ("delay: PT15M", "delay: quarter", "known_at.delay"),
        ("{week: week}", "{week: week, constant: 2017-01-01T00:00:00Z}", "need exactly one"),
        ("constant: 2017-01-01T00:00:00-05:00", "constant: '2017-01-01T00:00:00'", "has no zone"),
        ("      store_id: store_id\n", "", "lacks 'store_id', which the contract requires"),
        ("name: complete_journey", "name: [", "is not YAML"),
    ],
)
def test_a_typo_is_named_with_what_was_meant(tmp_path: Path, found: str, typo: str, message: str) -> None:
    """Every kind of slip in the YAML is refused, and the closest known word is offered."""
    text = (SHOPS / "complete_journey.yaml").read_text()
    assert found in text
    (tmp_path / "mine.yaml").write_text(text.replace(found, typo))
    with pytest.raises(BadShop, match=message.replace("(", r"\(")):
        load_shop("mine", tmp_path)


def test_an_unknown_shop_or_table_is_named() -> None:
    """The message offers the closest name that exists."""
    with pytest.raises(BadShop, match="did you mean 'complete_journey'"):
        load_shop("complete_jorney")
    with pytest.raises(BadShop, match="did you mean 'products'"):
        SHOP.table("product")


def test_a_shop_is_frozen() -> None:
    """Nobody changes a shop in passing."""
    with pytest.raises(ValueError, match="frozen"):
        SHOP.currency = "EUR"  # type: ignore[misc]
    assert isinstance(SHOP, Shop)
