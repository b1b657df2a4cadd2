"""How long a release takes to load, to take over in a running gateway, and to be rolled back, while requests go on."""

import contextlib
import json
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_contracts.artefact_store import ArtefactStore
from data_contracts.release import Manifest
from mercato import clock, paths
from mercato.settings import Settings
from mercato.stores.routing import TOTAL_WEIGHT, RoutingStore, routing_store
from tests.bench.serving import gateway


@contextlib.contextmanager
def sibling(settings: Settings, release_id: str) -> Iterator[str]:
    """Id of a second release, the first without its user kNN; its manifest is removed afterwards."""
    store = ArtefactStore(paths.lake(settings))
    first = store.release(release_id)
    kept = {name: each for name, each in first.identity.artefacts.items() if name != "user_knn"}
    second = Manifest.of(first.identity.model_copy(update={"artefacts": kept}), first.provenance)
    store.save_release(second)
    try:
        yield second.release_id
    finally:
        Path(store.lake.path("releases", f"{second.release_id}.json")).unlink()


def measure(settings: Settings) -> dict[str, float]:
    """Seconds to load a release; seconds from the routing document to the first answer, forward and back; failures."""
    from serving.loading import load_release

    live = routing_store(settings).live(settings.shop)
    assert live is not None, "run the demo first"
    release_id = max(live.weights, key=lambda each: live.weights[each])
    begun = time.monotonic()
    load_release(ArtefactStore(paths.lake(settings)), release_id, as_of=clock.real())
    found = {"load_seconds": time.monotonic() - begun}
    with tempfile.TemporaryDirectory() as folder, sibling(settings, release_id) as second:
        url = f"sqlite:///{folder}/routing.db"
        _point(RoutingStore(url), settings.shop, release_id)
        with gateway(settings, {"MERCATO_STORE_URL": url}) as (address, _), _asking(address) as failed:
            found["swap_seconds"] = _takeover(RoutingStore(url), settings.shop, second, address)
            found["rollback_seconds"] = _takeover(RoutingStore(url), settings.shop, release_id, address)
        found["failed_meanwhile"] = float(len(failed))
    return found


def _point(store: RoutingStore, shop: str, release_id: str) -> None:
    live = store.live(shop)
    seen = live.generation if live else 0
    store.write(shop, seen=seen, weights={release_id: TOTAL_WEIGHT}, salt="bench", reason="bench", at=clock.real())


def _takeover(store: RoutingStore, shop: str, release_id: str, address: str) -> float:
    _point(store, shop, release_id)
    begun = time.monotonic()
    while time.monotonic() - begun < 120:
        if _recommend(address)["release_id"] == release_id:
            return time.monotonic() - begun
        time.sleep(0.02)
    raise RuntimeError(f"{release_id} did not take over within 120 s")


def _recommend(address: str) -> dict[str, Any]:
    request = urllib.request.Request(f"{address}/v1/recommend", b'{"n": 5}', {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return dict(json.load(answer))


@contextlib.contextmanager
def _asking(address: str) -> Iterator[list[str]]:
    """Ask all the time; yields what failed."""
    failed: list[str] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            try:
                _recommend(address)
            except OSError as error:
                failed.append(str(error))
            time.sleep(0.01)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield failed
    finally:
        done.set()
        asking.join()
