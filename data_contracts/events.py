"""One event as a client sends it: what `POST /v1/events` takes, and the rules that a row of the log keeps."""

import re
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

EventType = Literal["impression", "view", "click", "cart", "purchase", "search"]
WITHOUT_PRODUCT: frozenset[EventType] = frozenset({"search"})
"""Types of event that need no product."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def printable(value: str) -> str:
    """`value`, unless it holds a control character."""
    found = _CONTROL.search(value)
    if found:
        raise ValueError(f"holds the control character U+{ord(found.group()):04X}; remove it")
    return value


Id = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(printable)]
"""An id that a shop or a client gave, 1 to 128 characters."""
Price = Annotated[Decimal, Field(ge=0, le=1_000_000_000, allow_inf_nan=False)]
"""Money in major units."""


class Event(BaseModel):
    """Something that a shopper did, or was shown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    event_id: Id
    """Chosen by the client; the same id twice is one event."""
    type: EventType
    customer_id: Id | None = None
    """The shop's own id; it is translated at the door and never stored."""
    session_id: Id
    product_id: Id | None = None
    request_id: Id | None = None
    """The ranked answer that led here."""
    position: int | None = Field(default=None, ge=1, le=10_000)
    """Position in that answer, from 1."""
    query: Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(printable)] | None = None
    """What the shopper searched for, of a search; annotators see it without personal data."""
    quantity: int | None = Field(default=None, ge=1, le=1_000_000)
    price: Price | None = None
    event_time: AwareDatetime
    """When it happened, with zone."""

    @model_validator(mode="after")
    def _names_its_product(self) -> Self:
        if self.product_id is None and self.type not in WITHOUT_PRODUCT:
            raise ValueError(f"a {self.type} needs product_id")
        if self.query is not None and self.type != "search":
            raise ValueError(f"a {self.type} has no query")
        return self

    def is_after(self, limit: datetime) -> bool:
        """Whether it claims to have happened after `limit`."""
        return self.event_time > limit
