"""Extraction: whole or nothing, the same bytes again, and history that is not rewritten."""

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_contracts.errors import CorruptFile, NoWindow, SchemaMismatch, SourceMissing
from data_contracts.partitions import OutOfSpace, manifests
from data_contracts.shop import Shop
from data_contracts.sources import PackageParquet
from tests.lake_maker import MONDAY, NOON, days, hand_shop, line, make_lake, sample_shop, tree
from tests.training.sources import files, run, shop_of
from training.errors import SourceChanged
from training.extract import extract
from training.staging import staging

LATE = datetime(2017, 3, 9, 20, tzinfo=UTC)


def raw_rows(folder: Path, day: str) -> list[dict[str, object]]:
    return pq.read_table(
        folder / f"complete_journey/raw/transactions/ds={day}/part.parquet", partitioning=None
    ).to_pylist()


def test_a_row_lands_on_the_business_day_on_which_it_was_known(tmp_path: Path) -> None:
    """23:50 in New York plus 15 minutes is the next business day; raw keeps the source's own ids and values."""
    late = datetime(2017, 3, 7, 4, 50)  # noqa: DTZ001 - 23:50 on Monday in New York
    shop = hand_shop(tmp_path / "source", [line(1), line(2, at=late)])
    lake = make_lake(tmp_path)
    report = extract(lake, shop, "transactions", **days(MONDAY, 2, shop))
    assert (report.rows, report.days, report.new_rows) == (2, 2, 2)
    assert lake.days("raw", "transactions") == ["2017-03-06", "2017-03-07"]
    [row] = raw_rows(tmp_path, "2017-03-07")
    assert (row["household_id"], row["sales_value"]) == (7, 1.5)
    assert row["event_time"] == late.replace(tzinfo=UTC)
    assert row["known_at"] == datetime(2017, 3, 7, 5, 5, tzinfo=UTC)


def test_a_window_is_half_open_and_whole_days(tmp_path: Path) -> None:
    """A row known at `until` belongs to the next window; a window that cuts a day is refused."""
    at_midnight = datetime(2017, 3, 7, 4, 45)  # noqa: DTZ001
    shop = hand_shop(tmp_path / "source", [line(1), line(2, at=at_midnight)])
    lake = make_lake(tmp_path)
    assert extract(lake, shop, "transactions", **days(MONDAY, 1, shop)).rows == 1
    with pytest.raises(NoWindow, match="whole business days"):
        extract(lake, shop, "transactions", since=MONDAY, until=MONDAY + timedelta(hours=12))


def test_a_changed_day_is_not_rewritten_unasked(tmp_path: Path) -> None:
    """A corrected source row is refused; asked for, it arrives on the day it was observed and the old day stays."""
    shop = hand_shop(tmp_path / "source", [line(1), line(2)])
    lake = make_lake(tmp_path)
    window = days(MONDAY, 1, shop)
    extract(lake, shop, "transactions", **window)
    before = tree(lake)
    hand_shop(tmp_path / "source", [line(1, quantity=5), line(2)])
    with pytest.raises(SourceChanged, match="1 rows on 2017-03-06"):
        extract(lake, shop, "transactions", **window)
    assert tree(lake) == before
    report = extract(lake, shop, "transactions", **window, observed_at=LATE)
    assert report.new_rows == 1
    [row] = raw_rows(tmp_path, "2017-03-09")
    assert (row["quantity"], row["known_at"]) == (5, LATE)
    after = tree(lake)
    assert before.items() <= after.items()
    assert extract(lake, shop, "transactions", **window, observed_at=LATE + timedelta(days=3)).new_rows == 0
    assert tree(lake) == after


def test_a_day_with_corrections_still_takes_its_own_rows(tmp_path: Path) -> None:
    """A correction that arrived on a day before that day was extracted is kept beside the day's own rows."""
    thursday = datetime(2017, 3, 9, 17)  # noqa: DTZ001
    shop = hand_shop(tmp_path / "source", [line(1), line(3, at=thursday)])
    lake = make_lake(tmp_path)
    extract(lake, shop, "transactions", **days(MONDAY, 1, shop))
    hand_shop(tmp_path / "source", [line(1, quantity=5), line(3, at=thursday)])
    extract(lake, shop, "transactions", **days(MONDAY, 1, shop), observed_at=LATE)
    extract(lake, shop, "transactions", **days(LATE, 1, shop))
    assert sorted(row["basket_id"] for row in raw_rows(tmp_path, "2017-03-09")) == [1, 3]
    again = tree(lake)
    extract(lake, shop, "transactions", **days(LATE, 1, shop))
    assert tree(lake) == again


def test_another_delay_keeps_the_first_known_at(tmp_path: Path) -> None:
    """When the shop's delay rule changes, rows that raw has keep the `known_at` they came with."""
    shop = hand_shop(tmp_path / "source", [line(1)])
    lake = make_lake(tmp_path)
    extract(lake, shop, "transactions", **days(MONDAY, 3, shop))
    before = tree(lake)
    table = shop.tables["transactions"]
    slower = table.model_copy(update={"known_at": table.known_at.model_copy(update={"delay": timedelta(days=1)})})
    changed = shop.model_copy(update={"tables": {**shop.tables, "transactions": slower}})
    assert extract(lake, changed, "transactions", **days(MONDAY, 3, shop)).new_rows == 0
    assert tree(lake) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.append_column("tip", pa.array([1.0])), "unknown column 'tip'"),
        (lambda t: t.drop_columns(["quantity"]), "missing column 'quantity'"),
        (lambda t: t.set_column(5, "sales_value", pa.array(["1.50"])), "'sales_value' is string, need number"),
    ],
)
def test_another_schema_is_named(tmp_path: Path, change, message: str) -> None:
    """An unknown, missing or retyped column is refused by name, and nothing is written."""
    shop = hand_shop(tmp_path / "source", [line(1)])
    path = tmp_path / "source/transactions.parquet"
    pq.write_table(change(pq.read_table(path)), path)
    lake = make_lake(tmp_path)
    with pytest.raises(SchemaMismatch, match=message):
        extract(lake, shop, "transactions", **days(MONDAY, 1, shop))
    assert not Path(lake.path()).exists()


def test_a_truncated_or_missing_source_is_named(tmp_path: Path) -> None:
    """Half a Parquet file, no file, and an absent package each say which one and what to do."""
    shop = hand_shop(tmp_path / "source", [line(1)])
    path = tmp_path / "source/transactions.parquet"
    window = days(MONDAY, 1, shop)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CorruptFile, match="not a whole Parquet file"):
        extract(make_lake(tmp_path), shop, "transactions", **window)
    path.unlink()
    with pytest.raises(SourceMissing, match="no file matches"):
        extract(make_lake(tmp_path), shop, "transactions", **window)
    absent = PackageParquet(kind="package_parquet", package="no_such_package", path="x.parquet")
    table = shop.tables["transactions"].model_copy(update={"source": absent})
    other = shop.model_copy(update={"tables": {"transactions": table}})
    with pytest.raises(SourceMissing, match="no_such_package"):
        extract(make_lake(tmp_path), other, "transactions", **window)


def test_a_row_without_a_time_is_an_error(tmp_path: Path) -> None:
    """A row that cannot be placed in time stops the run with a count and an example."""
    shop = hand_shop(tmp_path / "source", [line(1), line(2, transaction_timestamp=None)])
    with pytest.raises(SchemaMismatch, match=r"1 rows .* have no event time"):
        extract(make_lake(tmp_path), shop, "transactions", **days(MONDAY, 1, shop))


def test_shop_weeks_begin_at_local_midnight_on_both_sides_of_daylight_saving(tmp_path: Path) -> None:
    """Promotions of week 11 begin at 05:00 UTC, those of week 12 at 04:00 UTC: clocks change on 2017-03-12."""
    shop = sample_shop()
    lake = make_lake(tmp_path)
    extract(lake, shop, "promotions", since=shop.week_start(11), until=shop.week_start(13))
    starts = [each.event_time_min for each in manifests(lake, "raw", "promotions")]
    assert starts == [datetime(2017, 3, 6, 5, tzinfo=UTC), datetime(2017, 3, 13, 4, tzinfo=UTC)]


SCRIPT = """
import sys
from pathlib import Path
from tests.lake_maker import MONDAY, days, make_lake, sample_shop
from training.extract import extract
shop = sample_shop()
{limit}
extract(make_lake(Path(sys.argv[1])), shop, "transactions", **days(MONDAY, 60, shop))
"""


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    """When the system takes no more bytes, the run says so and what was being written is gone."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, 4_000))"
    folder = tmp_path / "full"
    script = [sys.executable, "-c", SCRIPT.format(limit=limit), str(folder)]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert OutOfSpace.__name__ in done.stderr, done.stderr[-500:]
    assert tree(make_lake(folder)) == {}


def test_rows_of_a_quiet_day_that_come_later_are_not_slipped_in(tmp_path: Path) -> None:
    """Tuesday was extracted without rows; what comes for it afterwards is refused, and known from now on when asked."""
    lake, tuesday = make_lake(tmp_path / "lake"), MONDAY + timedelta(days=1)
    shop = hand_shop(tmp_path / "a", [line()])
    extract(lake, shop, "transactions", **days(MONDAY, 2, shop))
    late = hand_shop(tmp_path / "b", [line(), line(2, at=NOON + timedelta(days=1))])
    with pytest.raises(SourceChanged, match="look-again"):
        extract(lake, late, "transactions", **days(tuesday, 1, shop))
    at = MONDAY + timedelta(days=4)
    assert extract(lake, late, "transactions", **days(tuesday, 1, shop), observed_at=at).new_rows == 1
    assert lake.days("raw", "transactions") == ["2017-03-06", "2017-03-10"]


def test_rows_that_are_left_out_are_counted(tmp_path: Path) -> None:
    """Of six rows two are of the interval; one of the others is of 1970 and one of 2071, which no window takes."""
    at = [NOON, NOON, NOON + timedelta(days=1), NOON - timedelta(days=1)]
    at += [datetime(1970, 1, 1, 12), datetime(2071, 1, 1, 12)]  # noqa: DTZ001 - the source's timestamps are naive UTC
    shop = hand_shop(tmp_path / "source", [line(n, at=each) for n, each in enumerate(at)])
    report = extract(make_lake(tmp_path), shop, "transactions", **days(MONDAY, 1, shop))
    assert (report.read, report.rows, report.repeats, report.other_days) == (6, 2, 0, 4)
    assert (report.outside_history, report.outside_history_example[:10]) == (2, "1970-01-01")


def test_rows_of_an_overlap_are_counted_once(tmp_path: Path) -> None:
    """Monday's two rows are of another day for Tuesday's window, and one of them that comes late is of the interval."""
    lake, tuesday = make_lake(tmp_path / "lake"), MONDAY + timedelta(days=1)
    shop = looking_back(tmp_path / "source", [line(1)])
    extract(lake, shop, "transactions", **days(MONDAY, 1, shop))
    looking_back(tmp_path / "source", [line(1), line(2), line(3, at=NOON + timedelta(days=1))])
    report = extract(lake, shop, "transactions", **days(tuesday, 1, shop))
    assert (report.read, report.rows, report.other_days) == (3, 2, 1)


def test_a_row_late_for_a_quiet_day_is_taken_by_an_overlap_that_came_later(tmp_path: Path) -> None:
    """Monday was extracted without rows and without an overlap; with one, Tuesday takes Monday's late row, once."""
    lake, tuesday = make_lake(tmp_path / "lake"), MONDAY + timedelta(days=1)
    quiet = hand_shop(tmp_path / "source", [])
    extract(lake, quiet, "transactions", **days(MONDAY, 1, quiet))
    shop = looking_back(tmp_path / "source", [line(1)])
    assert [extract(lake, shop, "transactions", **days(tuesday, 1, shop)).new_rows for _ in range(2)] == [1, 0]
    assert [row["known_at"] for row in raw_rows(tmp_path / "lake", "2017-03-07")] == [tuesday]


@pytest.mark.parametrize("more", [[], [("1", "2017-03-07T17:00:00Z")]])
def test_a_time_that_is_looked_up_is_one(tmp_path: Path, more: list[tuple[str, str]]) -> None:
    """A campaign with two start dates would make each of its rows two: it is refused with its key and its dates."""
    starts = [("1", "2017-03-06T17:00:00Z"), ("1", "2017-03-06T17:00:00Z"), ("2", "2017-03-06T18:00:00Z"), *more]
    (tmp_path / "c.csv").write_text("campaign,starts\n" + "".join(f"{key},{at}\n" for key, at in starts))
    (tmp_path / "r.csv").write_text("campaign,basket\n1,a\n2,b\n")
    known = {"known_at": {"delay": "PT0S", "reason": "test"}, "mapping": {"basket_id": "basket"}}
    looked = {"lookup": "campaigns", "by": "campaign", "timestamp": "starts", "reason": "test"}
    columns = {"campaign": "string", "basket": "string"}
    told = shop_of(files(tmp_path / "r.csv"), columns=columns, event_time=looked, **known).model_dump(
        mode="json", exclude_unset=True
    )
    told["tables"]["campaigns"] = {
        "source": files(tmp_path / "c.csv"),
        "columns": {"campaign": "string", "starts": "timestamp"},
        "event_time": {"timestamp": "starts"},
        **known,
        "mapping": {"campaign_id": "campaign"},
    }
    shop = Shop.model_validate(told)
    if more:
        with pytest.raises(
            SchemaMismatch, match=r"several starts for 1 of its campaign, e\.g\. 2017-03-06.*2017-03-07"
        ):
            run(tmp_path / "lake", shop)
    else:
        assert run(tmp_path / "lake", shop).rows == 2


def looking_back(folder: Path, lines: list[dict[str, object]]) -> Shop:
    """The hand-made shop, whose windows look three days back."""
    shop = hand_shop(folder, lines)
    table = shop.tables["transactions"]
    known_at = table.known_at.model_copy(update={"overlap": timedelta(days=3)})
    changed = table.model_copy(update={"known_at": known_at})
    return shop.model_copy(update={"tables": {**shop.tables, "transactions": changed}})


def test_files_that_come_late_are_taken_by_the_overlap(tmp_path: Path) -> None:
    """Monday's line arrives after Monday was extracted: Wednesday's window takes it once, known from its start."""
    lake, wednesday = make_lake(tmp_path / "lake"), MONDAY + timedelta(days=2)
    shop = looking_back(tmp_path / "a", [line()])
    extract(lake, shop, "transactions", **days(MONDAY, 2, shop))
    late = looking_back(tmp_path / "b", [line(), line(2)])
    for new in (1, 0):
        assert extract(lake, late, "transactions", **days(wednesday, 1, shop)).new_rows == new
    rows = pq.read_table(f"{lake.partition('raw', 'transactions', '2017-03-08')}/part.parquet", partitioning=None)
    assert rows.select(["basket_id", "known_at"]).to_pylist() == [{"basket_id": 2, "known_at": wednesday}]


def test_a_row_that_a_later_day_took_is_not_taken_by_one_that_runs_after_it(tmp_path: Path) -> None:
    """Monday's late line: Wednesday takes it while Tuesday's run had failed, and Tuesday's own lines are still its."""
    lake, tuesday = make_lake(tmp_path / "lake"), MONDAY + timedelta(days=1)
    shop = looking_back(tmp_path / "source", [line()])
    extract(lake, shop, "transactions", **days(MONDAY, 1, shop))
    looking_back(tmp_path / "source", [line(), line(2), line(3, at=NOON + timedelta(days=1))])
    news = [extract(lake, shop, "transactions", **days(MONDAY + timedelta(days=n), 1, shop)).new_rows for n in (2, 1)]
    assert news == [1, 1]
    assert [row["basket_id"] for row in raw_rows(tmp_path / "lake", "2017-03-08")] == [2]
    assert [row["basket_id"] for row in raw_rows(tmp_path / "lake", "2017-03-07")] == [3]
    before = tree(lake)
    extract(lake, shop, "transactions", **days(tuesday, 1, shop))
    assert tree(lake) == before


def test_rows_that_a_second_look_took_are_not_taken_with_their_day(tmp_path: Path) -> None:
    """Tuesday was never extracted when its window was looked over again: its line is in raw once, as it came."""
    lake = make_lake(tmp_path / "lake")
    shop = hand_shop(tmp_path / "source", [line(), line(2, at=NOON + timedelta(days=1))])
    extract(lake, shop, "transactions", **days(MONDAY, 1, shop))
    assert extract(lake, shop, "transactions", **days(MONDAY, 3, shop), observed_at=LATE).new_rows == 1
    assert extract(lake, shop, "transactions", **days(MONDAY + timedelta(days=1), 1, shop)).new_rows == 0
    assert sum(each.rows for each in manifests(lake, "raw", "transactions")) == 2


def test_a_line_that_gets_a_new_column_is_not_one_more_where_lines_add_up(tmp_path: Path) -> None:
    """The days that the overlap looks at lack a column declared since: their lines are known, whatever it says now."""
    lake = make_lake(tmp_path / "lake")
    shop = looking_back(tmp_path / "source", [line()])
    extract(lake, shop, "transactions", **days(MONDAY, 1, shop))
    path = tmp_path / "source" / "transactions.parquet"
    pq.write_table(pq.read_table(path).append_column("till", pa.array([4])), path)
    table = shop.tables["transactions"]
    for sums, new in (((), 1), (("quantity", "sales_minor"), 0)):
        changed = table.model_copy(update={"sums": sums, "columns": {**table.columns, "till": "integer"}})
        wider = shop.model_copy(update={"tables": {**shop.tables, "transactions": changed}})
        folder = tmp_path / f"lake-{new}"
        shutil.copytree(tmp_path / "lake", folder)
        report = extract(make_lake(folder), wider, "transactions", **days(MONDAY + timedelta(days=1), 1, shop))
        assert report.new_rows == new


def test_the_scratch_space_of_a_killed_run_goes_with_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of a process that lives stays."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dead, living = tmp_path / f"mercato-stage-{2**22 + 1}-abc", tmp_path / f"mercato-stage-{os.getpid()}-abc"
    for folder in (dead, living):
        folder.mkdir()
    with staging() as (_, folder):
        assert folder.is_dir()
    assert sorted(tmp_path.glob("mercato-stage-*")) == [living]
