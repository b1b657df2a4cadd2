"""The routing document: which releases answer, with which weights. One row per generation, never changed."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from mercato.errors import StaleGeneration, StoreUnavailable
from mercato.settings import Settings
from mercato.stores.migrations import Steps, engine_of, prepare_engine

TOTAL_WEIGHT = 10_000
"""Weights are shares of this many buckets."""

_meta = sa.MetaData()
_routing = sa.Table(
    "routing",
    _meta,
    sa.Column("shop", sa.String(64), primary_key=True),
    sa.Column("generation", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("weights", sa.Text, nullable=False),
    sa.Column("salt", sa.String(64), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("written_at", sa.String(40), nullable=False),
)
STEPS: Steps = [
    [
        """
CREATE TABLE IF NOT EXISTS routing (
  shop VARCHAR(64) NOT NULL,
  generation INTEGER NOT NULL,
  weights TEXT NOT NULL,
  salt VARCHAR(64) NOT NULL,
  reason TEXT NOT NULL,
  written_at VARCHAR(40) NOT NULL,
  PRIMARY KEY (shop, generation)
)
"""
    ]
]
"""Versions of the routing store; see `mercato.stores.migrations`."""


@dataclass(frozen=True, slots=True)
class RoutingDocument:
    """What a router follows: release id -> weight out of `TOTAL_WEIGHT`."""

    generation: int
    weights: dict[str, int]
    salt: str
    reason: str
    written_at: datetime

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "generation": self.generation,
            "weights": self.weights,
            "salt": self.salt,
            "reason": self.reason,
            "written_at": self.written_at.isoformat(),
        }


class RoutingStore:
    """Append-only generations of one shop's routing document; `monitoring.rollout` is the only writer."""

    def __init__(self, url: str) -> None:
        self._engine = engine_of(url)
        self._ready = False

    def _connect(self) -> sa.Connection:
        try:
            if not self._ready:
                prepare_engine(self._engine, "routing", STEPS)
                self._ready = True
            return self._engine.connect()
        except sa.exc.SQLAlchemyError as error:
            raise StoreUnavailable(f"cannot open the routing store: {error}") from error

    def live(self, shop: str, *, at: datetime | None = None) -> RoutingDocument | None:
        """The newest document (written no later than `at`), or None before the first release."""
        query = sa.select(_routing).where(_routing.c.shop == shop)
        if at is not None:
            query = query.where(_routing.c.written_at <= at.astimezone(UTC).isoformat(timespec="microseconds"))
        with self._connect() as connection:
            row = connection.execute(query.order_by(_routing.c.generation.desc()).limit(1)).first()
        return _document(row) if row else None

    def history(self, shop: str) -> list[RoutingDocument]:
        """Every document of a shop, oldest first."""
        query = sa.select(_routing).where(_routing.c.shop == shop).order_by(_routing.c.generation)
        with self._connect() as connection:
            return [_document(row) for row in connection.execute(query)]

    def write(  # noqa: PLR0913
        self, shop: str, *, seen: int, weights: dict[str, int], salt: str, reason: str, at: datetime
    ) -> RoutingDocument:
        """Append generation `seen + 1`; StaleGeneration when somebody else already did."""
        if sum(weights.values()) != TOTAL_WEIGHT or min(weights.values()) < 0:
            raise ValueError(f"weights {weights} do not add up to {TOTAL_WEIGHT}")
        values = {
            "shop": shop,
            "generation": seen + 1,
            "weights": json.dumps(weights, sort_keys=True),
            "salt": salt,
            "reason": reason,
            "written_at": at.astimezone(UTC).isoformat(timespec="microseconds"),
        }
        with self._connect() as connection:
            newest = sa.select(sa.func.max(_routing.c.generation)).where(_routing.c.shop == shop)
            try:
                found = connection.execute(newest).scalar() or 0
                if found != seen:
                    raise StaleGeneration(f"routing of {shop} is at generation {found}, the writer had seen {seen}")
                connection.execute(sa.insert(_routing).values(values))
                connection.commit()
            except sa.exc.IntegrityError as error:
                raise StaleGeneration(f"generation {seen + 1} of {shop} was written by somebody else") from error
        document = self.live(shop)
        assert document is not None  # noqa: S101 - just written
        return document


def _document(row: sa.Row[Any]) -> RoutingDocument:
    return RoutingDocument(
        generation=row.generation,
        weights=json.loads(row.weights),
        salt=row.salt,
        reason=row.reason,
        written_at=datetime.fromisoformat(row.written_at),
    )


def routing_store(settings: Settings) -> RoutingStore:
    """The store that `MERCATO_STORE_URL` names."""
    return RoutingStore(settings.store())
