"""What shoppers searched for and found something by, from the event log."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Final

from data_contracts.errors import SourceMissing
from data_contracts.lake import as_of
from feature_repo.text import query_text
from mercato.paths import Lake

READS: Final = "interactions"
"""Clean table that it reads."""
LED: Final = ("click", "cart", "purchase")
"""Events that say that an answer held what was looked for."""


def customers_by_query(lake: Lake, until: datetime, lookback: timedelta) -> dict[str, int]:
    """Query, normalised -> different customers who searched it and took a product out of that answer.

    Searches of the `lookback` before `until`, known by then. Visitors without a customer are not counted, as one
    person may be many of them; simulated events are left out. Nothing where nothing was logged yet.
    """
    try:
        events = as_of(lake, READS, event_before=until, known_before=until, since=until - lookback)
    except SourceMissing:
        return {}
    events = events.filter(events.origin != "simulated", events.request_id.notnull())
    led = events.filter(events.type.isin(LED)).select("request_id").distinct()
    asked = events.filter(events.type == "search", events.query.notnull(), events.customer_key.notnull())
    rows = asked.semi_join(led, "request_id").select("query", "customer_key").distinct().to_pyarrow().to_pylist()
    people = {(query_text(row["query"]), row["customer_key"]) for row in rows}
    return dict(sorted(Counter(query for query, _ in people if query).items()))
