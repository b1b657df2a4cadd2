"""Recommendation examples: sessions of known customers, with what was known of each customer just before."""

from typing import Any

import ibis
import pyarrow as pa
from ibis import _

from data_contracts.lake import as_of
from data_contracts.partitions import manifests
from training.datasets.builder import Builder, Inputs

_CONTEXT = ("past_sessions", "past_lines", "last_session_at", "context_known_at")


def _rows(given: Inputs) -> pa.Table:
    """One row per session and product: from tills, and from our own event log where it was extracted."""
    bought = as_of(given.lake, "transactions", event_before=given.until, known_before=given.until)
    bought = bought.filter(_.customer_key.notnull())
    baskets = bought.group_by(["customer_key", "basket_id"]).agg(
        at=_.event_time.min(), known=_.known_at.max(), lines=_.count()
    )
    parts = [_with_context(_purchases(bought, given), baskets)]
    if manifests(given.lake, "clean", "interactions"):
        seen = as_of(given.lake, "interactions", event_before=given.until, known_before=given.until, since=given.since)
        parts.append(_with_context(_interactions(seen), baskets))
    rows = parts[0] if len(parts) == 1 else ibis.union(*parts)
    return rows.select(*[column.name for column in RECOMMENDATION.contract.columns]).to_pyarrow()


def _purchases(bought: Any, given: Inputs) -> Any:
    """Lines of the baskets that began in the window; a basket's rows share the time of its first line."""
    first = ibis.window(group_by=["customer_key", "basket_id"])
    rows = bought.mutate(event_time=_.event_time.min().over(first))
    return rows.filter(_.event_time >= given.since).select(
        "customer_key",
        "product_id",
        "event_time",
        "known_at",
        session_id=_.basket_id,
        clicked=ibis.null("boolean"),
        purchased=ibis.literal(True),
        label_source=ibis.literal("purchases"),
    )


def _interactions(seen: Any) -> Any:
    """What became of each product in each visit, by real and replayed shoppers."""
    first = ibis.window(group_by="session_id")
    seen = seen.filter(_.product_id.notnull() & (_.origin != "simulated"))
    seen = seen.mutate(began=_.event_time.min().over(first))
    return (
        seen.group_by(["session_id", "product_id"])
        .agg(
            customer_key=_.customer_key.max(),
            event_time=_.began.min(),
            known_at=_.known_at.max(),
            clicked=(_.type == "click").any(),
            purchased=(_.type == "purchase").any(),
        )
        .mutate(label_source=ibis.literal("interactions"))
    )


def _with_context(rows: Any, baskets: Any) -> Any:
    """`rows` plus what was known of the customer before the session: baskets that had reached us by then."""
    rows = rows.cast({"customer_key": "string"})
    by_known = ibis.window(group_by="customer_key", order_by="_known", following=0)
    running = baskets.group_by(["customer_key", _.known.name("_known")]).agg(
        n=_.count(), lines=_.lines.sum(), at=_.at.max()
    )
    running = running.select(
        _key=_.customer_key,
        context_known_at=_["_known"],
        past_sessions=_.n.sum().over(by_known).cast("int64"),
        past_lines=_.lines.sum().over(by_known).cast("int64"),
        last_session_at=_.at.max().over(by_known),
    )
    told = rows.asof_join(
        running,
        on=rows.event_time > running.context_known_at,
        predicates=[rows.customer_key == running["_key"]],
    )
    return told.select(
        "session_id",
        "product_id",
        "customer_key",
        "clicked",
        "purchased",
        "label_source",
        "last_session_at",
        "context_known_at",
        "event_time",
        "known_at",
        query=ibis.null("string"),
        past_sessions=_.past_sessions.fill_null(0),
        past_lines=_.past_lines.fill_null(0),
    )


RECOMMENDATION = Builder(
    name="recommendation_examples",
    reads=("transactions", "interactions", "products"),
    rows=_rows,
    split="time",
    shares=(0.6, 0.2, 0.2),
    one_side="session_id",
)
