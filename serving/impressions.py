"""What was shown: every ranked answer, logged off the path of the request. May be lost in a crash, and is counted."""

import hashlib
import json
import queue
import sqlite3
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import structlog
from numpy.typing import NDArray

from mercato.stores.impressions import STEPS
from mercato.stores.migrations import open_sqlite
from serving import metrics

log = structlog.get_logger()
WAITING = 2_000
"""Answers that may wait to be written; more are shed."""
_GROUP = 200
_PAUSE_SECONDS = 0.2
"""Between transactions, so that many answers share one."""
_INSERT = "INSERT OR IGNORE INTO impressions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Impression:
    """One ranked answer as it was shown."""

    request_id: str
    surface: Literal["recommend", "search", "similar", "trending"]
    release_id: str
    arm: str
    customer_key: str | None
    session_id: str | None
    known_at: int
    """Microseconds since 1970 UTC."""
    product_ids: Sequence[str]
    """Best first; position counts from `first_position`."""
    scores: Sequence[float]
    first_position: int = 1
    features: NDArray[np.float32] | None = None
    """(n, f) float32 values that the ranker read, in served order; None where no ranker answered."""
    feature_names: Sequence[str] = ()

    def rows(self, feature_set: str | None) -> list[tuple[object, ...]]:
        """One tuple per product. Propensity is 1: nothing is randomised yet."""
        shared = (self.surface, self.release_id, self.arm, self.customer_key, self.session_id)
        blobs = [None] * len(self.product_ids) if self.features is None else [row.tobytes() for row in self.features]
        return [
            (self.request_id, self.first_position + at, product, float(score), 1.0, *shared, blob, feature_set,
             self.known_at)
            for at, (product, score, blob) in enumerate(zip(self.product_ids, self.scores, blobs, strict=True))
        ]  # fmt: skip


class ImpressionLog:
    """A bounded queue and one writer thread; `write` never waits."""

    def __init__(self, url: str, *, waiting: int = WAITING) -> None:
        self._url = url
        self._queue: queue.Queue[Impression | None] = queue.Queue(waiting)
        self._digests: dict[tuple[str, ...], str] = {}
        self._writer = threading.Thread(target=self._run, name="impressions", daemon=True)
        self._writer.start()

    def write(self, impression: Impression) -> None:
        """Log an answer, or shed it and count that."""
        try:
            self._queue.put_nowait(impression)
        except queue.Full:
            metrics.IMPRESSIONS_DROPPED.inc(len(impression.product_ids))

    def close(self) -> None:
        """Write what waits, then stop."""
        if self._writer.is_alive():
            self._queue.put(None)
            self._writer.join()

    def _run(self) -> None:
        connection: sqlite3.Connection | None = None
        last = False
        while not last:
            group, last = self._next_group()
            try:
                connection = connection or _open(self._url)
                self._write(connection, group)
            except Exception as error:  # noqa: BLE001 - a log that may lose rows must not stop for one
                log.warning("impressions.dropped", reason=str(error), answers=len(group))
                self._digests.clear()
                metrics.IMPRESSIONS_DROPPED.inc(sum(len(each.product_ids) for each in group))
                if connection is not None:
                    connection.close()
                    connection = None
            if not last and self._queue.qsize() < _GROUP:
                time.sleep(_PAUSE_SECONDS)
        if connection is not None:
            connection.close()

    def _next_group(self) -> tuple[list[Impression], bool]:
        group: list[Impression] = []
        each = self._queue.get()
        while each is not None:
            group.append(each)
            if len(group) == _GROUP or self._queue.empty():
                return group, False
            each = self._queue.get()
        return group, True

    def _write(self, connection: sqlite3.Connection, group: list[Impression]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        n = 0
        for impression in group:
            feature_set = self._feature_set(connection, impression)
            n += connection.executemany(_INSERT, impression.rows(feature_set)).rowcount
        connection.execute("COMMIT")
        metrics.IMPRESSIONS_LOGGED.inc(n)

    def _feature_set(self, connection: sqlite3.Connection, impression: Impression) -> str | None:
        if impression.features is None:
            return None
        names = tuple(impression.feature_names)
        if names not in self._digests:
            text = json.dumps(names)
            digest = hashlib.sha256(text.encode()).hexdigest()[:16]
            connection.execute("INSERT OR IGNORE INTO feature_sets VALUES (?, ?)", (digest, text))
            self._digests[names] = digest
        return self._digests[names]


def _open(url: str) -> sqlite3.Connection:
    connection = open_sqlite(url, "impressions", STEPS, durable=False)
    # NORMAL: a killed process loses nothing that was committed, a power cut may.
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection
