"""Which release answers: follows the routing document, loads what it names, swaps whole."""

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

import structlog

from mercato.errors import MercatoError
from mercato.stores.routing import TOTAL_WEIGHT, RoutingDocument, RoutingStore
from serving import metrics
from serving.errors import NoRelease

if TYPE_CHECKING:
    from serving.loading import LiveRelease

log = structlog.get_logger()
POLL_SECONDS = 1.0
RETRY_SECONDS = 30.0
"""Between two tries to load what could not be loaded: each try costs a process."""


@dataclass(frozen=True, slots=True)
class Routing:
    """One generation with all its releases loaded; replaced whole, never changed."""

    document: RoutingDocument
    releases: dict[str, "LiveRelease"]
    champion: str

    @classmethod
    def of(cls, document: RoutingDocument, releases: dict[str, "LiveRelease"]) -> "Routing":
        """The champion is the release with the greatest weight."""
        champion = max(document.weights, key=lambda name: (document.weights[name], name))
        return cls(document, releases, champion)

    def choose(self, unit: str) -> tuple["LiveRelease", str]:
        """The release that answers `unit`, and its arm: `champion` or `candidate`.

        Buckets are dealt in the order of names, whichever is the champion: between two releases, raising one's weight
        never moves a unit of it back, all the way up.
        """
        at = bucket(self.document.salt, unit)
        names = sorted(self.document.weights)
        uppers = accumulate(self.document.weights[name] for name in names)
        name = next(name for name, upper in zip(names, uppers, strict=True) if at < upper)
        return self.releases[name], "champion" if name == self.champion else "candidate"


def bucket(salt: str, unit: str) -> int:
    """In [0, 10000): where a unit stands under this salt."""
    return int.from_bytes(hashlib.sha256(f"{salt}|{unit}".encode()).digest()) % TOTAL_WEIGHT


@dataclass
class Router:
    """Follows one shop's routing document from a background thread."""

    store: RoutingStore
    shop: str
    load: Callable[[str], "LiveRelease"]
    _current: Routing | None = None
    _known: dict[str, "LiveRelease"] = field(default_factory=dict)
    _refused: int = 0
    """A generation that could not be loaded; left alone until `_retry_at`, while newer ones are taken at once."""
    _retry_at: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to follow."""
        self._thread = threading.Thread(target=self._follow, name="router", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop following; what is loaded stays."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    @property
    def ready(self) -> bool:
        """Whether a release is loaded and warmed."""
        return self._current is not None

    def current(self) -> Routing:
        """The generation in force.

        Raises:
            NoRelease: none was loaded yet.
        """
        if self._current is None:
            raise NoRelease(
                f"no release of {self.shop} is loaded here yet",
                "wait for /readyz; if nothing is live, assemble a release (`mercato release live` says)",
            )
        return self._current

    def loaded(self) -> list["LiveRelease"]:
        """Every release in memory, those of the generation before too."""
        return list(self._known.values())

    def poll(self) -> None:
        """Take over a newer generation, or keep the last good one.

        Raises:
            MercatoError: the store is down, or a release cannot be loaded; what was in force stays.
        """
        document = self.store.live(self.shop)
        if document is None:
            return
        seen = self._current.document.generation if self._current else 0
        if document.generation <= seen or (document.generation == self._refused and time.monotonic() < self._retry_at):
            return
        self._refused, self._retry_at = document.generation, time.monotonic() + RETRY_SECONDS
        wanted = {name for name, weight in document.weights.items() if weight > 0}
        for name in sorted(wanted - self._known.keys()):
            self._known[name] = self.load(name)
        # The releases of the generation before stay loaded, so that rolling back is only pointing back.
        before = set(self._current.releases) if self._current else set()
        self._current = Routing.of(document, {name: self._known[name] for name in wanted})
        self._known = {name: live for name, live in self._known.items() if name in wanted | before}
        metrics.GENERATION.set(document.generation)
        metrics.READY.set(1)
        log.info("routing.taken", generation=document.generation, weights=document.weights, reason=document.reason)

    def _follow(self) -> None:
        metrics.READY.set(0)
        last_failure = ""
        wait = 0.0
        while not self._stop.wait(wait):
            wait = POLL_SECONDS
            try:
                self.poll()
            except Exception as error:  # noqa: BLE001 - a thread that dies would freeze the routing for good
                metrics.ROUTING_FAILURES.inc()
                if str(error) != last_failure:
                    last_failure = str(error)
                    log.warning("routing.kept", reason=last_failure, known=isinstance(error, MercatoError))
