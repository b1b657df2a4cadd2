"""A drafted shop: right where the file says it, open where nobody can know, and never silently wrong."""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from data_contracts.errors import BadShop, CorruptFile
from data_contracts.shop import load_shop
from tests.lake_maker import SAMPLE
from tests.training.sources import raw, run
from training.draft import draft, write
from training.look import look
from training.roles import plain_name

INVOICES = """InvoiceNo;StockCode;Description;Quantity;InvoiceDate;UnitPrice;CustomerID;Country
536365;85123A;"WHITE HOLDER; T-LIGHT";6;12/01/2010 08:26;2,55;17850;Île-de-France
536365;71053;WHITE LANTERN;-6;12/13/2010 08:26;1.003,39;;France
C36366;71053;WHITE LANTERN;8;12/07/2010 09:00;2,75;17851;N/A
"""
ANSWERS = {
    'zone: ""  # FILL IN: the': "zone: Europe/Paris  # FILL IN: the",
    'currency: ""': "currency: EUR",
    'constant: ""': "constant: EUR",
    'zone: ""}': "zone: Europe/Paris}",
    "known_at: {}": "known_at: {delay: PT1H, reason: told by the shop}",
}


def answered(text: str) -> str:
    for gap, answer in ANSWERS.items():
        text = text.replace(gap, answer)
    return text


@pytest.fixture
def invoices(tmp_path: Path) -> Path:
    path = tmp_path / "2011 invoices.csv"
    path.write_bytes(INVOICES.encode("cp1252"))
    return path


def test_the_built_in_shop_is_found_again(tmp_path: Path) -> None:
    """From its eight files alone, every table gets the contract and the mapping that its own YAML has."""
    for path in SAMPLE.glob("*.parquet"):
        pq.write_table(pq.read_table(path).slice(0, 2000), tmp_path / path.name)
    made = draft([str(path) for path in sorted(tmp_path.glob("*.parquet"))], "again")
    found = yaml.safe_load(made.text)["tables"]
    wanted = load_shop("complete_journey").tables
    assert found.keys() == {name for name in wanted if wanted[name].source.kind == "package_parquet"}
    for table, spec in found.items():
        stated = {name: rule.reads for name, rule in wanted[table].mapping.items()}
        assert {name: _reads(rule) for name, rule in spec["mapping"].items()} == stated
        assert spec["columns"] == dict(wanted[table].columns)


def _reads(rule: object) -> object:
    if isinstance(rule, str):
        return rule
    assert isinstance(rule, dict)
    return next((rule[kind] for kind in ("identity", "money", "timestamp") if kind in rule), "")


def test_a_messy_file_is_read_with_the_drafted_dialect(tmp_path: Path, invoices: Path) -> None:
    """Semicolons, cp1252, grouped decimal commas, American dates and spelled nulls are found; once the gaps are
    answered the shop loads, and its rows arrive.
    """
    made = draft([str(invoices)], "paris")
    assert made.gaps[:2] == ("zone", "currency")
    assert {"tables.transactions.known_at", "tables.transactions.mapping.currency"} <= set(made.gaps)
    (tmp_path / "paris.yaml").write_text(answered(made.text))
    shop = load_shop("paris", tmp_path)
    bills, products = shop.table("transactions"), shop.table("products")
    assert (bills.event_time.timestamp, bills.event_time.format) == ("InvoiceDate", "%m/%d/%Y %H:%M")
    assert (bills.mapping["sales_minor"].money, bills.mapping["sales_minor"].times) == ("UnitPrice", "Quantity")
    assert products.changes is not None
    assert (products.changes.of, products.changes.columns) == ("StockCode", ("Description",))
    assert str(shop.history.since) == "2010-12-01"
    run(tmp_path / "lake", shop, shop.window()[0], 14)
    rows = [(row["Description"], row["UnitPrice"], row["CustomerID"], row["Country"]) for row in raw(tmp_path / "lake")]
    assert rows == [
        ("WHITE HOLDER; T-LIGHT", "2.55", "17850", "Île-de-France"),
        ("WHITE LANTERN", "2.75", "17851", None),
        ("WHITE LANTERN", "1003.39", None, "France"),
    ]


@pytest.mark.parametrize(
    ("open_again", "named"),
    [
        ('zone: ""  # FILL IN: the', "found the zone ''"),
        ('currency: ""', "currency"),
        ('constant: ""', r"tables\.transactions\.mapping\.currency: found none of column"),
        ('zone: ""}', r"tables\.transactions\.event_time\.zone: found the zone ''"),
        ("known_at: {}", r"tables\.transactions\.known_at\.reason"),
    ],
)
def test_each_gap_is_refused_by_name(tmp_path: Path, invoices: Path, open_again: str, named: str) -> None:
    """With all gaps answered but one, the shop does not load, and the error names the one."""
    text = draft([str(invoices)], "paris").text
    answer = ANSWERS[open_again]
    (tmp_path / "paris.yaml").write_text(answered(text).replace(answer, open_again))
    with pytest.raises(BadShop, match=named):
        load_shop("paris", tmp_path)


def test_a_date_that_reads_two_ways_stays_open(tmp_path: Path) -> None:
    """01/02/2017 may be either; no row decides, so the draft says both and the shop does not load."""
    path = tmp_path / "lines.csv"
    path.write_text("order_id,sku,qty,amount,paid\n1,a,1,2.5,01/02/2017\n2,b,1,2.5,03/04/2017\n")
    made = draft([str(path)])
    assert made.name == "lines"
    assert "every row reads as %d/%m/%Y or %m/%d/%Y" in made.text
    assert "tables.transactions.event_time" in made.gaps
    (tmp_path / "lines.yaml").write_text(answered(made.text))
    with pytest.raises(BadShop, match=r"event_time: found none of timestamp, week, constant"):
        load_shop("lines", tmp_path)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (",order_id,sku,qty,amount,paid\n0,1,a,1,2.5,2017-03-06\n1,2,b,1,2.5,2017-03-06\n", 1),
        ("order_id;sku;qty;amount;paid;\n1;a;1;2,5;2017-03-06;\n2;b;1;2,5;2017-03-06;\n", 6),
    ],
)
def test_a_blank_header_cell_is_called_by_its_place(tmp_path: Path, text: str, place: int) -> None:
    """The index that pandas writes, and a delimiter that ends each line, leave the other names as they are; the rows
    are read so too. Where no contract fits, the blank one is named.
    """
    path = tmp_path / "lines[1].csv"
    path.write_text(text)
    made = draft([str(path)], "lines")
    columns = list(yaml.safe_load(made.text)["tables"]["transactions"]["columns"])
    assert columns[place - 1] == f"column_{place}"
    assert [each for each in columns if not each.startswith("column")] == ["order_id", "sku", "qty", "amount", "paid"]
    (tmp_path / "lines.yaml").write_text(answered(made.text))
    assert run(tmp_path / "lake", load_shop("lines", tmp_path)).rows == 2
    path.write_text(",ds\n0,a\n")
    with pytest.raises(BadShop, match=r"its columns: column_1, ds \(without a name in it: column_1\)"):
        draft([str(path)])
    path.write_text("7,,red\n8,,red\n")
    assert not look(str(path)).source.csv.header


def test_odd_names_leave_the_yaml_whole(tmp_path: Path, invoices: Path) -> None:
    """Line breaks, and words that YAML takes for truth, stay the names that they are, also of a file left over; each
    gap has its full name.
    """
    other = tmp_path / "other.csv"
    other.write_text('on,"a\nb",~\n1,2,3\n')
    notes = tmp_path / "sales.csv"
    notes.write_text(
        'order_id,sku,qty,amount,on,~,"a\nb",paid,"paid\nat"\n' + "1,a,1,2.5,x,y,z,2017-03-06,2017-03-06\n"
    )
    made = draft([str(notes), str(other)])
    found = yaml.safe_load(made.text)["tables"]["transactions"]
    assert list(found["columns"]) == ["order_id", "sku", "qty", "amount", "on", "~", "a\nb", "paid", "paid\nat"]
    assert "# " + str(other) in made.text
    made = draft([str(invoices)], "paris")
    assert "tables.products.known_at" in made.gaps
    assert all(each.split(".")[0] in {"zone", "currency", "tables"} for each in made.gaps)


def test_json_lines_and_a_watermark(tmp_path: Path) -> None:
    """Nested names, an offset in the text, and a column that stamps rows, become columns, a time and `known_at`."""
    path = tmp_path / "orders.jsonl"
    path.write_text(
        '{"order": {"id": "a1"}, "item_id": 7, "qty": 2, "price": 1.5, "created": "2017-03-06T12:00:00+01:00", '
        '"updated_at": "2017-03-06T12:05:00Z"}\n'
    )
    tables = yaml.safe_load(draft([str(path)]).text)["tables"]
    assert tables["transactions"]["columns"]["order.id"] == "string"
    assert tables["transactions"]["mapping"]["basket_id"] == "order.id"
    assert tables["transactions"]["event_time"] == {"timestamp": "created"}
    assert tables["transactions"]["known_at"]["column"] == "updated_at"


def test_what_cannot_be_drafted_is_named(tmp_path: Path, invoices: Path) -> None:
    """No file, an empty one, a header alone, an open quote, a file without any contract's key, a name that is none."""
    with pytest.raises(CorruptFile, match="found no file"):
        draft([str(tmp_path / "absent.csv")])
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(CorruptFile, match="holds no rows"):
        draft([str(tmp_path / "empty.csv")])
    (tmp_path / "empty.csv").write_text("order_id,sku\n")
    with pytest.raises(CorruptFile, match=r"no rows of 2 values below its header"):
        draft([str(tmp_path / "empty.csv")])
    (tmp_path / "open.csv").write_text('order_id,sku\n1,"19 inch\n' + "2,b\n" * 40_000)
    with pytest.raises(CorruptFile, match=r"open\.csv cannot be split .*a quote opened"):
        draft([str(tmp_path / "open.csv")])
    pq.write_table(pa.table({"ds": ["2017-01-01"], "y": [1.0]}), tmp_path / "series.parquet")
    with pytest.raises(BadShop, match=r"series\.parquet fits no contract .*its columns: ds, y"):
        draft([str(tmp_path / "series.parquet")])
    with pytest.raises(BadShop, match="--name my_shop"):
        draft([str(invoices)], "Not A Name")


def test_a_draft_never_overwrites(tmp_path: Path, invoices: Path) -> None:
    """The second write of a name is refused, and the first file is as it was."""
    made = draft([str(invoices)], "paris")
    assert write(made, tmp_path).read_text() == made.text
    (tmp_path / "paris.yaml").write_text("mine")
    with pytest.raises(BadShop, match="not overwritten"):
        write(made, tmp_path)
    assert (tmp_path / "paris.yaml").read_text() == "mine"


def test_columns_are_typed_by_their_values(tmp_path: Path) -> None:
    """Leading zeros make an id, a file without names gets some, and names lose their case and gaps."""
    path = tmp_path / "a.txt"
    path.write_text("00123|1|true|2017-03-06\n00456|2.5|false|2017-03-07\n")
    seen = look(str(path))
    assert seen.source.csv.delimiter == "|"
    assert not seen.source.csv.header
    assert [each.kind for each in seen.columns] == ["string", "number", "boolean", "timestamp"]
    assert [each.unique for each in seen.columns] == [True] * 4
    names = ["UnitPrice", "unit price", "UNIT-PRICE", "SKUCode", "household_id"]
    assert [plain_name(each) for each in names] == [*["unit_price"] * 3, "sku_code", "household_id"]
    assert re.fullmatch(r"[a-z_]+", plain_name("Preis (EUR)"))
