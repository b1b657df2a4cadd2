"""Events in: each one judged, the customer translated at the door, then the log."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import timedelta
from typing import Any

from pydantic import ValidationError

from data_contracts.events import Event
from data_contracts.shop import Shop
from mercato.clock import Clock
from mercato.identity import Identity
from mercato.stores.events import Appended, EventLog, EventRow, microseconds
from serving.schemas import Rejected, minor

AHEAD = timedelta(minutes=5)
"""How far a client's clock may run ahead of ours."""
_REASONS = 3


class Ingest:
    """Turns a batch into rows of the log."""

    def __init__(self, log: EventLog, identity: Callable[[], Identity], shop: Shop, now: Clock) -> None:
        self._log = log
        self._identity = identity
        self._shop = shop
        self._now = now

    def take(self, events: Sequence[Any]) -> tuple["Future[Appended] | None", list[Rejected]]:
        """What is being written (None when nothing is), and what was rejected with reasons.

        Raises:
            StoreUnavailable: the identity map or the log cannot be written; nothing was acknowledged.
        """
        good: list[Event] = []
        rejected: list[Rejected] = []
        limit = self._now() + AHEAD
        for index, each in enumerate(events):
            event, reason = _judge(each)
            if event is not None and event.is_after(limit):
                reason = (
                    f"event_time: found {event.event_time.isoformat()}, which lies in the future: "
                    f"it is {self._now().isoformat()} here; check the clock of the sender"
                )
            if event is None or reason:
                rejected.append(Rejected(index=index, event_id=_event_id(each), reason=reason))
            else:
                good.append(event)
        if not good:
            return None, rejected
        keys = self._keys({event.customer_id for event in good if event.customer_id is not None})
        return self._log.append([_row(event, keys, self._shop.minor_digits) for event in good]), rejected

    def _keys(self, customer_ids: set[str]) -> dict[str, str]:
        """`customer_key` of each of the shop's ids; only customers never seen cost a write."""
        identity = self._identity()
        found = {cid: identity.find(self._shop.name, cid) for cid in customer_ids}
        known = {cid: key for cid, key in found.items() if key is not None}
        new = sorted(cid for cid in customer_ids if cid not in known)
        return known | identity.keys(self._shop.name, new) if new else known


def _judge(value: Any) -> tuple[Event | None, str]:
    """The event, or None and why not."""
    try:
        return Event.model_validate(value), ""
    except ValidationError as error:
        return None, "; ".join(describe(each) for each in error.errors(include_url=False)[:_REASONS])


def describe(error: Any) -> str:
    """One broken rule in words: where, what was found, what was needed."""
    where = ".".join(str(part) for part in error["loc"] if part != "body") or "the body"
    found, message = error.get("input"), error["msg"].removeprefix("Value error, ")
    if isinstance(found, str | int | float | bool) and error["type"] not in {"missing", "extra_forbidden"}:
        shown = ascii(found if not isinstance(found, int) or found.bit_length() < 64 else "a huge number")  # noqa: PLR2004
        return f"{where[:80]}: found {shown[:60]}; {message}"
    return f"{ascii(where)[1:-1][:80]}: {message}"


def _event_id(value: Any) -> str | None:
    found = value.get("event_id") if isinstance(value, dict) else None
    return found[:128].encode(errors="replace").decode() if isinstance(found, str) else None


def _row(event: Event, keys: dict[str, str], minor_digits: int) -> EventRow:
    return EventRow(
        event_id=event.event_id,
        type=event.type,
        customer_key=keys[event.customer_id] if event.customer_id is not None else None,
        session_id=event.session_id,
        product_id=event.product_id,
        request_id=event.request_id,
        position=event.position,
        quantity=event.quantity,
        price_minor=minor(event.price, minor_digits),
        event_time=microseconds(event.event_time),
        origin="real",
        release_id=None,
        propensity=None,
        query=event.query,
    )
