"""How much personal data redaction finds in Presidio's synthetic set, and how many product texts it leaves alone."""

import csv
import json
import random
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

from feature_repo.redaction import Redactor, product_words
from mercato.settings import Settings
from tests.golden import ROOT

SHARED = ROOT.parent / "shared" / "data"
NAMED = {
    "EMAIL_ADDRESS": "EMAIL", "IBAN_CODE": "IBAN", "CREDIT_CARD": "CARD", "PHONE_NUMBER": "PHONE", "IP_ADDRESS": "IP",
    "STREET_ADDRESS": "ADDRESS", "ZIP_CODE": "POSTCODE", "PERSON": "NAME",
}  # fmt: skip
TITLES = 1500


def measure(_settings: Settings) -> dict[str, Any]:
    """Recall and precision of each kind, and the share of queries and titles that are changed; {} without the data."""
    if not SHARED.is_dir():
        return {}
    return {"kinds": kinds(SHARED / "pii/presidio_synth_dataset_v2.json"), "changed": changed(SHARED / "search")}


def kinds(file: Path) -> list[dict[str, Any]]:
    """A row per kind: how often it is there, the share found under its name, and of what was found the share right."""
    rows = json.loads(file.read_text(encoding="utf-8"))
    there, hit, said, right = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for row, found in zip(rows, Redactor().find([row["full_text"] for row in rows]), strict=True):
        spans = [
            (NAMED.get(each["entity_type"], ""), each["start_position"], each["end_position"]) for each in row["spans"]
        ]
        for kind, start, end in spans:
            there[kind] += 1
            hit[kind] += any(each.kind == kind and each.start < end and start < each.end for each in found)
        for each in found:
            said[each.kind] += 1
            right[each.kind] += any(
                kind == each.kind and each.start < end and start < each.end for kind, start, end in spans
            )
    return [
        {"kind": kind, "n": there[kind], "recall": hit[kind] / there[kind], "precision": right[kind] / said[kind]}
        for kind in NAMED.values()
    ]


def changed(folder: Path) -> list[dict[str, Any]]:
    """How many shopping queries, and product titles with and without the catalogue's words, are changed."""
    with (folder / "wands_query.csv").open(encoding="utf-8") as file:
        queries = [row["query"] for row in csv.DictReader(file, delimiter="\t")]
    titles = []
    for path in sorted(folder.glob("chorus_icecat_products_*.zip")):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".json"):
                    products = json.loads(archive.read(name))
                    titles += [
                        f"{each.get('title') or each.get('name') or ''} {each.get('supplier') or ''}"
                        for each in products
                    ]
    some = random.Random(0).sample(titles, TITLES)
    words = product_words(titles)
    return [
        {"what": what, "n": len(texts), "changed": sum(map(bool, redactor.find(texts)))}
        for what, texts, redactor in (
            ("queries", queries, Redactor()),
            ("titles", some, Redactor(words)),
            ("titles, catalogue unknown", some, Redactor()),
        )
    ]


def lines(found: dict[str, Any]) -> list[str]:
    """The table for people."""
    return [
        *(
            f"redaction {each['kind']:<9} n {each['n']:4}  recall {each['recall']:.2f}  "
            f"precision {each['precision']:.2f}"
            for each in found.get("kinds", [])
        ),
        *(
            f"redaction changes {each['changed']:4} of {each['n']:,} {each['what']}"
            for each in found.get("changed", [])
        ),
    ]
