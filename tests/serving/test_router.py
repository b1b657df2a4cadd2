"""The router: follows the routing document, never an older one, and only to releases that load."""

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.artefact_store import ArtefactStore
from data_contracts.errors import ArtefactRefused
from data_contracts.release import Kind, Manifest
from mercato import paths
from mercato.errors import StoreUnavailable
from mercato.settings import Settings
from mercato.stores.routing import RoutingDocument, RoutingStore, routing_store
from serving.errors import NoRelease
from serving.loading import load_release, parse_in_child
from serving.router import Router, Routing, bucket
from serving.trial import parse
from tests.feature_repo.clean_sample import T
from tests.serving.small_release import go_live
from tests.training.small_intent import small_intent


def document(generation: int, weights: dict[str, int]) -> RoutingDocument:
    """A routing document."""
    return RoutingDocument(generation, weights, "s", "test", T)


class Documents:
    """A routing store that holds one document, or is down."""

    def __init__(self) -> None:
        self.now: RoutingDocument | None = None
        self.down = False

    def live(self, shop: str) -> RoutingDocument | None:
        if self.down:
            raise StoreUnavailable("down")
        return self.now


@pytest.fixture
def followed() -> tuple[Documents, Router, list[str]]:
    """A router over documents, whose releases are their own names, and the names loaded so far."""
    documents, loaded = Documents(), []

    def load(name: str) -> Any:
        if name.startswith("bad"):
            raise ArtefactRefused("broken")
        loaded.append(name)
        return name

    return documents, Router(documents, "shop", load), loaded  # type: ignore[arg-type]


def test_nothing_is_ready_before_the_first_release(followed: tuple[Documents, Router, list[str]]) -> None:
    """Without a document the router is not ready and says what to do."""
    _, router, _ = followed
    router.poll()
    assert not router.ready
    with pytest.raises(NoRelease, match="no release"):
        router.current()


def test_an_older_generation_is_refused(followed: tuple[Documents, Router, list[str]]) -> None:
    """After generation 2 a store that answers generation 1 changes nothing."""
    documents, router, _ = followed
    for generation in (2, 1):
        documents.now = document(generation, {f"r{generation}": 10_000})
        router.poll()
    assert router.current().document.generation == 2


def test_the_last_good_document_stays_when_the_store_is_down(followed: tuple[Documents, Router, list[str]]) -> None:
    """A poll that fails leaves what is in force."""
    documents, router, _ = followed
    documents.now = document(1, {"r1": 10_000})
    router.poll()
    documents.down = True
    with pytest.raises(StoreUnavailable):
        router.poll()
    assert router.current().champion == "r1"


def test_a_release_that_does_not_load_is_not_served(followed: tuple[Documents, Router, list[str]]) -> None:
    """Generation 2 names a broken release: 1 stays; generation 3 is taken at once."""
    documents, router, loaded = followed
    documents.now = document(1, {"r1": 10_000})
    router.poll()
    documents.now = document(2, {"bad": 500, "r1": 9_500})
    with pytest.raises(ArtefactRefused):
        router.poll()
    router.poll()
    assert router.current().document.generation == 1
    documents.now = document(3, {"r3": 10_000})
    router.poll()
    assert (router.current().champion, loaded) == ("r3", ["r1", "r3"])


def test_rolling_back_loads_nothing(followed: tuple[Documents, Router, list[str]]) -> None:
    """The release before is still in memory when a newer generation points back to it."""
    documents, router, loaded = followed
    for generation, name in enumerate(("r1", "r2", "r1"), start=1):
        documents.now = document(generation, {name: 10_000})
        router.poll()
    assert loaded == ["r1", "r2"]
    assert router.current().champion == "r1"


@given(
    st.lists(st.text(min_size=1), min_size=1, max_size=20),
    st.tuples(st.integers(0, 10_000), st.integers(0, 10_000)).map(sorted),
    st.sampled_from([("new", "old"), ("z-new", "old")]),
)
def test_raising_a_weight_never_moves_a_unit_back(units: list[str], weights: list[int], names: tuple[str, str]) -> None:
    """Units of a release stay there when its weight goes up, to the whole of it, wherever its name sorts."""
    new, old = names
    low, high = (
        Routing.of(document(1, {new: w, old: 10_000 - w}), {new: new, old: old})  # type: ignore[dict-item]
        for w in weights
    )
    for unit in units:
        if new == "new":
            assert (low.choose(unit)[0] == new) == (bucket("s", unit) < weights[0])
        if low.choose(unit)[0] == new:
            assert high.choose(unit)[0] == new
        assert (low.choose(unit)[1] == "champion") == (low.choose(unit)[0] == low.champion)


def test_a_real_release_is_taken_over_from_the_real_store(home: Path, built: tuple[Path, str]) -> None:
    """A router over the SQLite store loads generation 1 and takes generation 2 over without loading again."""
    settings = Settings(home=home)
    loads: list[str] = []

    def load(name: str) -> Any:
        loads.append(name)
        return load_release(ArtefactStore(paths.lake(settings)), name, as_of=T + timedelta(days=1))

    store: RoutingStore = routing_store(settings)
    router = Router(store, settings.shop, load)
    router.poll()
    go_live(settings, {built[1]: 10_000})
    router.poll()
    assert (loads, router.current().document.generation) == ([built[1]], 2)


def test_changed_bytes_are_refused_before_they_are_parsed(home: Path, built: tuple[Path, str]) -> None:
    """One flipped byte in any artefact refuses the release by its hash."""
    store = ArtefactStore(paths.lake(Settings(home=home)))
    digest = store.release(built[1]).identity.artefacts["ranker_all"].sha256
    file = Path(store.lake.path("artefacts", digest))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(ArtefactRefused, match="ranker_all"):
        load_release(store, built[1], as_of=T)


def test_a_release_answers_messages_once_it_has_an_intent_model(
    home: Path, built: tuple[Path, str], tmp_path: Path
) -> None:
    """The intent model is optional; with it the live release says what a message wants, and a cut one is refused."""
    store = ArtefactStore(paths.lake(Settings(home=home)))
    before = store.release(built[1])
    assert parse(store.fetch(before))[3] is None
    file = small_intent().save(tmp_path / "intent")
    artefacts = {**before.identity.artefacts, "intent": store.put(file, Kind.NPZ)}
    manifest = Manifest.of(before.identity.model_copy(update={"artefacts": artefacts}), before.provenance)
    store.save_release(manifest)
    live = load_release(store, manifest.release_id, as_of=T)
    assert live.intent is not None
    assert live.intent.answer("where is my parcel").intent == "track"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ArtefactRefused, match="needed kind intent"):
        parse({**store.fetch(before), "intent": file})


def test_a_cut_file_is_refused(home: Path, built: tuple[Path, str], tmp_path: Path) -> None:
    """A ranker cut in half is refused, and so is a release whose parse takes too long."""
    store = ArtefactStore(paths.lake(Settings(home=home)))
    files = store.fetch(store.release(built[1]))
    half = tmp_path / "half"
    half.write_bytes(files["ranker_all"].read_bytes()[: files["ranker_all"].stat().st_size // 2])
    with pytest.raises(ArtefactRefused, match="does not parse"):
        parse_in_child({**files, "ranker_all": half}, limit=60)
    with pytest.raises(ArtefactRefused, match="within"):
        parse_in_child(files, limit=0.01)


def test_a_parser_that_is_killed_is_refused(home: Path, built: tuple[Path, str], tmp_path: Path) -> None:
    """A child that dies of a signal while it parses (out of memory, a crash of native code) refuses the release."""
    store = ArtefactStore(paths.lake(Settings(home=home)))
    files = store.fetch(store.release(built[1]))
    waits = tmp_path / "pipe"
    os.mkfifo(waits)
    with ThreadPoolExecutor(1) as pool:
        parsing = pool.submit(parse_in_child, {**files, "ranker_all": waits}, limit=60)
        # Opening the pipe for writing waits until the child reads from it.
        with waits.open("wb"):
            for child in psutil.Process().children():
                if str(waits) in " ".join(child.cmdline()):
                    child.kill()
            with pytest.raises(ArtefactRefused, match="signal 9"):
                parsing.result(30)
