"""Writes tests/data/online_retail/uci_online_retail.parquet: whole invoices of two months of UCI Online Retail.

Run once by hand with the path of the complete file; the result is committed (CC BY 4.0, Chen, Sain & Guo 2012).
An invoice is kept when the CRC-32 of its number is divisible by 14, so the choice is neither ours nor random.
"""

import sys
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

TARGET = Path(__file__).parent / "online_retail" / "uci_online_retail.parquet"
EVERY = 14


def write_sample(source: Path, target: Path) -> None:
    """The invoices of December 2010 and January 2011 that the rule keeps, in the file's own order and columns."""
    rows = pq.read_table(source)
    early = rows.filter(pc.less(rows["InvoiceDate"], pa.scalar("2011-02-01").cast(pa.timestamp("us"))))
    keep = [zlib.crc32(each.encode()) % EVERY == 0 for each in early["InvoiceNo"].to_pylist()]
    target.parent.mkdir(exist_ok=True)
    pq.write_table(early.filter(pa.array(keep)).replace_schema_metadata(None), target, compression="zstd")


if __name__ == "__main__":
    write_sample(Path(sys.argv[1]), TARGET)
