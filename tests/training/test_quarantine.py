"""Quarantine: counted, exported, repaired and put back, once, through the door that turned the rows away."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from data_contracts.errors import BadShop, SchemaMismatch, TableRuleBroken
from data_contracts.lake import as_of
from data_contracts.partitions import describe, encode, manifests, part_path, writing
from data_contracts.shop import Shop
from data_contracts.tables import Reject
from mercato.cli import app
from mercato.identity import Identity
from mercato.paths import Lake
from tests.lake_maker import MONDAY, days, hand_shop, line, make_identity, make_lake, tree
from training import quarantine
from training.clean import clean
from training.extract import extract
from training.quarantine import export, listing
from training.readmit import readmit

Place = tuple[Lake, Shop, Identity]
AT = datetime(2017, 3, 8, 12, tzinfo=UTC)
"""When the rows are put back: the Wednesday after."""
LINES = [
    line(1),
    line(2, product=11, quantity=0, household_id=8),
    line(3, quantity=-2),
    line(5),
    line(5, quantity=3),
    line(6, sales_value=1.005),
]
"""One good line; two without goods, two that contradict each other, one that is no whole number of cents."""


def made(folder: Path, lines: list[dict[str, object]]) -> Shop:
    """A shop below `folder` whose Monday was extracted and cleaned."""
    shop, lake, people = hand_shop(folder / "source", lines), make_lake(folder), make_identity(folder)
    since, until = shop.window()
    extract(lake, shop, "products", since=since, until=until)
    clean(lake, shop, "products", people, since=since, until=until)
    extract(lake, shop, "transactions", **days(MONDAY, 1, shop))
    clean(lake, shop, "transactions", people, **days(MONDAY, 1, shop))
    return shop


@pytest.fixture(scope="module")
def monday(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Shop]:
    """The shop of LINES, made once; each test gets a copy."""
    folder = tmp_path_factory.mktemp("monday")
    return folder, made(folder, LINES)


@pytest.fixture
def place(monday: tuple[Path, Shop], tmp_path: Path) -> tuple[Lake, Shop, Identity]:
    """The lake, shop and people of LINES, for one test."""
    folder, shop = monday
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return make_lake(tmp_path), shop, make_identity(tmp_path)


def exported(lake: Lake, shop: Shop, file: Path) -> list[dict[str, Any]]:
    export(lake, shop, "transactions", file, **days(MONDAY, 3, shop))
    return [json.loads(text) for text in file.read_text().splitlines()]


def known(lake: Lake, at: datetime) -> dict[str, int]:
    """Basket -> units, as known before `at`."""
    rows = as_of(lake, "transactions", event_before=at, known_before=at).to_pyarrow().to_pylist()
    return {row["basket_id"]: row["quantity"] for row in rows}


def test_counts_per_day_and_rule_have_examples(place: Place) -> None:
    """Five bad lines under three rules, each with its source's values and nobody's id."""
    lake, shop, _ = place
    found = listing(lake, shop, ["products", "transactions"], **days(MONDAY, 1, shop))
    assert [(each["rule"], each["rows"], each["readmitted"]) for each in found] == [
        ("key_conflict", 2, 0),
        ("quantity_positive", 2, 0),
        ("sales_minor_unreadable", 1, 0),
    ]
    assert {each["day"] for each in found} == {"2017-03-06"}
    assert '"basket_id":5' in found[0]["example"]
    assert "household_id" not in str(found)
    assert listing(lake, shop, ["transactions"], **days(MONDAY + timedelta(days=1), 1, shop)) == []
    with pytest.raises(BadShop, match="has no table 'transaction'"):
        listing(lake, shop, ["transaction"], **days(MONDAY, 1, shop))


def test_of_equal_rows_each_is_counted_as_itself(place: Place) -> None:
    """Every row twice and every second one put back: half are readmitted, by the ids that the export gives."""
    lake, shop, _ = place
    (part,) = manifests(lake, "quarantine", "transactions")
    twice = pa.concat_tables([pq.read_table(part_path(lake, part), partitioning=None)] * 2)
    data = encode(twice)
    known = part.model_dump(include={"table", "layer", "ds", "contract", "inputs"})
    with writing(lake) as out:
        out.put(data, describe(twice, data, **known))
    ((_, rows),) = quarantine._days(lake, shop, "transactions", *days(MONDAY, 1, shop).values())
    assert len({row["_row"] for row in rows}) == 10
    quarantine.write_receipt(lake, "transactions", [row["_row"] for row in rows[5:]], AT)
    found = listing(lake, shop, ["transactions"], **days(MONDAY, 1, shop))
    assert [(each["rows"], each["readmitted"]) for each in found] == [(4, 2), (4, 2), (2, 1)]


def test_counting_brings_no_row_into_python(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million bad rows are counted where they lie."""
    lake, shop, _ = place
    monkeypatch.setattr(quarantine, "_days", lambda *_: pytest.fail("rows were read one by one"))
    assert len(listing(lake, shop, ["transactions"], **days(MONDAY, 1, shop))) == 3


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_an_export_says_where_each_row_comes_from(place: Place, tmp_path: Path, ending: str) -> None:
    """Each form has the source's columns and `_customer_key` for the id; unrepaired, every row stays out as it was."""
    lake, shop, people = place
    before = tree(lake)
    said = export(lake, shop, "transactions", tmp_path / f"rows.{ending}", **days(MONDAY, 1, shop))
    assert said["rows"] == 5
    found = readmit(lake, shop, "transactions", people, tmp_path / f"rows.{ending}", at=AT)
    assert (found.rows, found.still_broken, found.readmitted) == (5, 5, 0)
    assert found.reasons == {"key_conflict": 2, "quantity_positive": 2, "sales_minor_unreadable": 1}
    assert "quantity_positive: {'store_id': 3, 'basket_id': 2" in found.examples[0]
    assert tree(lake) == before


def test_repaired_rows_come_back_once(place: Place, tmp_path: Path) -> None:
    """Rows in = readmitted + still broken + already there, both times; the second time no byte changes."""
    lake, shop, people = place
    rows = exported(lake, shop, tmp_path / "rows.jsonl")
    for row in rows:
        row["quantity"] = 2 if row["basket_id"] == 2 else row["quantity"]
        row["sales_value"] = 1.01 if row["basket_id"] == 6 else row["sales_value"]
    file = tmp_path / "mended.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    found = readmit(lake, shop, "transactions", people, file, at=AT)
    assert (found.rows, found.readmitted, found.already_there, found.still_broken) == (6, 2, 1, 3)
    assert found.reasons == {"quantity_positive": 1, "key_conflict": 2}
    after = tree(lake)
    again = readmit(lake, shop, "transactions", people, file, at=AT + timedelta(hours=1))
    assert (again.rows, again.readmitted, again.already_there, again.still_broken) == (6, 0, 3, 3)
    assert tree(lake) == after
    left = listing(lake, shop, ["transactions"], **days(MONDAY, 1, shop))
    assert {each["rule"]: each["readmitted"] for each in left} == {
        "key_conflict": 0, "quantity_positive": 1, "sales_minor_unreadable": 1,
    }  # fmt: skip
    assert len(exported(lake, shop, tmp_path / "rest.jsonl")) == 3


def test_a_repair_is_known_when_it_was_made(place: Place, tmp_path: Path) -> None:
    """Before the moment of readmission the lake answers as it did; after it, it holds the row of the same household."""
    lake, shop, people = place
    [row] = [row for row in exported(lake, shop, tmp_path / "rows.jsonl") if row["basket_id"] == 2]
    (tmp_path / "one.jsonl").write_text(json.dumps({**row, "quantity": 2}))
    readmit(lake, shop, "transactions", people, tmp_path / "one.jsonl", at=AT)
    assert known(lake, AT) == {"1": 1}
    assert known(lake, AT + timedelta(seconds=1)) == {"1": 1, "2": 2}
    path = f"{lake.partition('clean', 'transactions', '2017-03-08')}/part.parquet"
    [back] = pq.read_table(path, partitioning=None).to_pylist()
    assert back["customer_key"] == people.find(shop.name, "8") == row["_customer_key"]
    assert back["event_time"] == datetime(2017, 3, 6, 17, tzinfo=UTC)
    assert back["known_at"] == AT


def test_a_readmission_killed_before_it_cleaned_is_completed(place: Place, tmp_path: Path) -> None:
    """The row lies in raw and nowhere else; the same file again brings it into clean."""
    lake, shop, people = place
    [row] = [row for row in exported(lake, shop, tmp_path / "rows.jsonl") if row["basket_id"] == 2]
    (tmp_path / "one.jsonl").write_text(json.dumps({**row, "quantity": 2}))
    with (
        patch("training.readmit.clean", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        readmit(lake, shop, "transactions", people, tmp_path / "one.jsonl", at=AT)
    assert "2" not in known(lake, AT + timedelta(days=1))
    found = readmit(lake, shop, "transactions", people, tmp_path / "one.jsonl", at=AT + timedelta(hours=1))
    assert (found.already_there, found.clean_rows) == (1, 1)
    assert known(lake, AT + timedelta(days=1))["2"] == 2


def test_a_row_that_a_wrong_rule_turned_away_comes_back_on_its_own_day(place: Place, tmp_path: Path) -> None:
    """The rule was mended, the row is as it was: raw has it already, and clean gets it as it was known."""
    lake, shop, people = place
    table = shop.tables["transactions"]
    strict = Reject(name="no_such_basket", column="basket_id", matches="1", reason="a wrong rule")
    wrong = table.model_copy(update={"reject": (*table.reject, strict)})
    mistaken = shop.model_copy(update={"tables": {**shop.tables, "transactions": wrong}})
    clean(lake, mistaken, "transactions", people, **days(MONDAY, 1, shop))
    assert manifests(lake, "clean", "transactions")[0].rows == 0
    [row] = [row for row in exported(lake, shop, tmp_path / "rows.jsonl") if row["basket_id"] == 1]
    (tmp_path / "one.jsonl").write_text(json.dumps(row))
    found = readmit(lake, shop, "transactions", people, tmp_path / "one.jsonl", at=AT)
    assert (found.readmitted, found.already_there) == (0, 1)
    assert known(lake, AT) == {"1": 1}


def test_cleaning_again_keeps_what_was_put_back(place: Place, tmp_path: Path) -> None:
    """Repaired rows lie in raw: the nightly extraction and cleaning of those days change no byte of clean."""
    lake, shop, people = place
    [row] = [row for row in exported(lake, shop, tmp_path / "rows.jsonl") if row["basket_id"] == 6]
    (tmp_path / "one.jsonl").write_text(json.dumps({**row, "sales_value": 1.01}))
    readmit(lake, shop, "transactions", people, tmp_path / "one.jsonl", at=AT)
    before = {path: sha for path, sha in tree(lake).items() if path.startswith("clean")}
    week = days(MONDAY, 7, shop)
    extract(lake, shop, "transactions", **week)
    clean(lake, shop, "transactions", people, **week)
    assert {path: sha for path, sha in tree(lake).items() if path.startswith("clean")} == before


def test_a_forgotten_customers_row_stays_out(place: Place, tmp_path: Path) -> None:
    """After erasure nothing turns the pseudonym back into the shop's id, and no new one is minted."""
    lake, shop, people = place
    [row] = [row for row in exported(lake, shop, tmp_path / "rows.jsonl") if row["basket_id"] == 2]
    (tmp_path / "one.jsonl").write_text(json.dumps({**row, "quantity": 2}))
    people.forget(shop.name, "8")
    found = readmit(lake, shop, "transactions", people, tmp_path / "one.jsonl", at=AT)
    assert found.reasons == {"customer_not_found": 1}
    assert people.find(shop.name, "8") is None


def test_rows_from_the_future_stay_out(place: Place, tmp_path: Path) -> None:
    """A sale of Friday cannot be put back on Wednesday."""
    lake, shop, people = place
    [row] = [row for row in exported(lake, shop, tmp_path / "rows.jsonl") if row["basket_id"] == 6]
    later = {**row, "sales_value": 1.01, "transaction_timestamp": "2017-03-10 17:00:00"}
    (tmp_path / "one.jsonl").write_text(json.dumps(later))
    found = readmit(lake, shop, "transactions", people, tmp_path / "one.jsonl", at=AT)
    assert found.reasons == {"not_known_yet": 1}


def test_a_broken_table_rule_keeps_the_whole_file_out(place: Place, tmp_path: Path) -> None:
    """A hundred repaired sales of a product that the catalogue lacks would stop the next run: nothing is written."""
    lake, shop, people = place
    row = exported(lake, shop, tmp_path / "rows.jsonl")[0]
    made = [{**row, "basket_id": 1000 + n, "product_id": 99, "quantity": 1} for n in range(100)]
    (tmp_path / "many.jsonl").write_text("".join(json.dumps(each) + "\n" for each in made))
    before = tree(lake)
    with pytest.raises(TableRuleBroken, match="product_id_in_products: found 0 percent"):
        readmit(lake, shop, "transactions", people, tmp_path / "many.jsonl", at=AT)
    assert tree(lake) == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("basket_id\n1\n", r"missing columns \['store_id'"),
        ("basket_id,colour\n1,red\n", r"unknown columns \['colour'\]"),
        ('"basket_id\n', "cannot be read"),
        ("basket_id,store_id\n1\n", "row 2 has another number of cells"),
    ],
)
def test_a_file_of_something_else_is_refused(place: Place, tmp_path: Path, text: str, message: str) -> None:
    """The message says which columns are missing or unknown, or what cannot be read."""
    lake, shop, people = place
    (tmp_path / "other.csv").write_text(text)
    with pytest.raises(SchemaMismatch, match=message):
        readmit(lake, shop, "transactions", people, tmp_path / "other.csv", at=AT)


def test_a_value_of_another_type_names_its_column(place: Place, tmp_path: Path) -> None:
    """Ten in words is no number."""
    lake, shop, people = place
    row = exported(lake, shop, tmp_path / "rows.jsonl")[0]
    (tmp_path / "one.jsonl").write_text(json.dumps({**row, "quantity": "ten"}))
    with pytest.raises(SchemaMismatch, match="column 'quantity' cannot be read as int64"):
        readmit(lake, shop, "transactions", people, tmp_path / "one.jsonl", at=AT)


def test_the_commands_go_round(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`export`, mend, `readmit`, `list`: JSON on stdout; a table that the shop lacks is bad data, 65."""
    lake, _, _ = place
    monkeypatch.setenv("MERCATO_DATA_URL", lake.root)
    monkeypatch.setenv("MERCATO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MERCATO_IDENTITY_KEY", "k" * 32)

    def run(*asked: str) -> Any:
        result = CliRunner().invoke(app, ["quarantine", *asked])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    file = str(tmp_path / "rows.csv")
    assert run("export", "transactions", "--rule", "sales_minor_unreadable", "--to", file)["rows"] == 1
    Path(file).write_text(Path(file).read_text().replace("1.005", "1.01"))
    assert run("readmit", "transactions", file)["readmitted"] == 1
    assert run("readmit", "transactions", file)["already_there"] == 1
    listed = {each["rule"]: (each["rows"], each["readmitted"]) for each in run("list", "--since", "2017-03-06")}
    assert listed == {"key_conflict": (2, 0), "quantity_positive": (2, 0), "sales_minor_unreadable": (1, 1)}
    assert CliRunner().invoke(app, ["quarantine", "export", "orders", "--to", file]).exit_code == 65
