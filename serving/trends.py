"""What trends: purchases as the release counted them, plus what shoppers did since, from the five-minute job."""

import math
import sqlite3
import time
from collections.abc import Mapping

import numpy as np
import structlog
from numpy.typing import NDArray

from mercato.clock import Clock
from mercato.errors import StoreUnavailable
from mercato.stores.events import microseconds
from mercato.stores.popularity import PopularityStore
from serving.runtime.catalogue import Catalogue, spread

log = structlog.get_logger()
REFRESH_SECONDS = 30.0
"""Scores change every five minutes; reading a few thousand takes milliseconds."""
POOL = 300
"""Best sellers of the release that are looked at beside all products with events."""


class Trends:
    """The scores as last read; a store that cannot be read leaves the last ones in force."""

    def __init__(self, store: PopularityStore, now: Clock) -> None:
        self._store = store
        self._now = now
        self._scores: Mapping[str, float] = {}
        self._read_at = float("-inf")

    def first(self, catalogue: Catalogue, n: int, code: int | None) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """(rows, scores) of at most n products, best first: of the category `code`, else spread over all of them.

        A score is decayed purchases of the release's last weeks plus the decayed weights of events since.
        """
        known = {catalogue.index.get(product_id, -1): score for product_id, score in self._current().items()}
        known.pop(-1, None)
        of_release = catalogue.cold_start if code is None else catalogue.popular_in[code]
        rows = np.union1d(of_release[:POOL], np.fromiter(known, np.int64, len(known)))
        if code is not None:
            rows = rows[catalogue.category_code[rows] == code]
        live = np.array([known.get(row, 0.0) for row in rows.tolist()])
        value = catalogue.stats["decayed_14d"][rows].astype(np.float64) + live
        order = np.argsort(-value, kind="stable")
        if code is None:
            order = spread(order, value, catalogue.category_code[rows])
        return rows[order[:n]], value[order[:n]]

    def age_seconds(self) -> float:
        """Since the instant up to which the newest run of `update_popularity` counted; NaN where none can be read."""
        try:
            until = self._store.until()
        except (StoreUnavailable, sqlite3.Error) as error:
            log.warning("trends.failed", reason=str(error))
            until = None
        return math.nan if until is None else (microseconds(self._now()) - until) / 1e6

    def _current(self) -> Mapping[str, float]:
        if time.monotonic() - self._read_at > REFRESH_SECONDS:
            self._read_at = time.monotonic()
            try:
                self._scores = self._store.scores(microseconds(self._now()))
            except (StoreUnavailable, sqlite3.Error) as error:
                log.warning("trends.failed", reason=str(error))
        return self._scores
