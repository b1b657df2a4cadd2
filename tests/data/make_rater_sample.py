"""Writes tests/data/chorus_raters.csv: 240 judgments of the Chorus search set by three raters each, without texts.

Run once by hand (`.venv/bin/python tests/data/make_rater_sample.py SOURCE.csv`); the file is committed. The source is
published with the repository o19s/chorus (Apache-2.0). Rows are every ninth of those that have all three ratings.
"""

import csv
import sys
from pathlib import Path

ROWS, STEP = 240, 9
RATERS = ("agent_1_rating", "agent_2_rating", "agent_3_rating")

with Path(sys.argv[1]).open(encoding="utf-8") as source:
    rows = [row for row in csv.DictReader(source) if all(row[rater].strip() for rater in RATERS)]
lines = [",".join((row["docid"], *(row[rater].strip() for rater in RATERS))) for row in rows[::STEP][:ROWS]]
text = "\n".join([",".join(("docid", *RATERS)), *lines]) + "\n"
(Path(__file__).parent / "chorus_raters.csv").write_text(text, encoding="utf-8")
