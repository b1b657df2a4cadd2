"""A release in memory: verified, tried in a child process, parsed, warmed."""

import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from data_contracts.artefact_store import ArtefactStore
from data_contracts.errors import ArtefactRefused
from data_contracts.release import Manifest
from data_contracts.shop import Shop, load_shop
from serving.runtime.artefacts import Artefacts
from serving.runtime.catalogue import Catalogue
from serving.runtime.intent import IntentModel
from serving.runtime.pipeline import Request, rank
from serving.runtime.query.lexicon import Lexicon
from serving.runtime.search import SearchEngine
from serving.runtime.suggest import Suggester
from serving.runtime.understanding import as_written
from serving.trial import parse

PARSE_SECONDS = 60.0
"""Time that a child process gets to parse a release before it is refused."""
WARM_QUERIES = ("milk", "frozen pizza", "bread")


@dataclass(slots=True)
class LiveRelease:
    """One release, ready to answer."""

    release_id: str
    manifest: Manifest
    artefacts: Artefacts
    search: SearchEngine
    """Swapped whole when products change."""
    lexicon: Lexicon | None
    """None: the release was built before query understanding; queries are taken as written."""
    suggester: Suggester
    intent: IntentModel | None
    """What a message wants; None where no intent model was trained yet."""
    shop: Shop

    @property
    def catalogue(self) -> Catalogue:
        """The products of this release."""
        return self.artefacts.catalogue


def load_release(
    store: ArtefactStore, release_id: str, *, as_of: datetime, limit: float = PARSE_SECONDS
) -> LiveRelease:
    """The release, verified by hash before anything is parsed, and warmed.

    Args:
        store: where releases and artefacts lie.
        release_id: which one.
        as_of: the time of the warming requests.
        limit: seconds that the trial parse may take.

    Raises:
        UnknownRelease: there is no such release.
        ArtefactRefused: a hash does not hold, or a file does not parse in time.
    """
    manifest = store.release(release_id)
    paths = store.fetch(manifest)
    parse_in_child(paths, limit=limit)
    artefacts, search, lexicon, intent = parse(paths)
    shop = load_shop(manifest.identity.shop)
    live = LiveRelease(release_id, manifest, artefacts, search, lexicon, Suggester.of(lexicon), intent, shop)
    _warm(live, as_of)
    return live


def parse_in_child(paths: dict[str, Path], *, limit: float) -> None:
    """Parse in a process of its own first: a file that crashes or hangs a native parser must not take us with it."""
    command = [sys.executable, "-m", "serving.trial", *(f"{name}={path}" for name, path in sorted(paths.items()))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    environment.pop("PROMETHEUS_MULTIPROC_DIR", None)
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and module
            command, env=environment, capture_output=True, text=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        raise ArtefactRefused(f"the release was not parsed within {limit:g} s; rebuild its artefacts") from None
    if done.returncode < 0:
        raise ArtefactRefused(f"parsing the release ended in signal {-done.returncode}; rebuild its artefacts")
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["nothing"]
        raise ArtefactRefused(f"the release does not parse: {said[0]}")


def _warm(live: LiveRelease, as_of: datetime) -> None:
    """A few requests whose answers nobody sees: first calls pay for lazy work."""
    first = live.catalogue.product_ids[:1]
    for goal in ("all", "novel"):
        rank(Request(n=10, goal=goal), None, live.catalogue, live.artefacts, as_of)
        rank(Request(n=10, goal=goal, product_ids=first), None, live.catalogue, live.artefacts, as_of)
    for query in WARM_QUERIES:
        live.search.search(as_written(query), n=10)
    live.search.similar(0, n=10)
    if live.intent is not None:
        live.intent.answer("where is my order")
