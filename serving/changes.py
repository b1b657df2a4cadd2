"""Products put and removed through the gateway: kept, then searchable in every release that is loaded here."""

import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa
import structlog

from feature_repo.search_text import semantic_text
from mercato.clock import Clock
from mercato.errors import StoreUnavailable
from mercato.stores.events import microseconds
from mercato.stores.products import Change, ProductStore
from serving.errors import NotKept
from serving.runtime import delta

if TYPE_CHECKING:
    from serving.loading import LiveRelease

log = structlog.get_logger()
POLL_SECONDS = 1.0
"""Another worker's change is searchable here after so long at most, and the time to encode it."""


class Changes:
    """One shop's changes, followed from a background thread."""

    def __init__(
        self, store: ProductStore, shop: str, now: Clock, loaded: Callable[[], Sequence["LiveRelease"]]
    ) -> None:
        self._store, self._shop, self._now, self._loaded = store, shop, now, loaded
        self._seen: tuple[Any, ...] = ()
        self._last: Mapping[str, Change] = {}
        self._vectors: dict[tuple[str, str], Any] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="changes", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Stop following."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def put(self, product_id: str, body: delta.Body | None) -> int:
        """Keep what a product became (None: removed), searchable here when this returns; its time in microseconds.

        Raises:
            NotKept: the store is down; nothing was changed.
        """
        at = microseconds(self._now())
        try:
            self._store.add(self._shop, Change(product_id, at, body))
        except (StoreUnavailable, sa.exc.SQLAlchemyError, sqlite3.Error) as error:
            raise NotKept("the change cannot be kept right now", "send the same request again") from error
        self.refresh()
        return at

    def bring(self, live: "LiveRelease") -> "LiveRelease":
        """The release, freshly loaded, with what changed since its index was built."""
        with self._lock:
            found = self._store.between(self._shop, _built(live))
            live.search = self._changed(live, found)
            self._last = {**self._last, **{each.product_id: each for each in found}}
        return live

    def of(self, product_id: str, live: "LiveRelease") -> Change | None:
        """What became of a product since the index of a release was built; None where nothing did."""
        change = self._last.get(product_id)
        return change if change is not None and change.changed_at >= _built(live) else None

    def gone(self, live: "LiveRelease") -> list[str]:
        """Products removed since the index of a release was built."""
        return [
            each.product_id for each in self._last.values() if each.body is None and each.changed_at >= _built(live)
        ]

    def refresh(self) -> None:
        """Give every loaded release what changed since its index was built."""
        with self._lock:
            releases = list(self._loaded())
            if not releases:
                return
            seen = (self._store.newest(self._shop), tuple(sorted(each.release_id for each in releases)))
            if seen == self._seen:
                return
            found = self._store.between(self._shop, min(_built(each) for each in releases))
            for live in releases:
                since = [each for each in found if each.changed_at >= _built(live)]
                if since or live.search.hidden.any() or live.search.added:
                    live.search = self._changed(live, since)
            self._last = {each.product_id: each for each in found}
            self._seen = seen

    def _changed(self, live: "LiveRelease", changes: Sequence[Change]) -> Any:
        put = {each.product_id: each.body for each in changes if each.body is not None}
        gone = [each.product_id for each in changes if each.body is None]
        vectors = [self._vector(live, semantic_text(body)) for body in put.values()]
        part = delta.part_of(put, np.array(vectors, dtype=np.float32), live.search.base)
        return live.search.changed(part, gone)

    def _vector(self, live: "LiveRelease", text: str) -> Any:
        """The text's unit vector; zeros, so that words alone find it, when the encoder is out."""
        engine = live.search
        key = (engine.base.keyword.encoder_sha256, text)
        if key not in self._vectors:
            try:
                self._vectors[key] = engine.encoder.encode([text])[0] if engine.encoder else None
            except Exception:  # noqa: BLE001 - whatever a native runtime raises
                log.warning("changes.not_encoded", release_id=live.release_id)
        found = self._vectors.get(key)
        return np.zeros(engine.base.vectors.d, dtype=np.float32) if found is None else found

    def _follow(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            try:
                self.refresh()
            except Exception as error:  # noqa: BLE001 - a thread that dies would freeze the catalogue for good
                log.warning("changes.failed", reason=str(error))


def _built(live: "LiveRelease") -> int:
    """The instant up to which the release's index holds every change, microseconds, UTC."""
    return microseconds(datetime.fromisoformat(str(live.search.base.keyword.meta["fit_until"])))
