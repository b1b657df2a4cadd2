"""The only writer of rollout state. For now one transition: a shop's first release goes live."""

import hashlib
from datetime import datetime

from data_contracts.artefact_store import ArtefactStore
from mercato.paths import Lake
from mercato.stores.routing import TOTAL_WEIGHT, RoutingDocument, RoutingStore


def make_live(store: RoutingStore, lake: Lake, release_id: str, *, at: datetime, reason: str) -> RoutingDocument:
    """The routing document that gives `release_id` all traffic; the present one when it already does.

    The release's artefacts are verified by hash first. The salt is set by the first release of a shop and kept.
    """
    artefacts = ArtefactStore(lake)
    artefacts.fetch(artefacts.release(release_id))
    live = store.live(lake.shop)
    if live is not None and live.weights == {release_id: TOTAL_WEIGHT}:
        return live
    salt = live.salt if live else hashlib.sha256(f"{lake.shop}:{release_id}".encode()).hexdigest()[:16]
    return store.write(
        lake.shop,
        seen=live.generation if live else 0,
        weights={release_id: TOTAL_WEIGHT},
        salt=salt,
        reason=reason,
        at=at,
    )
