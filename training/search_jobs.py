"""The judged half of the search index: newest artefacts loaded as they would be served, and what was made of them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
import structlog
from numpy.typing import NDArray

from data_contracts.artefact_store import ArtefactRef, ArtefactStore
from data_contracts.errors import ArtefactRefused, UnknownRelease
from data_contracts.release import Kind
from mercato import paths
from mercato.settings import Settings
from serving.runtime.fusion import Fusion
from serving.runtime.query.lexicon import Lexicon
from serving.runtime.query.relax import find
from serving.runtime.search import SearchEngine, SearchResult
from serving.runtime.understanding import Understanding
from training.errors import ArtefactMissing
from training.record import record

log = structlog.get_logger()

INDEXES: Final = ("keyword_index", "faiss_index", "product_features", "query_lexicon")
"""What a verdict holds for; the encoder is bound to them already."""
_FILES: Final = (*INDEXES, "encoder", "tokenizer")
_UNLOADABLE: Final = (UnknownRelease, ArtefactRefused, KeyError, TypeError, ValueError)
"""What loading a release raises that is gone, not whole, or of a format that this code no longer reads."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Search as it answers, and the artefacts behind it."""

    engine: SearchEngine
    lexicon: Lexicon | None
    understand: Callable[[str], Understanding]
    sha256: Mapping[str, str]
    """Artefact name -> its hash."""

    def fused_by(self, fusion: Fusion) -> "Loaded":
        """The same search with another fusion."""
        return replace(self, engine=self.engine.fused_by(fusion))

    def query_vectors(self, queries: Iterable[str]) -> NDArray[np.float32]:
        """(q, d) unit vectors that the vector index is asked with; q is less where queries are understood alike.

        Raises:
            ArtefactMissing: there is no encoder.
        """
        if self.engine.encoder is None:
            raise ArtefactMissing("found no encoder, needed one to ask the vector index; run train_embeddings")
        return self.engine.encoder.encode_all(sorted({self.understand(query).text for query in queries} - {""}))

    def answer(self, query: str, n: int) -> tuple[SearchResult, list[str]]:
        """The first `n` products of the gateway's answer, and what it gave up to find them."""
        found, _, relaxed = find(self.engine, self.lexicon, self.understand(query), (), {"n": n})
        return found, relaxed


def draft(settings: Settings, until: datetime) -> Loaded:
    """Search over the newest artefacts fitted until `until`, not yet in any release.

    Raises:
        ArtefactMissing: one of them was never made.
    """
    store = ArtefactStore(paths.lake(settings))
    refs = {name: store.newest_ref(name, until=until) for name in _FILES}
    found: dict[str, ArtefactRef] = {name: ref for name, ref in refs.items() if ref is not None}
    if len(found) < len(refs):
        missing = sorted(refs.keys() - found.keys())
        raise ArtefactMissing(f"found no {', '.join(missing)} fitted until {until.isoformat()}; run rebuild_index")
    return _loaded({name: store.fetch_one(name, ref.artefact) for name, ref in found.items()})


def of_release(settings: Settings, release_id: str) -> Loaded:
    """Search of a release, as the gateway loads it.

    Raises:
        UnknownRelease, ArtefactRefused: the release is not there or not whole.
    """
    store = ArtefactStore(paths.lake(settings))
    return _loaded(store.fetch(store.release(release_id)))


def live(settings: Settings) -> Loaded | None:
    """Search of the release with the greatest weight; None where none is live, or this code cannot load it."""
    from mercato.stores.routing import routing_store

    document = routing_store(settings).live(settings.shop)
    if document is None:
        return None
    release_id = max(document.weights, key=lambda each: document.weights[each])
    try:
        return of_release(settings, release_id)
    except _UNLOADABLE as problem:
        log.warning("live.no_rival", release_id=release_id, problem=f"{type(problem).__name__}: {problem}")
        return None


def record_fusion(
    settings: Settings, until: datetime, fusion: Fusion, metrics: Mapping[str, float], config: Mapping[str, float]
) -> ArtefactRef:
    """The ref of the verdict on the indexes of `until`."""
    return record(
        settings,
        Fusion.kind,
        lambda path: fusion.save(path, fit_until=until.isoformat()),
        kind=Kind.JSON,
        fit_until=until,
        config=config,
        snapshots={},
        metrics=metrics,
    )


def _loaded(files: Mapping[str, Path]) -> Loaded:
    from functools import partial

    from serving.runtime import search
    from serving.runtime.catalogue import Catalogue
    from serving.runtime.query.understand import understand
    from serving.runtime.understanding import as_written

    engine = search.load(files, Catalogue.load(files["product_features"]))
    lexicon = Lexicon.load(files["query_lexicon"]) if "query_lexicon" in files else None
    reads = as_written if lexicon is None else partial(understand, lexicon=lexicon)
    return Loaded(engine, lexicon, reads, {name: path.name for name, path in files.items()})
