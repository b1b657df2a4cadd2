"""Clean tables of 60 real households (October to December 2017), written as the lake keeps them."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from data_contracts import partitions
from data_contracts.contract import load_contract
from data_contracts.lake import arrow_schema
from data_contracts.shop import load_shop
from mercato.paths import Lake

SAMPLE = Path(__file__).parents[1] / "data" / "complete_journey_300"
SHOP = load_shop("complete_journey")
T = datetime(2017, 12, 4, 5, tzinfo=UTC)
"""Start of shop week 50."""
DAY, WEEK = timedelta(days=1), timedelta(days=7)
HOUSEHOLDS = 60
FIRST = datetime(2017, 10, 2, 4, tzinfo=UTC)


def transactions() -> pd.DataFrame:
    """Purchases of the first 60 households of the sample, contract columns."""
    t = pd.read_parquet(SAMPLE / "transactions.parquet")
    at = t["transaction_timestamp"].dt.tz_localize("UTC").astype("datetime64[us, UTC]")
    keep = t["household_id"].isin(sorted(t["household_id"].unique())[:HOUSEHOLDS]) & (at >= FIRST) & (t["quantity"] > 0)
    t, at = t[keep], at[keep]
    money = {
        "sales_minor": "sales_value",
        "retail_discount_minor": "retail_disc",
        "coupon_discount_minor": "coupon_disc",
        "coupon_match_discount_minor": "coupon_match_disc",
    }
    return pd.DataFrame(
        {
            "customer_key": "c" + t["household_id"].astype(str),
            **{name: t[name].astype(str) for name in ("basket_id", "product_id", "store_id")},
            "quantity": t["quantity"],
            **{name: (t[source] * 100).round().astype("int64") for name, source in money.items()},
            "currency": "USD",
            "event_time": at,
            "known_at": at + timedelta(minutes=15),
        }
    )


def products(ids: pd.Series) -> pd.DataFrame:
    """The catalogue rows of `ids`."""
    p = pd.read_parquet(SAMPLE / "products.parquet").rename(columns={"product_category": "category"})
    p = p.astype({"product_id": str, "manufacturer_id": str})
    at = pd.Timestamp("2017-01-01 05:00", tz="UTC").as_unit("us")
    return p[p["product_id"].isin(set(ids))].assign(name=None, event_time=at, known_at=at)


def promotions(ids: pd.Series) -> pd.DataFrame:
    """Displays and mailers of `ids` in weeks 47 to 50."""
    p = pd.read_parquet(SAMPLE / "promotions.parquet").astype({"product_id": str, "store_id": str})
    p = p[p["week"].between(47, 50) & p["product_id"].isin(set(ids))]
    at = pd.to_datetime([SHOP.week_start(int(week)) for week in p["week"]], utc=True).as_unit("us")
    return p.drop(columns="week").assign(valid_from=at, event_time=at, known_at=at)


def write(lake: Lake, table: str, frame: pd.DataFrame) -> None:
    """Put `frame` into clean/`table`, one partition per business day of `known_at`; a day that is there is replaced."""
    contract = load_contract(table)
    days = [SHOP.business_day(at) for at in frame["known_at"]]
    with partitions.writing(lake) as aside:
        for day, rows in frame.groupby(pd.Index(days)):
            aside.put(*_encoded(contract, table, day, rows))


def _encoded(contract: Any, table: str, day: date, rows: pd.DataFrame) -> tuple[bytes, partitions.Manifest]:
    schema = arrow_schema(contract)
    ordered = rows.reindex(columns=schema.names).sort_values(["known_at", *contract.key])
    body = pa.Table.from_pandas(ordered, schema, preserve_index=False).replace_schema_metadata(None)
    data = partitions.encode(body)
    known = {"table": table, "layer": "clean", "ds": day, "contract": f"{table}@1.0.0", "inputs": {}}
    return data, partitions.describe(body, data, **known)


def fill(lake: Lake) -> pd.DataFrame:
    """All three tables that features read; returns the transactions."""
    bought = transactions()
    write(lake, "transactions", bought)
    write(lake, "products", products(bought["product_id"]))
    write(lake, "promotions", promotions(bought["product_id"]))
    return bought
