"""The second shop, on whole real invoices: no Python of its own, nothing lost, guests and returns told apart."""

from datetime import timedelta
from pathlib import Path

import fsspec
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from data_contracts.lake import as_of
from data_contracts.partitions import manifests, part_path
from data_contracts.shop import Shop, load_shop
from feature_repo import writer
from mercato.paths import Lake
from tests.lake_maker import make_identity
from training import product_features
from training.clean import CleanReport, clean
from training.extract import extract

FOLDER = Path(__file__).parents[1] / "data" / "online_retail"
SHOP: Shop = load_shop("online_retail").reading_from(FOLDER)
SINCE, UNTIL = SHOP.day_start(SHOP.history.since), SHOP.day_start(SHOP.history.since.replace(year=2011, month=2))
UNREAL = "^(POST|DOT|M|m|D|C2|S|B|PADS|CRUK|AMAZONFEE|BANK CHARGES|gift_.*)$"
SOURCE = pq.read_table(FOLDER / "uci_online_retail.parquet")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, dict[str, CleanReport]]:
    """Both tables extracted and cleaned."""
    folder = tmp_path_factory.mktemp("online_retail")
    lake = Lake(fsspec.filesystem("file"), str(folder), "online_retail")
    people, reports = make_identity(folder), {}
    for table in ("products", "transactions"):
        extract(lake, SHOP, table, since=SINCE, until=UNTIL)
        reports[table] = clean(lake, SHOP, table, people, since=SINCE, until=UNTIL)
    return lake, reports


def test_every_line_is_accounted_for(loaded: tuple[Lake, dict[str, CleanReport]]) -> None:
    """Lines in = clean + quarantined + added to another line; each returned or unreal line carries its rule's name."""
    report = loaded[1]["transactions"]
    assert report.raw_rows == SOURCE.num_rows == report.clean_rows + report.quarantined + report.added_up
    cancelled = pc.sum(pc.starts_with(SOURCE["InvoiceNo"], "C")).as_py()
    postage = pc.sum(pc.match_substring_regex(SOURCE["StockCode"], UNREAL)).as_py()
    free = pc.sum(pc.less(SOURCE["UnitPrice"], 0.005)).as_py()
    assert report.broken["cancellation"] == cancelled > 100
    assert report.broken["not_goods"] == postage > 20
    assert report.broken["stock_correction"] == free > 10


def test_repeated_lines_of_a_bill_add_up(loaded: tuple[Lake, dict[str, CleanReport]]) -> None:
    """Units and money of the lines that count are the same before and after, also where a product is there twice."""
    lake, reports = loaded
    rows = as_of(lake, "transactions", event_before=UNTIL, known_before=UNTIL).to_pyarrow()
    counts = pc.and_(pc.greater(SOURCE["Quantity"], 0), pc.greater_equal(SOURCE["UnitPrice"], 0.005))
    counts = pc.and_(counts, pc.invert(pc.match_substring_regex(SOURCE["StockCode"], UNREAL)))
    lines = SOURCE.filter(counts)
    money = pc.sum(pc.round(pc.multiply(pc.multiply(lines["UnitPrice"], lines["Quantity"]), 100.0))).as_py()
    assert pc.sum(rows["quantity"]).as_py() == pc.sum(lines["Quantity"]).as_py()
    assert pc.sum(rows["sales_minor"]).as_py() == money
    assert reports["transactions"].added_up > 100


def test_sales_to_nobody_known_count_for_products_only(loaded: tuple[Lake, dict[str, CleanReport]]) -> None:
    """A line without a customer stays, without a key; it makes a product popular and belongs to no customer."""
    lake, _ = loaded
    rows = as_of(lake, "transactions", event_before=UNTIL, known_before=UNTIL).to_pyarrow()
    assert 0 < rows["customer_key"].null_count < rows.num_rows
    found = {each.view: each for each in writer.write_snapshots(lake, UNTIL)}
    assert found["customer_history"].rows == len(pc.unique(rows["customer_key"].drop_null()))
    stats = pq.read_table(found["product_stats"].path)
    baskets = rows.select(["basket_id", "product_id"]).group_by(["basket_id", "product_id"]).aggregate([]).num_rows
    assert pc.sum(stats["n_364d"]).as_py() == baskets


def test_descriptions_that_change_are_versions(loaded: tuple[Lake, dict[str, CleanReport]]) -> None:
    """A product is called as its last invoice before T called it, and notes on stock corrections name nothing."""
    lake, _ = loaded
    goods = SOURCE.filter(pc.greater_equal(SOURCE["UnitPrice"], 0.005))
    goods = goods.filter(pc.invert(pc.starts_with(goods["InvoiceNo"], "C")))
    for day in (SINCE + timedelta(days=9), UNTIL):
        local = SHOP.business_day(day).isoformat()
        before = goods.filter(pc.less(goods["InvoiceDate"], pc.strptime(local, "%Y-%m-%d", "us")))
        last = {row["StockCode"]: row["Description"] for row in before.sort_by("InvoiceDate").to_pylist()}
        rows = as_of(lake, "products", event_before=day, known_before=day).to_pyarrow().to_pylist()
        assert {row["product_id"]: row["name"] for row in rows}.items() <= last.items()
        assert len(rows) > 500


def test_names_are_the_shops_own(loaded: tuple[Lake, dict[str, CleanReport]]) -> None:
    """The catalogue shows the shop's names, in a shopper's spelling, and is whole without category, brand or size."""
    lake, _ = loaded
    stats = pq.read_table({each.view: each for each in writer.write_snapshots(lake, UNTIL)}["product_stats"].path)
    products = as_of(lake, "products", event_before=UNTIL, known_before=UNTIL).execute()
    catalogue = product_features.fit(products, stats.to_pandas(), UNTIL)
    row = catalogue.index["85123A"]
    assert catalogue.text["name"][row] == "White Hanging Heart T-Light Holder"
    assert catalogue.categories == ["OTHER"]


def test_customers_ids_end_at_raw(loaded: tuple[Lake, dict[str, CleanReport]]) -> None:
    """Neither clean nor quarantine holds the shop's own ids, also in the table that does not use them."""
    lake, _ = loaded
    for table in ("products", "transactions"):
        for each in manifests(lake, "quarantine", table):
            rows = pq.read_table(part_path(lake, each))
            assert not any("CustomerID" in text for text in rows["source_row"].to_pylist())
