"""Writes tests/data/pii_sample.json: 196 sentences of Presidio's synthetic PII set, with what is personal in them.

Run once by hand (`.venv/bin/python tests/data/make_pii_sample.py SOURCE.json`); the file is committed. The source is
synth_dataset_v2.json of the repository microsoft/presidio-research (MIT). Sentences under 220 characters are taken in their
order while a kind in them is wanted.
"""

import json
import sys
from pathlib import Path

WANTED = {
    "EMAIL_ADDRESS": 20, "IBAN_CODE": 21, "CREDIT_CARD": 40, "PHONE_NUMBER": 40, "IP_ADDRESS": 14, "PERSON": 70
}  # fmt: skip
LONGEST = 220

kept, seen = [], dict.fromkeys(WANTED, 0)
for row in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
    kinds = {each["entity_type"] for each in row["spans"]} & WANTED.keys()
    if len(row["full_text"]) < LONGEST and any(seen[kind] < WANTED[kind] for kind in kinds):
        seen.update({kind: seen[kind] + 1 for kind in kinds})
        said = ("entity_type", "start_position", "end_position")
        kept.append({"full_text": row["full_text"], "spans": [{k: each[k] for k in said} for each in row["spans"]]})
lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in kept)
(Path(__file__).parent / "pii_sample.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
