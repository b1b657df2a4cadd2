"""The only writer of rollout state. For now one transition: a release goes live."""

import hashlib
from datetime import datetime
from typing import Any

from data_contracts.artefact_store import ArtefactStore
from mercato import paths
from mercato.settings import Settings
from mercato.stores.routing import TOTAL_WEIGHT, RoutingDocument, routing_store


def make_live(settings: Settings, release_id: str, *, at: datetime, reason: str) -> RoutingDocument:
    """The routing document that gives `release_id` all traffic; the present one when it already does.

    The release's artefacts are verified by hash first. The salt is set by the first release of a shop and kept.

    Raises:
        UnknownRelease, ArtefactRefused: the release is not there or not whole.
        StaleGeneration: somebody else moved the traffic at the same moment.
    """
    artefacts = ArtefactStore(paths.lake(settings))
    artefacts.fetch(artefacts.release(release_id))
    store = routing_store(settings)
    live = store.live(settings.shop)
    if live is not None and live.weights == {release_id: TOTAL_WEIGHT}:
        return live
    salt = live.salt if live else hashlib.sha256(f"{settings.shop}:{release_id}".encode()).hexdigest()[:16]
    return store.write(
        settings.shop,
        seen=live.generation if live else 0,
        weights={release_id: TOTAL_WEIGHT},
        salt=salt,
        reason=reason,
        at=at,
    )


def make_first_live(settings: Settings, release_id: str, *, at: datetime) -> dict[str, Any]:
    """The live routing document: generation 1 with `release_id` when the shop had none, else the present one."""
    live = routing_store(settings).live(settings.shop)
    if live is None:
        live = make_live(settings, release_id, at=at, reason="first release of the shop")
    return live.as_json()
