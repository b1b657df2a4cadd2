"""Laws of time that span extraction and cleaning: a month in any order, runs at once, kills, clocks that change."""

import os
import select
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_contracts import partitions
from data_contracts.lake import verify
from data_contracts.partitions import Manifest, manifests
from data_contracts.shop import Shop
from mercato import paths
from mercato.paths import Lake
from mercato.settings import Settings
from tests.forks import PUT_IN_PLACE, ended, fork, killed
from tests.lake_maker import MONDAY, NOON, TRANSACTIONS, days, finished, hand_shop, line, make_lake, tree
from tests.training.sources import files, shop_of
from training import extract as extracting
from training import jobs
from training.extract import extract

DAY = timedelta(days=1)
FIRST = datetime(2017, 3, 1, 5, tzinfo=UTC)
"""The month: clocks in New York go forward on the 12th."""
OBSERVED = MONDAY + timedelta(days=10, hours=9)


def manifests_and_parts(lake: Lake) -> tuple[dict[str, Manifest], dict[str, str]]:
    """Every manifest but for what its source was at that time, and the hash of every other file."""
    told = {
        f"{layer}/{table} {each.ds}": each.model_copy(update={"inputs": {**each.inputs, "source": ""}})
        for layer in ("raw", "clean", "quarantine")
        for table in ("products", "transactions")
        for each in manifests(lake, layer, table)
    }
    return told, {path: sha for path, sha in tree(lake).items() if not path.endswith("manifest.json")}


# --- a month, day by day and after the fact


def stamped(folder: Path, rows: list[dict[str, Any]]) -> Shop:
    """The hand-written shop, whose till stamps each version of a line: `rows` as its file."""
    shop = hand_shop(folder, [])
    schema = TRANSACTIONS.append(pa.field("stamped", pa.timestamp("us", "UTC")))
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / "transactions.parquet")
    told = shop.model_dump(mode="json", exclude_unset=True)
    table = told["tables"]["transactions"]
    table["columns"]["stamped"] = "timestamp"
    table["known_at"] = {"column": "stamped", "reason": "the till stamps each version"}
    return Shop.model_validate(told)


def month() -> list[dict[str, Any]]:
    """Two lines a day, one of them at 02:30 local time; every fifth day one that comes three days late; every seventh
    day a correction two days later; and a line that no rule lets through.
    """
    found = []
    for n in range(31):
        at = (FIRST + n * DAY).replace(tzinfo=None)
        for basket, paid, late, changes in (
            (4 * n, at + timedelta(hours=2, minutes=30), timedelta(), {}),
            (4 * n + 1, at + timedelta(hours=22, minutes=30), timedelta(), {}),
            *([(4 * n + 2, at + timedelta(hours=9), 3 * DAY, {})] if n % 5 == 0 else []),
            *([(4 * n, at + timedelta(hours=2, minutes=30), 2 * DAY, {"quantity": 5})] if n % 7 == 0 else []),
            *([(4 * n + 3, at + timedelta(hours=10), timedelta(), {"quantity": -1})] if n == 20 else []),
        ):
            known = (paid + late + timedelta(minutes=1)).replace(tzinfo=UTC)
            found.append(line(basket, at=paid, product=10 + n % 4, stamped=known, **changes))
    return found


def test_a_month_backfilled_equals_the_month_as_run_daily(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """31 nightly runs over a file that grows, and the same days over the whole file in windows of one to seven, last to
    first, two at once: with late rows, corrections, a bad row and a day of 23 hours, every byte of data and manifest
    is the same, except `inputs.source`: it says what the file was when a day was written.
    """
    rows = month()
    daily = Settings(home=tmp_path / "daily", identity_url=f"sqlite:///{tmp_path}/i.db", identity_key="k" * 32)
    after = daily.model_copy(update={"home": tmp_path / "after"})
    shop = stamped(tmp_path / "source", [])
    monkeypatch.setattr(jobs, "load_shop", lambda _name: shop)
    bounds = [shop.day_bounds(date(2017, 3, 1) + n * DAY) for n in range(31)]
    listed = shop.day_bounds(shop.business_day(shop.table("products").event_time.constant or MONDAY))

    def run(settings: Settings, windows: list[tuple[datetime, datetime]], table: str = "transactions") -> None:
        for since, until in windows:
            jobs.extract_table(settings, table, since, until)
            jobs.clean_table(settings, table, since, until)

    for settings in (daily, after):
        run(settings, [listed], "products")
    for since, until in bounds:
        stamped(tmp_path / "source", [row for row in rows if row["stamped"] < until])
        run(daily, [(since, until)])
    stamped(tmp_path / "source", rows)
    edges = (0, 6, 13, 14, 21, 28, 30, 31)
    windows = [(bounds[first][0], bounds[end - 1][1]) for first, end in pairwise(edges)]
    runs = [fork(partial(run, after, windows[::-1][n::2])) for n in range(2)]
    assert [ended(each) for each in runs] == [0, 0]
    once, again = (paths.lake(each) for each in (daily, after))
    assert manifests_and_parts(once) == manifests_and_parts(again)
    assert sum(each.rows for each in manifests(again, "raw", "transactions")) == len(
        [row for row in rows if row["stamped"] < bounds[-1][1]]
    )
    assert [each.rows for each in manifests(again, "quarantine", "transactions")] == [1]
    assert len(manifests(again, "clean", "transactions")) == len(bounds)


# --- two at once


def test_two_runs_of_overlapping_intervals_do_not_mix(tmp_path: Path) -> None:
    """Monday to Tuesday and Tuesday to Wednesday looked over at once, with a corrected line a day: what the second
    one writes is not taken from before the first one wrote.
    """
    at = [NOON + n * DAY for n in range(3)]
    looks = [(MONDAY, 2), (MONDAY + DAY, 2)]
    lakes = {name: make_lake(tmp_path / name) for name in ("in turn", "at once")}
    shop = hand_shop(tmp_path / "source", [line(n, at=each) for n, each in enumerate(at)])
    for lake in lakes.values():
        extract(lake, shop, "transactions", **days(MONDAY, 3, shop))
    hand_shop(tmp_path / "source", [line(n, at=each, quantity=5) for n, each in enumerate(at)])

    def look(lake: Lake, which: int) -> None:
        extract(lake, shop, "transactions", **days(*looks[which], shop), observed_at=OBSERVED)

    for which in range(2):
        look(lakes["in turn"], which)
    ready = [os.pipe(), os.pipe()]

    def about_to_write(which: int) -> None:
        """Both would write now: the first one waits for the second one, which can only be here if nothing holds it."""
        plain = extracting.encode

        def encode(frame: pa.Table) -> bytes:
            os.write(ready[which][1], b".")
            if which == 0:
                select.select([ready[1][0]], [], [], 1.5)
            return plain(frame)

        extracting.encode = encode
        look(lakes["at once"], which)

    first = fork(partial(about_to_write, 0))
    os.read(ready[0][0], 1)
    second = fork(partial(about_to_write, 1))
    assert (ended(first), ended(second)) == (0, 0)
    for each in (end for pair in ready for end in pair):
        os.close(each)
    assert tree(lakes["at once"]) == tree(lakes["in turn"])
    assert manifests(lakes["at once"], "raw", "transactions")[-1].rows == len(at)


# --- kill -9 while a partition is replaced


@pytest.mark.parametrize("files_in_place", [1, 2])
def test_a_kill_while_a_partition_is_replaced(tmp_path: Path, files_in_place: int) -> None:
    """A second correction joins the first one on its day: killed between the files of that day, the day is the one
    before or the one after, whole; the same run again makes it the one that nobody killed.
    """
    lakes = {name: make_lake(tmp_path / name) for name in ("clean", "killed")}
    shop = hand_shop(tmp_path / "source", [line(1), line(2)])
    look: Callable[[Lake], object] = lambda lake: extract(  # noqa: E731
        lake, shop, "transactions", **days(MONDAY, 1, shop), observed_at=OBSERVED
    )
    for lake in lakes.values():
        extract(lake, shop, "transactions", **days(MONDAY, 1, shop))
    hand_shop(tmp_path / "source", [line(1, quantity=5), line(2)])
    for lake in lakes.values():
        look(lake)
    hand_shop(tmp_path / "source", [line(1, quantity=5), line(2, quantity=5)])
    look(lakes["clean"])
    assert killed(partial(look, lakes["killed"]), files_in_place, PUT_IN_PLACE) == -9
    verify(lakes["killed"], "transactions", layer="raw")
    assert [each.rows for each in manifests(lakes["killed"], "raw", "transactions")] == [2, files_in_place]
    look(lakes["killed"])
    assert finished(lakes["killed"]) == tree(lakes["clean"])


# --- clocks


@pytest.mark.parametrize(("day", "hours"), [(date(2017, 3, 12), 23), (date(2017, 11, 5), 25)])
@pytest.mark.parametrize("clock", ["utc", "local"])
def test_days_of_23_and_25_hours_are_whole(tmp_path: Path, day: date, hours: int, clock: str) -> None:
    """A row in every hour of three days, in New York's time or in UTC: each day has its own rows and no others; where
    a local hour comes twice, the rows of both count as of the second one.
    """
    shop = shop_of(
        files(tmp_path / "rows.parquet"),
        columns={"basket": "integer", "utc": "timestamp", "local": "timestamp"},
        event_time={"timestamp": clock, "zone": "UTC" if clock == "utc" else "America/New_York"},
        known_at={"delay": "PT0S", "reason": "test"},
        mapping={"basket_id": "basket"},
    )
    since, until = shop.day_start(day - DAY), shop.day_start(day + 2 * DAY)
    assert (until - since) == timedelta(hours=48 + hours)
    at = [since + timedelta(hours=n, minutes=30) for n in range(48 + hours)]
    rows = {
        "basket": range(len(at)),
        "utc": at,
        "local": [each.astimezone(shop.tz).replace(tzinfo=None) for each in at],
    }
    pq.write_table(pa.table(rows).cast(_ROWS), tmp_path / "rows.parquet")
    lake = make_lake(tmp_path / "lake")
    extract(lake, shop, "transactions", since=since, until=until)
    parts = [pq.read_table(partitions.part_path(lake, each)) for each in manifests(lake, "raw", "transactions")]
    assert [part.num_rows for part in parts] == [24, hours, 24]
    got = {row["basket"]: row["event_time"] for part in parts for row in part.to_pylist()}
    assert list(map(len, ([n for part in parts for n in part["basket"].to_pylist()], got))) == [len(at)] * 2
    wrong = {n: got[n] - each for n, each in enumerate(at) if got[n] != each}
    assert wrong == ({25: timedelta(hours=1)} if clock == "local" and hours == 25 else {})


_ROWS = pa.schema([("basket", pa.int64()), ("utc", pa.timestamp("us")), ("local", pa.timestamp("us"))])
