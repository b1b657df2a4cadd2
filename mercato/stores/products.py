"""Products that were put or removed through the gateway: every change with its time, so that a replay sees them too."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from mercato.errors import StoreUnavailable
from mercato.settings import Settings
from mercato.stores.migrations import Steps, engine_of, prepare_engine

STEPS: Steps = [
    [
        """
CREATE TABLE IF NOT EXISTS product_changes (
  shop VARCHAR(64) NOT NULL,
  product_id VARCHAR(128) NOT NULL,
  changed_at BIGINT NOT NULL,
  body TEXT,
  PRIMARY KEY (shop, product_id, changed_at)
)
"""
    ]
]
"""Versions of the store; see `mercato.stores.migrations`."""
_changes = sa.Table(
    "product_changes",
    sa.MetaData(),
    sa.Column("shop", sa.String(64), primary_key=True),
    sa.Column("product_id", sa.String(128), primary_key=True),
    sa.Column("changed_at", sa.BigInteger, primary_key=True),
    sa.Column("body", sa.Text),
)


@dataclass(frozen=True, slots=True)
class Change:
    """What a product became."""

    product_id: str
    changed_at: int
    """Microseconds, UTC."""
    body: Mapping[str, Any] | None
    """Columns of clean/products; None: it was removed."""


class ProductStore:
    """The changes of all shops at `url`."""

    def __init__(self, url: str) -> None:
        self._engine = engine_of(url)
        self._ready = False

    def add(self, shop: str, change: Change) -> None:
        """Keep a change; committed when this returns."""
        body = None if change.body is None else json.dumps(dict(change.body), sort_keys=True)
        key = {"shop": shop, "product_id": change.product_id, "changed_at": change.changed_at}
        with self._begin() as connection:
            connection.execute(sa.delete(_changes).where(*(_changes.c[name] == value for name, value in key.items())))
            connection.execute(sa.insert(_changes).values(**key, body=body))

    def newest(self, shop: str) -> tuple[int, int]:
        """(changes, time of the newest): whoever saw the same pair before has nothing to read."""
        query = sa.select(sa.func.count(), sa.func.max(_changes.c.changed_at)).where(_changes.c.shop == shop)
        with self._begin() as connection:
            count, at = connection.execute(query).one()
        return int(count), int(at or 0)

    def between(self, shop: str, since: int, before: int | None = None) -> list[Change]:
        """The last change of each product in [since, before), by product; microseconds, UTC."""
        query = sa.select(_changes).where(_changes.c.shop == shop, _changes.c.changed_at >= since)
        if before is not None:
            query = query.where(_changes.c.changed_at < before)
        with self._begin() as connection:
            rows = connection.execute(query.order_by(_changes.c.product_id, _changes.c.changed_at)).all()
        last = {row.product_id: row for row in rows}
        return [
            Change(row.product_id, row.changed_at, None if row.body is None else json.loads(row.body))
            for row in last.values()
        ]

    def _begin(self) -> Any:
        try:
            if not self._ready:
                prepare_engine(self._engine, "products", STEPS)
                self._ready = True
            return self._engine.begin()
        except sa.exc.SQLAlchemyError as error:
            raise StoreUnavailable(f"cannot open the store of product changes: {error}") from error


def product_store(settings: Settings) -> ProductStore:
    """The store beside the routing document's, in the same database when that is a server."""
    return ProductStore(settings.store_url or settings.sqlite("products"))
