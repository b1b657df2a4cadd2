"""A shop that people write to, and annotators who answer in Label Studio's JSON export."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_contracts.contract import load_contract
from data_contracts.intents import load_labels
from data_contracts.lake import arrow_schema
from data_contracts.partitions import describe, encode, writing
from data_contracts.shop import load_shop
from mercato.paths import Lake

UNTIL = datetime(2017, 3, 8, 5, tzinfo=UTC)
WRITTEN = UNTIL - timedelta(days=2)
LABELS = load_labels()
TRUTH = {
    "morning!": "greeting", "ok thank you so much": "greeting",
    "blue kurta size m": "browse", "any cordless drills in stock?": "browse", "बच्चों के स्कूल बैग दिखाओ": "browse",
    "does the kettle switch itself off?": "info", "isme kitne GB ki ram aati hai": "info",
    "make it three of the oat biscuits": "cart", "टोकरी से चावल हटा दो": "cart",
    "my voucher won't go through": "offers", "koi coupon chal raha hai kya": "offers",
    "what would a ten year old enjoy?": "recommend", "shaadi ke liye kya pehnu": "recommend",
    "the lid came cracked, call me on 9876543210": "help", "galat size aa gaya wapas karna hai": "help",
    "parcel was due yesterday": "track", "has my order 9876543210 left the warehouse": "track",
    "मेरा सामान कब तक पहुँचेगा": "track", "who won the match": "out_of_scope", "ek joke sunao": "out_of_scope",
}  # fmt: skip
"""What shoppers of this shop write, and what they want."""


def put_clean(lake: Lake, table: str, rows: list[dict[str, Any]]) -> None:
    """A clean partition of the day of WRITTEN."""
    contract = load_contract(table)
    empty = dict.fromkeys(column.name for column in contract.columns)
    full = [{**empty, "event_time": WRITTEN, "known_at": WRITTEN, **row} for row in rows]
    made = pa.Table.from_pylist(full, arrow_schema(contract)).sort_by(contract.key[0])
    data, day = encode(made), load_shop(lake.shop).business_day(WRITTEN)
    known = {"table": table, "layer": "clean", "ds": day, "contract": contract.label, "inputs": {}}
    with writing(lake) as out:
        out.put(data, describe(made, data, **known))


def searches(lake: Lake, texts: Sequence[str], origin: str = "real") -> None:
    """Searches in the event log, as they are after cleaning."""
    rows = [
        {"event_id": f"e{n:03}", "type": "search", "session_id": "s", "origin": origin, "query": text,
         "event_time": WRITTEN + timedelta(minutes=n), "known_at": WRITTEN + timedelta(minutes=n)}
        for n, text in enumerate(texts)
    ]  # fmt: skip
    put_clean(lake, "interactions", rows)


def messages(lake: Lake, texts: Sequence[str]) -> None:
    """Messages of a chat, as they are after cleaning."""
    rows = [
        {"message_id": f"m{n:03}", "text": text, "channel": "chat",
         "event_time": WRITTEN + timedelta(minutes=n), "known_at": WRITTEN + timedelta(minutes=n)}
        for n, text in enumerate(texts)
    ]  # fmt: skip
    put_clean(lake, "messages", rows)


def tasks(lake: Lake, batch: str) -> list[dict[str, Any]]:
    """tasks.json of a batch."""
    return list(lake.read_json(lake.path("annotation", "batches", batch, "tasks.json")))


def truth(text: str) -> str:
    """The label of a redacted text."""
    return {key.replace("call me on 9876543210", "call me on <PHONE>"): label for key, label in TRUTH.items()}[text]


def choice(control: str, value: str) -> dict[str, Any]:
    """One result of an annotation, as Label Studio writes it."""
    return {"id": "kq2", "from_name": control, "to_name": "text", "type": "choices", "origin": "manual",
            "value": {"choices": [value]}}  # fmt: skip


def annotation(annotator: int, label: str, at: datetime = UNTIL - timedelta(hours=3), **changes: Any) -> dict[str, Any]:
    """One annotation, in the fields of Label Studio's documented export."""
    stamp = at.isoformat().replace("+00:00", "Z")
    return {
        "id": annotator, "completed_by": annotator, "result": [choice("intent", label)], "was_cancelled": False,
        "ground_truth": False, "created_at": stamp, "updated_at": stamp, "draft_created_at": None, "lead_time": 4.1,
        "prediction": {}, "result_count": 1, "unique_id": "0f", "import_id": None, "last_action": None, "task": 1,
        "project": 1, "updated_by": annotator, "parent_prediction": None, "parent_annotation": None,
        "last_created_by": None, **changes,
    }  # fmt: skip


def exported(given: list[dict[str, Any]], annotate: Callable[[dict[str, Any], int], list[dict[str, Any]]]) -> str:
    """The file that Label Studio exports for tasks: `annotate(data, number)` gives the annotations of each."""
    said = []
    for number, task in enumerate(given, 1):
        made = annotate(task["data"], number)
        said.append({
            "id": number, "data": task["data"], "annotations": made, "predictions": [], "drafts": [],
            "file_upload": "tasks.json", "meta": {}, "created_at": "2017-03-07T10:00:00.0Z", "inner_id": number,
            "updated_at": "2017-03-08T02:00:00.0Z", "project": 1, "total_annotations": len(made),
            "cancelled_annotations": 0, "total_predictions": 0, "comment_count": 0, "updated_by": 1,
        })  # fmt: skip
    return json.dumps(said, ensure_ascii=False)


def drop(folder: Path, content: str, name: str = "project-1-at-2017-03-08.json") -> Path:
    """A file in the folder of annotations."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(content, encoding="utf-8")
    return file
