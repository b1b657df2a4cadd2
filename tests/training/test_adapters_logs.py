"""A rotated log: every whole line once, in order; what is no JSON is refused, or taken with its time."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from data_contracts.checks import BROKEN
from data_contracts.errors import BadShop, CorruptFile, SourceMissing
from data_contracts.shop import Shop, load_shop
from tests.lake_maker import MONDAY, days, hand_shop, make_identity, make_lake
from tests.training.sources import raw, run, shop_of
from training.adapters import logs
from training.clean import clean
from training.extract import extract

MINOR = ("sales", "retail_discount", "coupon_discount", "coupon_match_discount")
COLUMNS = {"at": "timestamp", "user.id": "string", "line": "string"}


def shop(folder: Path, **source: Any) -> Shop:
    return shop_of(
        {"kind": "logs", "path": str(folder / "app.log"), **source},
        columns=COLUMNS,
        event_time={"timestamp": "at"},
        mapping={},
    )


def line(minute: int) -> bytes:
    return json.dumps({"at": f"2017-03-06T17:{minute:02d}:00Z", "user": {"id": minute}}).encode() + b"\n"


def bill(number: int) -> bytes:
    return (
        json.dumps({"at": "2017-03-06T17:00:00Z", "basket_id": f"b{number}", "product_id": 10, "n": 1}).encode() + b"\n"
    )


def test_rotated_files_are_one_log_and_a_half_written_line_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`.2.gz`, `.1`, the log: each line once, and parsed once, also while `.1` is being packed; the last one, without
    its end, is taken by the next run.
    """
    parsed: list[bytes] = []
    monkeypatch.setattr(logs, "_object", lambda line, read=logs._object: parsed.append(line) or read(line))
    (tmp_path / "app.log.2.gz").write_bytes(gzip.compress(line(1) + line(2)))
    (tmp_path / "app.log.1").write_bytes(line(3) + b"\r\n")
    (tmp_path / "app.log.1.gz").write_bytes(gzip.compress(line(3))[:-9])
    (tmp_path / "app.log.bak").write_bytes(b"not a rotation\n")
    (tmp_path / "app.log").write_bytes(line(4) + line(5)[:-1])
    assert run(tmp_path / "lake", shop(tmp_path)).rows == 4
    assert [row["user.id"] for row in raw(tmp_path / "lake")] == ["1", "2", "3", "4"]
    assert len(parsed) == 4
    (tmp_path / "app.log").write_bytes(line(4) + line(5))
    assert run(tmp_path / "again", shop(tmp_path)).rows == 5


@pytest.mark.parametrize(
    "rotated",
    [
        ("app.log.2017-03-04", "app.log.2017-03-05.gz"),
        ("app.log-20170304", "app.log-2017-03-05"),
        ("app.log.2017-03-05_23", "app.log.2017-03-06_09"),
        ("app.log-20170305.9", "app.log-20170305.10"),
    ],
)
def test_dates_of_rotated_files_are_read(tmp_path: Path, rotated: tuple[str, str]) -> None:
    """Python's and logrotate's ways to name a file by its day or hour, the oldest first."""
    for number, name in enumerate((*rotated, "app.log"), 1):
        data = line(number)
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    source = shop(tmp_path).tables["transactions"]
    assert [each.name for each in logs.LogLines(source.source, source, tmp_path).paths()] == [*rotated, "app.log"]
    assert run(tmp_path / "lake", shop(tmp_path)).rows == 3


@pytest.mark.parametrize("ending", ["bz2", "zst", "xz"])
def test_a_packing_that_is_not_read_is_named(tmp_path: Path, ending: str) -> None:
    """A rotated file of another packing is no silence; beside the unpacked one it is still being written."""
    (tmp_path / "app.log").write_bytes(line(2))
    (tmp_path / f"app.log.1.{ending}").write_bytes(b"packed")
    with pytest.raises(SourceMissing, match=rf"1 rotated logs .*app\.log\.1\.{ending}; pack them with gzip"):
        run(tmp_path / "lake", shop(tmp_path))
    (tmp_path / "app.log.1").write_bytes(line(1))
    assert run(tmp_path / "lake", shop(tmp_path)).rows == 2


def test_half_a_character_is_replaced(tmp_path: Path) -> None:
    """JSON may hold a lone surrogate, in a value, a key or a list: it becomes a question mark, and the log is read."""
    at, half = "2017-03-06T17:00:00Z", "\ud83d"
    values = [{"at": at, "user": {"id": f"a{half}"}}, {"at": at, "user": {"id": [{half: f"é{half}"}]}}]
    (tmp_path / "app.log").write_text("".join(json.dumps(each) + "\n" for each in [*values, {"at": at, half: None}]))
    assert run(tmp_path / "lake", shop(tmp_path)).rows == 3
    assert {row["user.id"] for row in raw(tmp_path / "lake")} == {"a?", '[{"?": "é?"}]', None}


def test_unreadable_lines_stop_the_run_with_their_count(tmp_path: Path) -> None:
    """Three lines that are no objects are counted, and named by file and line."""
    (tmp_path / "app.log").write_bytes(line(1) + b"Traceback:\n\n[1]\n" + b'{"at": "\xff"}\n' + line(2))
    with pytest.raises(CorruptFile, match=r"3 lines of .*app\.log are no JSON objects, e\.g\. app\.log line 2: 'Trace"):
        run(tmp_path / "lake", shop(tmp_path))
    assert raw(tmp_path / "lake") == []


def test_unreadable_lines_can_be_taken_for_quarantine(tmp_path: Path) -> None:
    """With a column for them they arrive at the time of the line before, with nothing else in the row."""
    (tmp_path / "app.log").write_bytes(line(1) + b"Traceback: caf\xe9\n" + line(2))
    run(tmp_path / "lake", shop(tmp_path, unreadable="line"))
    rows = [(row["event_time"].minute, row["user.id"], row["line"]) for row in raw(tmp_path / "lake")]
    assert sorted(rows, key=str) == [(1, "1", None), (1, None, "Traceback: caf\ufffd"), (2, "2", None)]
    (tmp_path / "app.log").write_bytes(b"Traceback\n" + line(1))
    with pytest.raises(CorruptFile, match="1 lines"):
        run(tmp_path / "lake", shop(tmp_path, unreadable="line"))


def test_a_log_that_is_not_there_or_cut_short(tmp_path: Path) -> None:
    """No file at all, half a gzip, and a column for bad lines that is not declared."""
    with pytest.raises(SourceMissing, match="found no log"):
        run(tmp_path / "lake", shop(tmp_path))
    (tmp_path / "app.log.1.gz").write_bytes(gzip.compress(line(1))[:-9])
    with pytest.raises(CorruptFile, match=r"app\.log\.1\.gz is not a whole \.gz"):
        run(tmp_path / "lake", shop(tmp_path))
    (tmp_path / "s.yaml").write_text(
        shop(tmp_path)
        .model_dump_json(exclude_defaults=True)
        .replace('"kind":"logs"', '"kind":"logs","unreadable":"raw"')
    )
    with pytest.raises(BadShop, match=r"source\.unreadable reads the column 'raw'"):
        load_shop("s", tmp_path)


def test_an_unreadable_line_ends_in_quarantine(tmp_path: Path) -> None:
    """Through extract and clean: lines in = clean rows + quarantined, and the raw line stands in quarantine."""
    (tmp_path / "app.log").write_bytes(b"".join([bill(1), b"Traceback: no till\n", bill(2)]))
    mapping = {f"{name}_minor": {"constant": "0"} for name in MINOR} | {
        name: name for name in ("basket_id", "product_id")
    }
    mapping |= {"store_id": {"constant": "1"}, "quantity": "n", "currency": {"constant": "USD"}}
    logged = shop_of(
        {"kind": "logs", "path": str(tmp_path / "app.log"), "unreadable": "line"},
        columns={"at": "timestamp", "basket_id": "string", "product_id": "string", "n": "integer", "line": "string"},
        event_time={"timestamp": "at"},
        known_at={"column": "at", "overlap": "PT1H", "reason": "test"},
        mapping=mapping,
    )
    assert run(tmp_path / "lake", logged, MONDAY, 2).rows == 3
    lake = make_lake(tmp_path / "lake")
    sold = hand_shop(tmp_path / "source", [])
    since, until = sold.window()
    extract(lake, sold, "products", since=since, until=until)
    clean(lake, sold, "products", make_identity(tmp_path), since=since, until=until)
    report = clean(lake, logged, "transactions", make_identity(tmp_path), **days(MONDAY, 2, logged))
    assert (report.raw_rows, report.clean_rows, report.quarantined, report.days) == (3, 2, 1, 1)
    [bad] = pq.read_table(
        f"{lake.partition('quarantine', 'transactions', '2017-03-06')}/part.parquet", partitioning=None
    ).to_pylist()
    assert "basket_id_missing" in bad[BROKEN]
    assert json.loads(bad["source_row"])["line"] == "Traceback: no till"
