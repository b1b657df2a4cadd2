"""Small lakes for tests: a two-day shop written by hand, and the 300 real households."""

import hashlib
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.shop import Shop, load_shop
from mercato.identity import Identity, identity
from mercato.paths import Lake
from mercato.settings import Settings

SAMPLE = Path(__file__).parent / "data" / "complete_journey_300"
MONDAY = datetime(2017, 3, 6, 5, tzinfo=UTC)
"""Local midnight of a Monday in New York."""
NOON = datetime(2017, 3, 6, 17)  # noqa: DTZ001 - the source's timestamps are naive UTC
TRANSACTIONS = pa.schema(
    [
        ("household_id", pa.int64()),
        ("store_id", pa.int64()),
        ("basket_id", pa.int64()),
        ("product_id", pa.int64()),
        ("quantity", pa.int64()),
        ("sales_value", pa.float64()),
        ("retail_disc", pa.float64()),
        ("coupon_disc", pa.float64()),
        ("coupon_match_disc", pa.float64()),
        ("week", pa.int64()),
        ("transaction_timestamp", pa.timestamp("us")),
    ]
)


def make_lake(folder: Path) -> Lake:
    """An empty lake of the built-in shop below `folder`."""
    return Lake(fsspec.filesystem("file"), str(folder), "complete_journey")


def make_identity(folder: Path) -> Identity:
    """An identity map whose keys count upwards."""
    numbers = count(1)
    settings = Settings(home=folder / "home", identity_key="k" * 32)
    return identity(settings, new_key=lambda: f"c{next(numbers)}")


def sample_shop() -> Shop:
    """The built-in shop over the 300 households."""
    return load_shop("complete_journey").reading_from(SAMPLE)


def line(basket: int = 1, product: int = 10, at: datetime = NOON, **changes: object) -> dict[str, object]:
    """One source row: household 7 buys one product for 1.50."""
    row: dict[str, object] = {
        "household_id": 7,
        "store_id": 3,
        "basket_id": basket,
        "product_id": product,
        "quantity": 1,
        "sales_value": 1.5,
        "retail_disc": 0.25,
        "coupon_disc": 0.0,
        "coupon_match_disc": 0.0,
        "week": 11,
        "transaction_timestamp": at,
    }
    return {**row, **changes}


def hand_shop(folder: Path, lines: list[dict[str, object]]) -> Shop:
    """The built-in shop whose sources are Parquet files in `folder`: `lines` as transactions, products 10 to 13."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(lines, TRANSACTIONS), folder / "transactions.parquet")
    text = {"department": "GROCERY", "brand": "Private", "product_category": "TEA", "product_type": "GREEN TEA"}
    products = [{"product_id": each, "manufacturer_id": 1, **text, "package_size": "20 CT"} for each in range(10, 14)]
    pq.write_table(pa.Table.from_pylist(products), folder / "products.parquet")
    return load_shop("complete_journey").reading_from(folder)


def days(first: datetime, n: int, shop: Shop) -> dict[str, datetime]:
    """`since` and `until` of n business days from `first` on."""
    day = shop.business_day(first)
    return {"since": shop.day_start(day), "until": shop.day_start(day + timedelta(days=n))}


def finished(lake: Lake) -> dict[str, str]:
    """`tree` without what a killed run had written aside."""
    return {path: sha for path, sha in tree(lake).items() if not Path(path).name.startswith(".")}


def tree(lake: Lake) -> dict[str, str]:
    """Path -> SHA-256 of every file of a lake, leftovers included."""
    root = Path(lake.path())
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
