"""What one worker process holds, from the stores at the bottom to the releases in memory."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from data_contracts.artefact_store import ArtefactStore
from data_contracts.merchandising import rules_path
from data_contracts.shop import load_shop
from mercato import identity, paths
from mercato.clock import Clock, clock
from mercato.identity import Identity
from mercato.settings import Settings
from mercato.stores.events import EventLog, event_log
from mercato.stores.impressions import impressions_url
from mercato.stores.popularity import popularity_store
from mercato.stores.products import product_store
from mercato.stores.routing import routing_store
from serving.changes import Changes
from serving.impressions import ImpressionLog
from serving.ingest import Ingest
from serving.online import Customers, Reader
from serving.router import Router
from serving.rules import RuleBook
from serving.trends import Trends

if TYPE_CHECKING:
    from serving.loading import LiveRelease


class PerThread:
    """One identity map per thread: a SQLite connection is not for two at once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._local = threading.local()

    def __call__(self) -> Identity:
        """This thread's map."""
        if not hasattr(self._local, "identity"):
            self._local.identity = identity.identity(self._settings)
        found: Identity = self._local.identity
        return found


@dataclass
class Gateway:
    """Everything that answers need; one per process."""

    settings: Settings
    now: Clock
    router: Router
    customers: Customers
    identity: Callable[[], Identity]
    log: EventLog
    ingest: Ingest
    impressions: ImpressionLog
    changes: Changes
    trends: Trends
    rules: RuleBook
    _closed: bool = field(default=False, init=False)

    @classmethod
    def open(cls, settings: Settings, *, reader: Reader | None = None) -> "Gateway":
        """A gateway that follows the routing document; it is ready when the first release is loaded.

        Args:
            settings: where the stores are.
            reader: the online store; default: the one that `MERCATO_ONLINE_URL` names.
        """
        now = clock(settings)

        def loaded() -> list["LiveRelease"]:
            return router.loaded()

        changes = Changes(product_store(settings), settings.shop, now, loaded)
        router = Router(routing_store(settings), settings.shop, partial(_load, settings, changes))
        # First of all: a release is tried in a process of its own while this one imports the rest.
        router.start()
        changes.start()
        log = event_log(settings)
        people = PerThread(settings)
        return cls(
            settings=settings,
            now=now,
            router=router,
            customers=Customers(reader or _online_reader(settings)),
            identity=people,
            log=log,
            ingest=Ingest(log, people, load_shop(settings.shop), now),
            trends=Trends(popularity_store(settings), now),
            rules=RuleBook(
                Path(settings.merchandising or rules_path(settings.shop)), now, needed=bool(settings.merchandising)
            ),
            impressions=ImpressionLog(impressions_url(settings)),
            changes=changes,
        )

    def close(self) -> None:
        """Stop following, write what waits."""
        if not self._closed:
            self._closed = True
            self.router.stop()
            self.changes.stop()
            self.log.close()
            self.impressions.close()
            self.customers.close()


def _load(settings: Settings, changes: Changes, release_id: str) -> "LiveRelease":
    from serving.loading import load_release

    return changes.bring(load_release(ArtefactStore(paths.lake(settings)), release_id, as_of=clock(settings)()))


def _online_reader(settings: Settings) -> Reader:
    from feature_repo.online import OnlineReader

    return OnlineReader(settings)
