"""Rules over a table, by hand: a run against its own counts, and a scheduled run against the weeks before it."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_contracts.contract import CONTRACTS, Contract, parse_contract
from data_contracts.errors import BadContract, TableRuleBroken
from data_contracts.partitions import Manifest, manifest
from tests.lake_maker import MONDAY, days, hand_shop, line, make_identity, make_lake
from training.clean import clean
from training.extract import extract
from training.judging import Past, Tally, alarms, judge

DAY = date(2017, 3, 6)
UNTIL = datetime(2017, 3, 7, 5, tzinfo=UTC)


def contract(**rule: Any) -> Contract:
    """The contract of transactions with this one table rule."""
    raw = yaml.safe_load((CONTRACTS / "transactions.odcs.yaml").read_text())
    given = {"name": "r", "description": "a reason of more than twenty letters", "dimension": "timeliness",
             "severity": "error", "unit": "percent"}  # fmt: skip
    kind = {"type": "library"} if "metric" in rule else {"type": "custom", "engine": "mercato"}
    raw["schema"][0]["quality"] = [{**given, **kind, **rule}]
    return Contract.model_validate(raw)


def made(ds: date, rows: int, nulls: dict[str, int] | None = None, *, history: bool = True) -> Manifest:
    """The manifest of a day whose last event was at noon."""
    at = datetime(ds.year, ds.month, ds.day, 17, tzinfo=UTC)
    return Manifest(
        table="transactions", layer="raw", ds=ds, rows=rows, bytes=0, sha256="", contract="", inputs={},
        event_time_min=at, event_time_max=at, nulls=nulls, history=history,
    )  # fmt: skip


def past(raw: list[Manifest], clean_days: list[Manifest] | None = None) -> Past:
    return Past([DAY], UNTIL, raw, clean_days or [])


def weeks(*rows: int) -> list[Manifest]:
    """Mondays before DAY, the newest first, then DAY itself."""
    *before, today = rows
    return [*(made(DAY - timedelta(weeks=n), each) for n, each in enumerate(before, 1)), made(DAY, today)]


FRESH = {"implementation": "freshness", "unit": "hours", "mustBeLessOrEqualTo": 48}
VOLUME = {"implementation": "volume", "arguments": {"fromRows": 100}, "mustBeGreaterOrEqualTo": 20,
          "mustBeLessOrEqualTo": 500}  # fmt: skip
SPIKE = {"implementation": "nullSpike", "mustBeLessOrEqualTo": 20}


def test_too_many_bad_or_repeated_rows_may_be_expected() -> None:
    """The error of such a rule names the two keys that say so; the one of another rule does not."""
    many = Tally(raw=100, clean=50, quarantined=25, duplicates=25)
    for counted in ({"implementation": "quarantined"}, {"metric": "duplicateValues"}):
        with pytest.raises(TableRuleBroken, match=r"found 25 percent.* expected: `reject` names rows, `sums` adds"):
            judge(contract(**counted, mustBeLessOrEqualTo=1), many, 1, None)
    with pytest.raises(TableRuleBroken, match=r"correct the source or the mapping$"):
        judge(contract(**FRESH), Tally(), 1, past([made(DAY - timedelta(days=2), 5)]))


def test_freshness_is_the_time_since_the_newest_event() -> None:
    """Newest event Sunday 17:00, window's end Tuesday 05:00: 36 hours; a day earlier it is 60, which is too old."""
    [found] = judge(contract(**FRESH), Tally(), 1, past([made(DAY - timedelta(days=1), 5)]))
    assert found.value == 36
    with pytest.raises(TableRuleBroken, match=r"found 60 hours, the newest event is of 2017-03-04T17:00:00\+00:00"):
        judge(contract(**FRESH), Tally(), 1, past([made(DAY - timedelta(days=2), 5)]))


def test_a_date_that_is_wrong_makes_no_table_fresh(tmp_path: Path) -> None:
    """One row of three weeks ago is dated 2071: it counts as an event of the end of the day on which it was known."""
    lake, shop = make_lake(tmp_path), hand_shop(tmp_path / "source", [])
    old = made(DAY - timedelta(weeks=3), 10)
    wrong = old.model_copy(update={"event_time_max": datetime(2071, 1, 1, tzinfo=UTC)})
    folder = Path(lake.partition("raw", "transactions", wrong.ds.isoformat()))
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(wrong.model_dump_json())
    (folder / "part.parquet").touch()
    since, until = shop.day_bounds(DAY)
    found = Past.of(lake, shop, "transactions", since, until)
    assert [each.event_time_max for each in found.raw] == [until - timedelta(weeks=3)]


def test_a_table_that_never_delivered_is_not_late() -> None:
    """Freshness needs something to be older than."""
    assert judge(contract(**FRESH), Tally(), 1, past([])) == []


@pytest.mark.parametrize(
    ("rows", "value"),
    [
        ((100, 120, 140, 160, 130), 100.0),  # median of the four Mondays 130
        ((100, 120, 140, 1000), 833.3333),  # three Mondays are enough: 1000 / 120
        ((100, 120, 140, 160, 13), 10.0),
        ((100, 120, 500), None),  # two are not
        ((50, 50, 50, 50, 500), None),  # fewer than 100 rows usual: noise
        ((100, 120, 140, 160, 0), None),  # a closed day is a matter of freshness
    ],
)
def test_volume_compares_with_the_same_weekday(rows: tuple[int, ...], value: float | None) -> None:
    """A day's rows as a share of the median of four earlier days of its weekday."""
    rule = contract(**{**VOLUME, "severity": "warning"})
    found = judge(rule, Tally(), 1, past(weeks(*rows)))
    assert [each.value for each in found] == ([] if value is None else [value])
    assert bool(alarms(found)) == (value is not None and not 20 <= value <= 500)


def test_days_that_hold_corrections_alone_are_no_volume() -> None:
    """A partition with late corrections only says nothing about a usual day."""
    odd = [made(DAY - timedelta(weeks=n), 100, history=False) for n in range(1, 5)]
    assert judge(contract(**VOLUME), Tally(), 1, past([*odd, made(DAY, 1)])) == []


def test_a_null_spike_names_the_column() -> None:
    """Nulls of customer_key 10 % before and 40 of 80 now: up by 40 points; manifests that counted none are left out."""
    before = [made(DAY - timedelta(days=n), 100, {"customer_key": 10}) for n in range(1, 4)]
    before.append(made(DAY - timedelta(days=5), 100))
    tally = Tally(raw=80, clean=80, nulls=Counter({"customer_key": 40}))
    with pytest.raises(TableRuleBroken, match=r"found 40 percent, column customer_key: 40 of 80 rows, need <= 20"):
        judge(contract(**SPIKE), tally, 1, past([], before))
    assert judge(contract(**SPIKE), tally, 1, past([], before[-1:])) == []


def test_completeness_is_a_share_of_clean_rows() -> None:
    """30 of 120 rows without customer: 25 %."""
    rule = contract(metric="nullValues", arguments={"column": "customer_key"}, mustBeLessOrEqualTo=25)
    tally = Tally(raw=130, clean=120, nulls=Counter({"customer_key": 30}))
    assert [(each.value, each.holds) for each in judge(rule, tally, 1, None)] == [(25.0, True)]


def test_the_past_is_judged_on_scheduled_windows_only() -> None:
    """A person may load any days in any order."""
    assert judge(contract(**FRESH), Tally(), 1, None) == []


def test_a_rule_without_its_column_is_refused() -> None:
    """`nullValues` of what?"""
    text = (CONTRACTS / "transactions.odcs.yaml").read_text()
    with pytest.raises(BadContract, match=r"measures nullValues: add arguments\.column"):
        parse_contract(text.replace("metric: duplicateValues", "metric: nullValues"), "transactions.odcs.yaml")


def test_a_scheduled_run_looks_back_as_far_as_it_must(tmp_path: Path) -> None:
    """A source that fell silent is judged by its newest day, and each run leaves its counts of nulls behind."""
    shop = hand_shop(tmp_path / "source", [line()])
    lake, people = make_lake(tmp_path), make_identity(tmp_path)
    extract(lake, shop, "transactions", **days(MONDAY, 1, shop))
    later = days(MONDAY + timedelta(days=3), 1, shop)
    found = Past.of(lake, shop, "transactions", **later)
    assert [each.ds for each in found.raw] == [DAY]
    [said] = judge(contract(**{**FRESH, "severity": "warning"}), Tally(), 1, found)
    assert said.value == 84  # Monday 17:00 to Friday 05:00
    far = Past.of(lake, shop, "transactions", **days(MONDAY + timedelta(days=100), 1, shop))
    assert [each.ds for each in far.raw] == [DAY], "the newest day counts however long ago it was"
    extract(lake, shop, "products", since=shop.window()[0], until=shop.window()[1])
    clean(lake, shop, "products", people, since=shop.window()[0], until=shop.window()[1])
    report = clean(lake, shop, "transactions", people, **days(MONDAY, 1, shop), scheduled=True)
    assert report.clean_rows == 1
    there = manifest(lake, "clean", "transactions", "2017-03-06")
    assert there is not None
    assert there.nulls == {}
