"""Cleaning: every row is accounted for, bad ones are named, and nothing of a person's id gets through."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_contracts.contract import cleaning_order, load_contract
from data_contracts.errors import CorruptFile, SourceMissing, TableRuleBroken
from data_contracts.lake import as_of, connect
from data_contracts.partitions import manifests
from data_contracts.shop import Shop, own_tables
from data_contracts.tables import SourceType
from mercato.paths import Lake
from tests.lake_maker import MONDAY, NOON, days, hand_shop, line, make_identity, make_lake, sample_shop, tree
from tests.training.sources import COLUMNS, files, shop_of
from training.clean import CleanReport, clean
from training.errors import RowsLost
from training.extract import extract
from training.mapping import customer_ids
from training.quarantine import export


def run(folder: Path, lines: list[dict[str, object]], **settings: object) -> tuple[Lake, Shop, CleanReport]:
    """Extract and clean hand-written transactions of one Monday (and the products)."""
    shop = hand_shop(folder / "source", lines)
    lake, people = make_lake(folder), make_identity(folder)
    since, until = shop.window()
    extract(lake, shop, "products", since=since, until=until)
    clean(lake, shop, "products", people, since=since, until=until)
    window = days(MONDAY, 1, shop)
    extract(lake, shop, "transactions", **window)
    return lake, shop, clean(lake, shop, "transactions", people, **window)


def rows_of(lake: Lake, layer: str, ds: str = "2017-03-06") -> list[dict[str, object]]:
    path = f"{lake.partition(layer, 'transactions', ds)}/part.parquet"
    return pq.read_table(path, partitioning=None).to_pylist()


def test_a_row_is_mapped_as_the_yaml_says(tmp_path: Path) -> None:
    """1.50 in dollars is 150 cents, ids become text, the household becomes a key, times are UTC."""
    lake, _, report = run(tmp_path, [line()])
    assert (report.raw_rows, report.clean_rows) == (1, 1)
    assert rows_of(lake, "clean") == [
        {
            "customer_key": "c1",
            "basket_id": "1",
            "product_id": "10",
            "store_id": "3",
            "quantity": 1,
            "sales_minor": 150,
            "retail_discount_minor": 25,
            "coupon_discount_minor": 0,
            "coupon_match_discount_minor": 0,
            "currency": "USD",
            "event_time": NOON.replace(tzinfo=UTC),
            "known_at": NOON.replace(tzinfo=UTC) + timedelta(minutes=15),
        }
    ]


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        ({"quantity": 0}, "quantity_positive"),
        ({"sales_value": -1.0}, "sales_not_negative"),
        ({"sales_value": 1.005}, "sales_minor_unreadable"),
        ({"sales_value": float("nan")}, "sales_minor_unreadable"),
        ({"sales_value": 1e300}, "sales_minor_unreadable"),
        ({"sales_value": None}, "sales_minor_missing"),
        ({"store_id": None}, "store_id_missing"),
        ({"basket_id": None}, "basket_id_missing"),
        ({"retail_disc": -0.5, "quantity": -1}, "quantity_positive,retail_discount_minor_not_negative"),
    ],
)
def test_a_bad_row_goes_to_quarantine_with_its_rules(tmp_path: Path, bad: dict[str, object], rule: str) -> None:
    """Each planted fault sets its row aside under every rule that it breaks, with the source's values."""
    lake, _, report = run(tmp_path, [line(1), line(2, product=11, **bad)])
    assert (report.raw_rows, report.clean_rows, report.quarantined) == (2, 1, 1)
    assert report.broken == dict.fromkeys(rule.split(","), 1)
    [row] = rows_of(lake, "quarantine")
    assert row["broken_rules"] == rule
    assert '"product_id":11' in str(row["source_row"])
    assert "household_id" not in str(row["source_row"])


def test_a_warning_is_counted_and_kept(tmp_path: Path) -> None:
    """144 units are looked at, not thrown away."""
    _, _, report = run(tmp_path, [line(quantity=144)])
    assert (report.clean_rows, report.warned) == (1, {"quantity_plausible": 1})


def test_repeats_are_removed_and_contradictions_set_aside(tmp_path: Path) -> None:
    """The same line twice counts once; two different lines of one key at one time go to quarantine, both."""
    twice, fights = [line(1), line(1)], [line(2), line(2, quantity=3)]
    lake, _, report = run(tmp_path, [*twice, *fights, line(3)])
    assert (report.raw_rows, report.clean_rows, report.duplicates, report.quarantined) == (5, 2, 1, 2)
    assert [row["broken_rules"] for row in rows_of(lake, "quarantine")] == ["key_conflict", "key_conflict"]
    assert [row["basket_id"] for row in rows_of(lake, "clean")] == ["1", "3"]


def prices(folder: Path, *parts: pa.Table, columns: dict[str, str]) -> Iterator[tuple[Lake, Shop]]:
    """A shop whose export holds the first of some tables, then the first two; each time one more day is extracted."""
    mapping: dict[str, Any] = {"basket_id": "basket", "quantity": "quantity", "sales_minor": {"money": "amount"}}
    same = {"product_id": "10", "store_id": "3", "currency": "USD"}
    same |= {f"{name}_discount_minor": "0" for name in ("retail", "coupon", "coupon_match")}
    mapping |= {name: {"constant": text} for name, text in same.items()}
    lake, listed = make_lake(folder), hand_shop(folder / "source", [])
    for step in (extract, partial(clean, identity=make_identity(folder))):
        step(lake, listed, "products", since=listed.window()[0], until=MONDAY)
    for n, part in enumerate(parts):
        declared = {name: kind for name, kind in columns.items() if name in part.column_names}
        more = {"customer_key": {"identity": "customer"}} if "customer" in declared else {}
        shop = shop_of(files(folder / "bills.parquet"), columns=declared, mapping={**mapping, **more})
        pq.write_table(part, folder / "bills.parquet")
        extract(lake, shop, "transactions", **days(MONDAY + timedelta(days=n), 1, shop))
        yield lake, shop


def bill(day: int, amounts: list[float], kind: pa.DataType, **more: list[str]) -> pa.Table:
    """Bills of one day, paid at noon."""
    n = len(amounts)
    paid = pa.array([NOON + timedelta(days=day)] * n, pa.timestamp("us"))
    bills = {"basket": [f"{day}-{each}" for each in range(n)], "paid": paid, "quantity": pa.array([1] * n, pa.int64())}
    return pa.table({**bills, "amount": pa.array(amounts, kind), **more})


def test_whole_prices_on_one_day_do_not_round_those_of_the_next(tmp_path: Path) -> None:
    """A column that pandas wrote as int64 on Monday and as float64 on Tuesday: 1.49 is 149 cents in any window."""
    parts = bill(0, [3, -1], pa.int64()), bill(1, [1.49, -1.49], pa.float64())
    *_, (lake, shop) = prices(tmp_path, *parts, columns=COLUMNS)
    people = make_identity(tmp_path)
    clean(lake, shop, "transactions", people, **days(MONDAY, 2, shop))
    assert rows_of(lake, "clean", "2017-03-07")[0]["sales_minor"] == 149
    before = tree(lake)
    for n in range(2):
        clean(lake, shop, "transactions", people, **days(MONDAY + timedelta(days=n), 1, shop))
    assert tree(lake) == before
    assert len(rows_of(lake, "quarantine")) == 1


def test_days_from_before_a_column_was_declared_are_read_with_it(tmp_path: Path) -> None:
    """The older day alone, a window over the change, the newer day looked over again: the older rows have nulls."""
    columns = {**COLUMNS, "customer": "string"}
    parts = bill(0, [3], pa.float64()), bill(1, [2], pa.float64(), customer=["7"])
    *_, (lake, shop) = prices(tmp_path, *parts, columns=columns)
    for n in (1, 2):
        clean(lake, shop, "transactions", make_identity(tmp_path), **days(MONDAY, n, shop))
    keys = [rows_of(lake, "clean", ds)[0]["customer_key"] for ds in ("2017-03-06", "2017-03-07")]
    assert keys == [None, "c1"]
    again = pa.concat_tables([parts[0].append_column("customer", pa.array([None], pa.string())), parts[1]])
    pq.write_table(again, tmp_path / "bills.parquet")
    late = MONDAY + timedelta(hours=20)
    assert extract(lake, shop, "transactions", **days(MONDAY, 2, shop), observed_at=late).new_rows == 0
    pq.write_table(pa.concat_tables([again, bill(0, [4], pa.float64(), customer=["7"])]), tmp_path / "bills.parquet")
    assert extract(lake, shop, "transactions", **days(MONDAY, 2, shop), observed_at=late).new_rows == 1
    clean(lake, shop, "transactions", make_identity(tmp_path), **days(MONDAY, 1, shop))
    versions = [(row["sales_minor"], row["customer_key"] is None) for row in rows_of(lake, "clean")]
    assert versions == [(300, True), (400, False)]
    assert export(lake, shop, "transactions", tmp_path / "rows.csv", **days(MONDAY, 2, shop))["rows"] == 0


def test_a_table_rule_stops_the_run_and_nothing_is_written(tmp_path: Path) -> None:
    """When a tenth of the rows is bad, the source is broken: counts, rule and examples are in the message."""
    lines = [line(n, quantity=0 if n % 10 == 0 else 1) for n in range(200)]
    with pytest.raises(TableRuleBroken, match=r"quarantine_small: found 10 percent, need <= 5.*quantity_positive 20"):
        run(tmp_path, lines)
    assert not (tmp_path / "complete_journey/clean/transactions/ds=2017-03-06/part.parquet").exists()
    assert list(tmp_path.rglob(".part*")) == []


def test_a_foreign_key_is_judged_by_share(tmp_path: Path) -> None:
    """Three per cent of sales of unknown products break the reference rule."""
    lines = [line(n, product=99 if n < 6 else 10) for n in range(200)]
    with pytest.raises(TableRuleBroken, match=r"product_id_in_products: found 97 percent, need >= 98"):
        run(tmp_path, lines)


def test_a_table_is_cleaned_after_those_it_refers_to(tmp_path: Path) -> None:
    """Without clean products the message says what to clean first; cleaning_order says it for all."""
    shop = hand_shop(tmp_path / "source", [line()])
    lake = make_lake(tmp_path)
    extract(lake, shop, "transactions", **days(MONDAY, 1, shop))
    with pytest.raises(SourceMissing, match="products is not clean yet"):
        clean(lake, shop, "transactions", make_identity(tmp_path), **days(MONDAY, 1, shop))
    order = cleaning_order(shop.tables)
    assert order.index("products") < order.index("transactions")
    assert order.index("campaign_descriptions") < order.index("coupons")


def test_changed_raw_bytes_are_refused(tmp_path: Path) -> None:
    """One flipped bit in raw is found before the file is parsed."""
    lake, shop, _ = run(tmp_path, [line()])
    path = Path(f"{lake.partition('raw', 'transactions', '2017-03-06')}/part.parquet")
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(CorruptFile, match="extract_sources again"):
        clean(lake, shop, "transactions", make_identity(tmp_path), **days(MONDAY, 1, shop))


def test_days_of_another_zone_lose_no_row_unseen(tmp_path: Path) -> None:
    """A row of each hour of a day in New York, cleaned after the zone became Chicago's: 23 of them are of that day
    there, so the run stops and leaves what was clean as it was.
    """
    hours = [line(n, at=datetime(2017, 3, 6, 5) + timedelta(hours=n, minutes=1)) for n in range(24)]  # noqa: DTZ001
    lake, shop, report = run(tmp_path, hours)
    assert report.raw_rows == 24
    before = tree(lake)
    west = Shop.model_validate(shop.model_dump(mode="json", exclude_unset=True) | {"zone": "America/Chicago"})
    window = days(MONDAY + timedelta(hours=1), 1, west)
    with pytest.raises(RowsLost, match=r"24 raw rows .* 23 came out .* extract its days again"):
        clean(lake, west, "transactions", make_identity(tmp_path), **window)
    assert tree(lake) == before


def test_decimals_are_counted_as_floats_are(tmp_path: Path) -> None:
    """Quantities 0.500, 1.499 and 2.000 as Parquet decimals: the third is a whole number, the others go."""
    whole = [Decimal("0.500"), Decimal("1.499"), Decimal("2.000")]
    shop = hand_shop(tmp_path / "source", [line(1), line(2), line(3)])
    path = tmp_path / "source" / "transactions.parquet"
    rows = pq.read_table(path)
    place = rows.schema.get_field_index("quantity")
    pq.write_table(rows.set_column(place, "quantity", pa.array(whole, pa.decimal128(12, 3))), path)
    table = shop.tables["transactions"]
    columns = {**table.columns, "quantity": "number"}
    shop = shop.model_copy(
        update={"tables": {**shop.tables, "transactions": table.model_copy(update={"columns": columns})}}
    )
    lake, people, window = make_lake(tmp_path), make_identity(tmp_path), days(MONDAY, 1, shop)
    extract(lake, shop, "products", since=shop.window()[0], until=shop.window()[1])
    clean(lake, shop, "products", people, since=shop.window()[0], until=shop.window()[1])
    extract(lake, shop, "transactions", **window)
    report = clean(lake, shop, "transactions", people, **window)
    assert (report.clean_rows, report.broken) == (1, {"quantity_unreadable": 2})
    assert [row["quantity"] for row in rows_of(lake, "clean")] == [2]


@pytest.mark.parametrize(
    ("values", "stated", "ids"),
    [
        (pa.array(["17850", "17850.0", None, "A1.0", "7.50"]), "number", ["17850", "7.50", "A1.0"]),
        (pa.array(["17850", "17850.0"]), "string", ["17850", "17850.0"]),
        (pa.array([17850.0, 17850.0, float("nan"), 12.5, 7.5]), "number", ["12.5", "17850", "7.5"]),
        (pa.array([Decimal("17850.000"), Decimal("17850.0"), None, Decimal("12.5")]), "number", ["12.500", "17850"]),
        (pa.array([17850, 17850, None]), "integer", ["17850"]),
    ],
)
def test_one_customer_is_one_whatever_the_file(
    tmp_path: Path, values: pa.Array, stated: SourceType, ids: list[str]
) -> None:
    """17850 and 17850.0 are one number, as text, float, decimal or integer; what is none stays as it is."""
    pq.write_table(pa.table({"event_time": values, "known_at": values, "customer": values}), tmp_path / "raw.parquet")
    assert customer_ids(connect(), [str(tmp_path / "raw.parquet")], "customer", stated) == ids


def test_quarantine_is_emptied_when_its_rows_became_good(tmp_path: Path) -> None:
    """Cleaning again after the rows were put right leaves no stale quarantine."""
    lake, shop, _ = run(tmp_path, [line(1), line(2, quantity=0)])
    raw = Path(f"{lake.table('raw', 'transactions')}/ds=2017-03-06")
    for file in raw.iterdir():
        file.unlink()
    hand_shop(tmp_path / "source", [line(1), line(2)])
    extract(lake, shop, "transactions", **days(MONDAY, 1, shop))
    report = clean(lake, shop, "transactions", make_identity(tmp_path), **days(MONDAY, 1, shop))
    assert report.quarantined == 0
    assert rows_of(lake, "quarantine") == []


def test_the_real_sample_goes_through_whole(tmp_path: Path) -> None:
    """All eight files of 300 real households: rows in = clean + quarantined + duplicates; a rerun changes no byte."""
    shop, lake, people = sample_shop(), make_lake(tmp_path), make_identity(tmp_path)
    since, until = shop.window()[0], shop.week_start(10)
    reports = {}
    for table in cleaning_order(set(shop.tables) - set(own_tables())):
        extract(lake, shop, table, since=since, until=until)
        reports[table] = clean(lake, shop, table, people, since=since, until=until)
    for table, report in reports.items():
        extracted = sum(each.rows for each in manifests(lake, "raw", table))
        assert report.raw_rows == report.clean_rows + report.quarantined + report.duplicates == extracted
        assert report.clean_rows
        found = as_of(lake, table, event_before=until, known_before=until)
        assert found.count().to_pyarrow().as_py() == report.clean_rows
        assert found.columns == tuple(column.name for column in load_contract(table).columns)
    assert set(reports["transactions"].broken) == {"quantity_positive"}
    before = tree(lake)
    week = days(MONDAY - timedelta(days=28), 7, shop)
    for table in ("transactions", "promotions"):
        clean(lake, shop, table, people, **week)
    assert tree(lake) == before
    first = as_of(lake, "campaign_descriptions", event_before=until, known_before=until).event_time.min()
    assert first.to_pyarrow().as_py() == datetime(2016, 11, 14, 5, tzinfo=UTC)
