"""One-table shops over any source, written by hand, and what their extraction leaves in raw/."""

from datetime import datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.shop import Shop
from mercato.paths import Lake
from tests.lake_maker import MONDAY, days, hand_shop, line, make_identity, make_lake, tree
from training.clean import clean
from training.extract import TableReport, extract

COLUMNS = {"basket": "string", "paid": "timestamp", "quantity": "integer", "amount": "number"}

BILLS = [
    line(1),
    line(2, product=11, quantity=3, sales_value=1003.39),
    line(3, product=12, household_id=8, sales_value=0.07, retail_disc=0.0),
    line(4, product=13, coupon_disc=1234.5),
]
"""Bills of one Monday that break no rule."""


def shop_of(source: dict[str, Any], **changes: Any) -> Shop:
    """A shop in New York whose `transactions` are `source`, paid in UTC and known 15 minutes later."""
    table = {
        "source": source,
        "columns": COLUMNS,
        "event_time": {"timestamp": "paid"},
        "known_at": {"delay": "PT15M", "reason": "test"},
        "mapping": {"basket_id": "basket", "quantity": "quantity", "sales_minor": {"money": "amount"}},
        **changes,
    }
    return Shop.model_validate(
        {
            "name": "complete_journey",
            "zone": "America/New_York",
            "currency": "USD",
            "calendar": {"week_one": "2016-12-26"},
            "history": {"since": "2017-03-01", "until": "2017-04-01"},
            "tables": {"transactions": table},
        }
    )


def files(path: object, **csv: Any) -> dict[str, Any]:
    """A source of files, CSV in the dialect of `csv`."""
    return {"kind": "files", "path": str(path), "csv": csv}


def run(folder: Path, shop: Shop, first: datetime = MONDAY, n: int = 1) -> TableReport:
    """Extract n business days into a lake below `folder`."""
    return extract(make_lake(folder), shop, "transactions", **days(first, n, shop))


def raw(folder: Path) -> list[dict[str, Any]]:
    """Every row of raw/transactions below `folder`, by day."""
    lake: Lake = make_lake(folder)
    parts = [
        pq.read_table(f"{lake.partition('raw', 'transactions', ds)}/part.parquet", partitioning=None)
        for ds in lake.days("raw", "transactions")
    ]
    return pa.concat_tables(parts).to_pylist() if parts else []


def cleaned(folder: Path, source: dict[str, Any] | None = None) -> dict[str, str]:
    """Hash of each clean partition of BILLS, extracted from Parquet or from `source`, which holds the same rows."""
    shop = hand_shop(folder / "source", BILLS)
    if source is not None:
        told = shop.model_dump(mode="json", exclude_unset=True)
        told["tables"]["transactions"]["source"] = source
        shop = Shop.model_validate(told)
    lake, people = make_lake(folder / "lake"), make_identity(folder)
    since, until = shop.window()
    windows = {"products": {"since": since, "until": until}, "transactions": days(MONDAY, 1, shop)}
    for table, window in windows.items():
        extract(lake, shop, table, **window)
        clean(lake, shop, table, people, **window)
    return {path: sha for path, sha in tree(lake).items() if path.startswith("clean/") and path.endswith(".parquet")}


@cache
def cleaned_from_parquet() -> dict[str, str]:
    """Hash of each clean partition of BILLS from Parquet, which the other kinds are compared with."""
    with TemporaryDirectory() as folder:
        return cleaned(Path(folder))
