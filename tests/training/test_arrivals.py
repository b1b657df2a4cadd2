"""Dropped files: told once they are whole, each change once; what they bring lands where its time says."""

import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from data_contracts.errors import CorruptFile
from data_contracts.partitions import quiet_days
from mercato import paths
from mercato.settings import Settings
from tests.lake_maker import MONDAY, NOON, hand_shop, line, tree
from training import jobs
from training.arrivals import Arrivals

DAY = timedelta(days=1)
AT = MONDAY + 2 * DAY + timedelta(hours=9)
"""Wednesday morning: Monday and Tuesday are over."""
PRODUCTS = (MONDAY - 64 * DAY, MONDAY - 63 * DAY)
"""The day on which the catalogue counts as known."""


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """An empty drop folder."""
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


@pytest.fixture
def drops(inbox: Path) -> Arrivals:
    return Arrivals({"products": f"{inbox}/products*.csv", "transactions": f"{inbox}/sales*.csv"})


def test_a_file_is_told_once_when_two_looks_find_the_same(inbox: Path, drops: Arrivals) -> None:
    """The first look only notes it; a file of another name is nobody's."""
    (inbox / "sales-1.csv").write_text("a\n1\n")
    (inbox / "readme.txt").write_text("hello")
    assert [drops.look() for _ in range(4)] == [{}, {"transactions": [inbox / "sales-1.csv"]}, {}, {}]


def test_while_one_file_grows_none_is_told(inbox: Path, drops: Arrivals) -> None:
    """A run reads all files of a table, so a whole one waits for its half-written neighbour; then both are told."""
    (inbox / "sales-1.csv").write_text("a\n1\n")
    drops.look()
    growing = inbox / "sales-2.csv"
    for text in ("", "a\n", "a\n2"):
        growing.write_text(text)
        assert drops.look() == {}
    assert drops.look() == {"transactions": [inbox / "sales-1.csv", growing]}


def test_an_empty_file_is_not_whole(inbox: Path, drops: Arrivals) -> None:
    """A name that was made before its content came starts nothing, however long it stays so."""
    (inbox / "sales-1.csv").touch()
    assert [drops.look() for _ in range(3)] == [{}, {}, {}]


def test_written_aside_and_renamed_it_is_never_seen_half(inbox: Path, drops: Arrivals) -> None:
    """A replaced file of the same size and time is another one; one that went away is no arrival."""
    (inbox / "sales-1.csv").write_text("a\n1\n")
    assert [bool(drops.look()) for _ in range(2)] == [False, True]
    aside = inbox / "sales-1.csv.part"
    aside.write_text("a\n2\n")
    state = (inbox / "sales-1.csv").stat()
    assert drops.look() == {}
    os.utime(aside, ns=(state.st_atime_ns, state.st_mtime_ns))
    aside.replace(inbox / "sales-1.csv")
    assert [drops.look() for _ in range(2)] == [{}, {"transactions": [inbox / "sales-1.csv"]}]
    (inbox / "sales-1.csv").unlink()
    assert [drops.look() for _ in range(3)] == [{}, {}, {}]


def test_files_of_two_tables_are_told_together(inbox: Path, drops: Arrivals) -> None:
    """One look, one answer for every table that has news."""
    (inbox / "sales-1.csv").write_text("a\n1\n")
    (inbox / "products.csv").write_text("a\n1\n")
    drops.look()
    assert sorted(drops.look()) == ["products", "transactions"]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", identity_key="k" * 32)


def drop(folder: Path, rows: list[dict[str, Any]], patch: pytest.MonkeyPatch) -> None:
    """The export now holds `rows`."""
    shop = hand_shop(folder, rows)
    patch.setattr(jobs, "load_shop", lambda _name: shop)


def cleaned(settings: Settings, said: dict[str, Any]) -> None:
    """What the rest of the run does with the days that were named."""
    jobs.extract_table(settings, "products", *PRODUCTS)
    jobs.clean_table(settings, "products", *PRODUCTS)
    jobs.clean_table(settings, "transactions", *(datetime.fromisoformat(said[end]) for end in ("since", "until")))


def known(settings: Settings) -> dict[int, datetime]:
    """Basket -> when it was known, of everything in raw."""
    files = sorted(Path(paths.lake(settings).path("raw", "transactions")).rglob("*.parquet"))
    rows = [row for file in files for row in pq.read_table(file, partitioning=None).to_pylist()]
    return {row["basket_id"]: row["known_at"] for row in rows}


def test_new_days_by_their_rule_and_late_rows_when_they_were_seen(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Days that are over are extracted, today waits; a row for an extracted day is known at the drop, not before."""
    monday, tuesday, today = (NOON + n * DAY for n in range(3))
    first = [line(1, at=monday), line(2, at=tuesday), line(3, at=today - timedelta(hours=6))]
    drop(tmp_path / "source", first, monkeypatch)
    said = jobs.extract_arrived(settings, "transactions", AT)
    assert (said["rows"], said["late_rows"], said["until"]) == (2, 0, (MONDAY + 2 * DAY).isoformat())
    lake = paths.lake(settings)
    assert lake.days("raw", "transactions") == ["2017-03-06", "2017-03-07"]
    cleaned(settings, said)

    noon = AT + timedelta(hours=3)
    drop(tmp_path / "source", [*first, line(4, at=monday)], monkeypatch)
    said = jobs.extract_arrived(settings, "transactions", noon)
    assert (said["since"], said["rows"], said["late_rows"]) == (None, 0, 1)
    assert lake.days("raw", "transactions") == ["2017-03-06", "2017-03-07", "2017-03-08"]
    before = tree(lake)
    jobs.extract_arrived(settings, "transactions", noon + timedelta(hours=1))
    assert tree(lake) == before  # the same file again brings nothing

    jobs.extract_table(settings, "transactions", MONDAY + 2 * DAY, MONDAY + 3 * DAY)  # as every night
    rule = timedelta(minutes=15)
    of_rule = {each["basket_id"]: each["transaction_timestamp"].replace(tzinfo=UTC) + rule for each in first}
    assert known(settings) == {**of_rule, 4: noon}


def test_the_next_drop_goes_on_after_the_newest_extracted_day(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many days nobody dropped anything: all of them are in the window, and corrections open no gap in it."""
    drop(tmp_path / "source", [line(1)], monkeypatch)
    cleaned(settings, jobs.extract_arrived(settings, "transactions", MONDAY + DAY))
    rows = [line(1), line(2), line(3, at=NOON + DAY), line(4, at=NOON + 3 * DAY)]
    drop(tmp_path / "source", rows, monkeypatch)
    said = jobs.extract_arrived(settings, "transactions", AT + 2 * DAY)
    assert (said["since"], said["until"]) == ((MONDAY + DAY).isoformat(), (MONDAY + 4 * DAY).isoformat())
    assert (said["rows"], said["late_rows"]) == (2, 1)
    cleaned(settings, said)
    again = jobs.extract_arrived(settings, "transactions", AT + 3 * DAY)
    late_day = (MONDAY + 4 * DAY).isoformat()  # which no nightly run has cleaned
    assert (again["since"], again["rows"], again["late_rows"]) == (late_day, 0, 0)


def test_days_that_were_extracted_and_not_cleaned_are_named_again(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that ended before it cleaned leaves its days to the next one; cleaned, they are named no more."""
    drop(tmp_path / "source", [line(1), line(2, at=NOON + DAY)], monkeypatch)
    said = [jobs.extract_arrived(settings, "transactions", AT + n * DAY) for n in range(2)]
    assert [(each["since"], each["rows"]) for each in said] == [(MONDAY.isoformat(), 2), (MONDAY.isoformat(), 0)]
    cleaned(settings, said[1])
    assert jobs.extract_arrived(settings, "transactions", AT + DAY)["since"] is None


def test_days_that_were_let_go_are_not_looked_over(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quiet day, then one whose raw rows retention let go, then one that is there: a late row of that one comes in;
    with every raw day let go the next days still do.
    """
    there, late = line(2, at=NOON + DAY), line(3, at=NOON + DAY)
    drop(tmp_path / "source", [line(1), there], monkeypatch)
    lake = paths.lake(settings)
    jobs.extract_table(settings, "transactions", MONDAY - DAY, MONDAY + 2 * DAY)
    assert quiet_days(lake, "transactions") == {date(2017, 3, 5)}
    lake.fs.rm_file(f"{lake.partition('raw', 'transactions', '2017-03-06')}/part.parquet")
    drop(tmp_path / "source", [line(1), there, late], monkeypatch)
    said = jobs.extract_arrived(settings, "transactions", AT)
    assert (said["rows"], said["late_rows"]) == (0, 1)
    for day in lake.days("raw", "transactions"):
        lake.fs.rm_file(f"{lake.partition('raw', 'transactions', day)}/part.parquet")
    drop(tmp_path / "source", [line(1), there, late, line(4, at=NOON + 4 * DAY)], monkeypatch)
    said = jobs.extract_arrived(settings, "transactions", AT + 3 * DAY)
    assert (said["rows"], said["late_rows"]) == (1, 0)


def test_a_corrupt_file_leaves_what_was_there(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the file; raw holds what it held."""
    drop(tmp_path / "source", [line(1)], monkeypatch)
    jobs.extract_arrived(settings, "transactions", MONDAY + DAY)
    before = tree(paths.lake(settings))
    file = tmp_path / "source" / "transactions.parquet"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CorruptFile, match="transactions"):
        jobs.extract_arrived(settings, "transactions", AT)
    assert tree(paths.lake(settings)) == before
