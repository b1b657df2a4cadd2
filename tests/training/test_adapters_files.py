"""Files of any dialect, encoding and packing give the same rows; what cannot be read is named."""

import gzip
import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ibis
import pandas as pd
import pytest

from data_contracts.contract import load_contract
from data_contracts.errors import CorruptFile, SchemaMismatch, SourceMissing
from tests.training.sources import BILLS, COLUMNS, cleaned, cleaned_from_parquet, files, raw, run, shop_of
from training.mapping import Customers, mapped

ROWS = [("Müller", "2017-03-06T17:00:00Z", "1", "1.50"), ("b;2", "2017-03-06T18:00:00Z", "2", "1234.50")]
HEADER = ",".join(COLUMNS)
PLAIN = "\n".join([HEADER, *(",".join(row) for row in ROWS)]) + "\n"
GERMAN = (
    'Kassenexport\nbasket;paid;quantity;amount\nMüller;06.03.2017 12:00;1;1,50\n"b;2";06.03.2017 13:00;2;"1.234,50"\n'
)
LINES = "".join(json.dumps(dict(zip(COLUMNS, row, strict=True)), ensure_ascii=False) + "\n" for row in ROWS)


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def values(folder: Path) -> list[tuple[Any, ...]]:
    return [(row["basket"], row["event_time"], row["quantity"], row["amount"]) for row in raw(folder)]


EXPECTED = [
    ("Müller", datetime(2017, 3, 6, 17, tzinfo=UTC), "1", "1.50"),
    ("b;2", datetime(2017, 3, 6, 18, tzinfo=UTC), "2", "1234.50"),
]


@pytest.mark.parametrize(
    "make",
    [
        lambda at: files(write(at / "a.csv", PLAIN.encode())),
        lambda at: files(write(at / "a.csv", ("\ufeff" + PLAIN).replace("\n", "\r\n").encode())),
        lambda at: files(write(at / "a.csv.gz", gzip.compress(PLAIN.encode()))),
        lambda at: files(write(at / "a.csv", PLAIN.encode("utf-16")), encoding="utf-16"),
        lambda at: files(write(at / "a.txt.gz", gzip.compress(PLAIN.encode("cp1252"))), encoding="cp1252"),
        lambda at: files(zipped(at / "a.zip", {"in/a.csv": PLAIN.encode("cp1252")}), encoding="cp1252"),
        lambda at: files(write(at / "a.tsv", PLAIN.replace(",", "\t").encode()), delimiter="\t"),
        lambda at: files(write(at / "a.csv", PLAIN.split("\n", 1)[1].encode()), header=False),
        lambda at: files(write(at / "a.jsonl", LINES.encode())),
        lambda at: files(zipped(at / "a.zip", {"1.jsonl": LINES.encode(), "readme": b"x"})) | {"member": "*.jsonl"},
    ],
)
def test_the_same_rows_from_every_packing(tmp_path: Path, make) -> None:
    """UTF-8 with and without mark, UTF-16, cp1252, gzip, zip, tabs, no header, JSON lines: the same text arrives."""
    source = make(tmp_path)
    assert run(tmp_path / "lake", shop_of(source)).rows == 2
    assert values(tmp_path / "lake") == EXPECTED


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_text_and_parquet_are_the_same_once_clean(tmp_path: Path, kind: str) -> None:
    """The same bills as Parquet, as a German CSV in UTF-16 and as JSON lines leave the same clean bytes."""
    frame = pd.DataFrame(BILLS)
    source = files(tmp_path / f"bills.{kind}")
    if kind == "csv":
        source = files(tmp_path / "bills.csv", delimiter=";", decimal=",", encoding="utf-16")
        frame.to_csv(tmp_path / "bills.csv", index=False, sep=";", decimal=",", encoding="utf-16")
    else:
        frame.to_json(tmp_path / "bills.jsonl", orient="records", lines=True, date_format="iso")
    assert len(cleaned_from_parquet()) == 2
    assert cleaned(tmp_path, source) == cleaned_from_parquet()


def test_a_german_export_needs_only_its_dialect(tmp_path: Path) -> None:
    """A title line, semicolons, cp1252, decimal commas with grouping points, and local times in a national format."""
    path = write(tmp_path / "a.csv", GERMAN.encode("cp1252"))
    source = files(path, delimiter=";", encoding="cp1252", decimal=",", thousands=".", skip=1)
    told = {"timestamp": "paid", "zone": "America/New_York", "format": "%d.%m.%Y %H:%M"}
    run(tmp_path / "lake", shop_of(source, event_time=told))
    assert values(tmp_path / "lake") == EXPECTED


def test_files_of_a_glob_are_one_table_and_nulls_have_many_spellings(tmp_path: Path) -> None:
    """Two files join; the stated spellings of nothing are null, in quotes too, and a quoted line break is a value."""
    write(tmp_path / "1.csv", f'{HEADER}\n"two\nlines",2017-03-06T17:00:00Z,N/A,1\n'.encode())
    write(tmp_path / "2.csv", f'{HEADER}\nb,2017-03-06T18:00:00Z,"",1\n'.encode())
    run(tmp_path / "lake", shop_of(files(tmp_path / "*.csv", nulls=["", "N/A"])))
    assert [(row["basket"], row["quantity"]) for row in raw(tmp_path / "lake")] == [("two\nlines", None), ("b", None)]


def test_a_value_that_does_not_convert_is_left_for_quarantine(tmp_path: Path) -> None:
    """Text where a whole number is due, and 1.5 pieces, break the rule `quantity_unreadable`; the raw text stays."""
    lines = [f"b{i},2017-03-06T17:00:00Z,{quantity},1.50" for i, quantity in enumerate(["2", "two", "1.5", "3.0"])]
    path = write(tmp_path / "a.csv", "\n".join([HEADER, *lines]).encode())
    shop = shop_of(files(path))
    run(tmp_path / "lake", shop)
    source = ibis.memtable(raw(tmp_path / "lake"))
    missing = {"customer_key", "product_id", "store_id", "currency", "retail_discount_minor"}
    missing |= {"coupon_discount_minor", "coupon_match_discount_minor"}
    source = source.mutate(**dict.fromkeys(missing, ibis.literal("0")))
    rows, rules = mapped(source, shop, load_contract("transactions"), Customers(None))
    found = rows.mutate(bad=rules["quantity_unreadable"]).order_by("basket_id").execute()
    assert found["bad"].tolist() == [False, True, True, False]
    assert found["quantity"].fillna(-1).tolist() == [2, -1, -1, 3]
    assert found["_source"][1]["quantity"] == "two"


def test_a_dot_or_quote_may_belong_to_a_json_key(tmp_path: Path) -> None:
    """`a.b.c` is read from every spelling that has this name; a quote, `/` and `~` in a key are nothing special."""
    at, odd = "2017-03-06T12:00:00Z", 'say "x.y" /~1'
    lines = [{"a": {"b": {"c": 1}}}, {"a.b.c": 2}, {"a.b": {"c": 3}}, {"a": {"b.c": 4}, odd: 5}]
    path = write(tmp_path / "a.jsonl", "".join(json.dumps({"at": at, **each}) + "\n" for each in lines).encode())
    columns = dict.fromkeys(["at", "a.b.c", odd], "string")
    told = {"columns": columns, "event_time": {"timestamp": "at"}, "mapping": {}}
    run(tmp_path / "lake", shop_of(files(path), **told))
    assert sorted((row["a.b.c"], row[odd]) for row in raw(tmp_path / "lake")) == [
        ("1", None), ("2", None), ("3", None), ("4", "5")
    ]  # fmt: skip


def test_nested_json_has_dotted_columns(tmp_path: Path) -> None:
    """An object inside a record becomes columns; a declared object and a list stay JSON; an absent value is null."""
    at = "2017-03-06T12:00:00-05:00"
    lines = [{"id": 1, "at": at, "buyer": {"no": 7}, "tags": ["a", 1]}, {"id": 2, "at": at, "extra": {"x": 1}}]
    path = write(tmp_path / "a.jsonl", "".join(json.dumps(each) + "\n" for each in lines).encode())
    columns = dict.fromkeys(["id", "at", "buyer.no", "tags", "extra"], "string")
    told = {"columns": columns, "event_time": {"timestamp": "at"}, "mapping": {}}
    run(tmp_path / "lake", shop_of(files(path), **told))
    found = [{name: row[name] for name in columns} for row in raw(tmp_path / "lake")]
    assert found[0] == {"id": "1", "at": at, "buyer.no": "7", "tags": '["a",1]', "extra": None}
    assert found[1] == {"id": "2", "at": at, "buyer.no": None, "tags": None, "extra": '{"x":1}'}
    assert raw(tmp_path / "lake")[0]["event_time"] == datetime(2017, 3, 6, 17, tzinfo=UTC)
    told["columns"] = dict.fromkeys(["id", "at", "tags", "extra"], "string")
    with pytest.raises(SchemaMismatch, match=r"unknown column 'buyer\.no'"):
        run(tmp_path / "lake", shop_of(files(path), **told))


@pytest.mark.parametrize(
    ("name", "data", "csv", "refusal"),
    [
        ("a.csv", f"{HEADER}\na,b,1,2\na,b,1\n".encode(), {}, (CorruptFile, r"line 3 of a\.csv has 3 fields, need 4")),
        ("a.csv", f"{HEADER}\na,b,1,2,3\n".encode(), {}, (CorruptFile, r"line 2 of a\.csv has 5 fields, need 4")),
        ("a.csv", f'{HEADER}\na,"b,1,2\n'.encode(), {}, (CorruptFile, r"line 2 of a\.csv has a quote that is never")),
        ("a.csv", f"{HEADER}\né,b,1,2\n".encode("cp1252"), {}, (CorruptFile, r"a\.csv.*check `source\.csv\.encoding`")),
        ("a.csv", b"\xff\xfea\x00\xff\xdb", {"encoding": "utf-16"}, (CorruptFile, r"a\.csv is not utf-16")),
        ("a.csv", PLAIN.encode("utf-16-le"), {"encoding": "utf-16"}, (CorruptFile, r"a\.csv is not utf-16 \(.*BOM")),
        ("a.csv", f"{HEADER}\na,b,1,2\r\na,b,1,2\n".encode(), {}, (CorruptFile, r"a\.csv mixes line ends")),
        ("a.csv", b"", {}, (CorruptFile, "no header line")),
        ("a.csv.gz", gzip.compress(PLAIN.encode(), mtime=0)[:-12], {}, (CorruptFile, r"a\.csv\.gz")),
        ("a.zip", b"PK\x03\x04 half", {}, (CorruptFile, r"not a whole, unencrypted \.zip")),
        ("a.csv", b"basket,paid,basket\n", {}, (SchemaMismatch, "'basket' twice")),
        ("a.csv", b"basket,paid,n,amount\n", {}, (SchemaMismatch, "unknown column 'n'.*missing column 'quantity'")),
        ("a.dat", PLAIN.encode(), {}, (SourceMissing, r"set `source\.format`")),
        ("a.jsonl", LINES.encode() + b'{"basket"\n', {}, (CorruptFile, r"line 3 of a\.jsonl is not JSON")),
        ("a.jsonl", b"[1]\n", {}, (CorruptFile, "no JSON objects")),
        ("a.jsonl.gz", gzip.compress(LINES.encode(), mtime=0)[:-12], {}, (CorruptFile, r"a\.jsonl\.gz")),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, data: bytes, csv, refusal) -> None:
    """A ragged row, wrong bytes, half a file or another schema: file, line and next step, and nothing is written."""
    write(tmp_path / name, data)
    with pytest.raises(refusal[0], match=refusal[1]):
        run(tmp_path / "lake", shop_of(files(tmp_path / name, **csv)))
    assert raw(tmp_path / "lake") == []


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file without permission is no broken file: the error says whose permission is missing."""
    write(tmp_path / name, b"")
    monkeypatch.setattr("os.access", lambda path, _mode: Path(path).name != name)
    with pytest.raises(SourceMissing, match=rf"1 of 1 files may not be read \(permission denied\), e\.g\. .*{name}"):
        run(tmp_path / "lake", shop_of(files(tmp_path / name)))


def test_a_path_has_home_and_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`$VARIABLES` are filled in; one that is not set, and where nothing was found, are named."""
    write(tmp_path / "a.csv", PLAIN.encode())
    monkeypatch.setenv("EXPORTS", str(tmp_path))
    assert run(tmp_path / "lake", shop_of(files("$EXPORTS/a.csv"))).rows == 2
    with pytest.raises(SourceMissing, match="no file matches"):
        run(tmp_path / "lake", shop_of(files("${EXPORTS}/b*.csv")))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceMissing, match=f"no file matches '{tmp_path}/b.csv'.*begins where mercato is run"):
        run(tmp_path / "lake", shop_of(files("b.csv")))
    monkeypatch.delenv("EXPORTS")
    with pytest.raises(SourceMissing, match="EXPORTS, which is not set; export EXPORTS="):
        run(tmp_path / "lake", shop_of(files("$EXPORTS/a.csv")))


def test_files_of_one_table_have_one_header(tmp_path: Path) -> None:
    """A second file with its columns in another order is refused by name: DuckDB would swap values in silence."""
    write(tmp_path / "1.csv", PLAIN.encode())
    write(tmp_path / "2.csv", b"paid,basket,quantity,amount\n")
    with pytest.raises(SchemaMismatch, match=r"2\.csv has the columns"):
        run(tmp_path / "lake", shop_of(files(tmp_path / "*.csv")))


def test_a_source_may_call_its_time_as_raw_does(tmp_path: Path) -> None:
    """A column `event_time` that is the event's time is fine; any other use of raw's own names is refused."""
    columns = {"basket": "string", "event_time": "timestamp"}
    write(tmp_path / "a.csv", b"basket,event_time\nb,2017-03-06T17:00:00Z\n")
    own = {"columns": columns, "event_time": {"timestamp": "event_time"}, "mapping": {}}
    run(tmp_path / "lake", shop_of(files(tmp_path / "a.csv"), **own))
    assert raw(tmp_path / "lake")[0]["event_time"] == datetime(2017, 3, 6, 17, tzinfo=UTC)
    write(tmp_path / "b.csv", b"basket,event_time,known_at\n")
    own["columns"] = {**columns, "known_at": "timestamp"}
    with pytest.raises(SchemaMismatch, match="'known_at' has a name that raw/ needs"):
        run(tmp_path / "lake", shop_of(files(tmp_path / "b.csv"), **own))


def test_a_time_that_cannot_be_read_is_counted(tmp_path: Path) -> None:
    """One row of two does not fit the format: the run stops with a count and the row, not with a traceback."""
    write(tmp_path / "a.csv", f"{HEADER}\na,06.03.2017,1,1\nb,31.02.2017,1,1\n".encode())
    told = {"timestamp": "paid", "format": "%d.%m.%Y", "zone": "America/New_York"}
    with pytest.raises(SchemaMismatch, match=r"1 rows .*no event time.*31\.02\.2017"):
        run(tmp_path / "lake", shop_of(files(tmp_path / "a.csv"), event_time=told))


def test_an_array_of_objects_gathers_rare_keys_into_one_column(tmp_path: Path) -> None:
    """`attr_*` takes what no column names, in the keys' order; a product without any has null; a stranger is shown."""
    import ibis

    from training.adapters.json_lines import JsonLines

    rows = [
        {"id": "1", "attr_type": "Mouse", "attr_cable_length": 1.8, "attr_~x/y": "z"},
        {"id": "2", "attr_type": "Desk", "new": 1},
    ]
    path = tmp_path / "rows.json"
    path.write_text("\n" + json.dumps(rows, indent=1))
    source = JsonLines((path,), {"id": "string", "attr_type": "string", "attr_*": "string"})
    assert source.schema().names == ["id", "attr_type", "attr_*", "new"]
    con = ibis.duckdb.connect()
    assert source.whole(con).to_pyarrow().to_pylist() == [
        {"id": "1", "attr_type": "Mouse", "attr_*": "cable length: 1.8; ~x/y: z"},
        {"id": "2", "attr_type": "Desk", "attr_*": None},
    ]
