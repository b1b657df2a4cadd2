"""The messages that could be annotated: what shoppers searched for and wrote, each text once, without personal data."""

import hashlib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from data_contracts.errors import SourceMissing
from data_contracts.lake import as_of
from feature_repo.language import language_of
from feature_repo.redaction import Redactor, product_words
from mercato.paths import Lake

READS: Final = ("interactions", "messages", "products")
"""Clean tables that it reads; a shop need not have `messages`."""
SEARCH: Final = "search"
"""Channel of what was searched for."""


@dataclass(frozen=True, slots=True)
class Message:
    """One text that shoppers wrote, however often."""

    message_id: str
    """16 hex digits: a text has one id wherever it came from."""
    text: str
    """Redacted."""
    channel: str
    language: str
    written: int
    """How often it came."""
    event_time: datetime
    """When it came last."""


def message_id(text: str) -> str:
    """The id of a redacted text: the same for every case and spacing."""
    plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return hashlib.sha256(plain.encode()).hexdigest()[:16]


def redactor(lake: Lake, until: datetime) -> Redactor:
    """One that knows the words of the catalogue, so that a product is not taken for a person."""
    products = _rows(lake, "products", until, None)
    if products is None:
        return Redactor()
    rows = products.select("name", "brand", "product_type", "category").to_pyarrow()
    return Redactor(product_words(text for column in rows.columns for text in column.unique().to_pylist()))


def pool(lake: Lake, languages: Iterable[str], until: datetime, lookback: timedelta) -> list[Message]:
    """What was written in the `lookback` before `until` and known by then, by id; simulated searches are left out."""
    found = [*_searches(lake, until, lookback), *_messages(lake, until, lookback)]
    texts = sorted({row["text"] for row in found})
    redacted = dict(zip(texts, redactor(lake, until).redact(texts), strict=True))
    known = set(languages)
    made: dict[str, Message] = {}
    for row in sorted(found, key=lambda each: (each["event_time"], each["text"], each["channel"])):
        text = " ".join(redacted[row["text"]].split())
        key = message_id(text)
        before = made.get(key)
        language = row["language"] if row["language"] in known else language_of(text)
        made[key] = Message(
            key,
            before.text if before else text,
            before.channel if before else row["channel"],
            before.language if before else language,
            before.written + 1 if before else 1,
            row["event_time"],
        )
    return [made[key] for key in sorted(made) if made[key].text]


def _searches(lake: Lake, until: datetime, lookback: timedelta) -> list[dict[str, Any]]:
    rows = _rows(lake, "interactions", until, lookback)
    if rows is None:
        return []
    rows = rows.filter(rows.type == "search", rows.query.notnull(), rows.origin != "simulated")
    rows = rows.select("event_time", text=rows.query).to_pyarrow().to_pylist()
    return [{**row, "channel": SEARCH, "language": None} for row in rows]


def _messages(lake: Lake, until: datetime, lookback: timedelta) -> list[dict[str, Any]]:
    rows = _rows(lake, "messages", until, lookback)
    if rows is None:
        return []
    return list(rows.select("event_time", "text", "channel", "language").to_pyarrow().to_pylist())


def _rows(lake: Lake, table: str, until: datetime, lookback: timedelta | None) -> Any:
    """`as_of`, or None while the table has nothing clean."""
    since = None if lookback is None else until - lookback
    try:
        return as_of(lake, table, event_before=until, known_before=until, since=since)
    except SourceMissing:
        return None
