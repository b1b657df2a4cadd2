"""One artefact, one .npz file: arrays plus `meta`, a JSON text. Never pickled; the same input leaves the same bytes."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_contracts.errors import ArtefactRefused

_SEPARATOR = "\n"


def pack_text(values: Sequence[str]) -> NDArray[np.uint8]:
    """Strings as one UTF-8 byte array, separated by line feeds (which inside a value become spaces)."""
    return np.frombuffer(_SEPARATOR.join(v.replace("\n", " ") for v in values).encode(), np.uint8)


def unpack_text(packed: NDArray[np.uint8], n: int) -> list[str]:
    """The n strings that pack_text packed.

    Raises:
        ArtefactRefused: another number of strings is inside.
    """
    if n == 0:
        return []
    values = packed.tobytes().decode().split(_SEPARATOR)
    if len(values) != n:
        raise ArtefactRefused(f"found {len(values)} strings in the artefact, needed {n}; build it again")
    return values


def write(path: Path, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any], *, compressed: bool = True) -> Path:
    """Writes arrays and meta beside `path`, then puts them in place with one replace; returns `path`."""
    aside = path.with_name(path.name + ".part")
    text = json.dumps(meta, sort_keys=True, separators=(",", ":"))
    everything: dict[str, Any] = {name: arrays[name] for name in sorted(arrays)}
    everything["meta"] = np.frombuffer(text.encode(), np.uint8)
    with aside.open("wb") as file:
        (np.savez_compressed if compressed else np.savez)(file, allow_pickle=False, **everything)
    aside.replace(path)
    return path


def read(path: Path, kind: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The arrays and meta of an artefact of that kind.

    Raises:
        ArtefactRefused: the file is no such archive, holds objects, or is of another kind.
    """
    try:
        # Opened here: NumPy leaves its own handle open when the archive is broken.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        meta = json.loads(arrays.pop("meta").tobytes().decode())
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as problem:
        raise ArtefactRefused(f"found no readable artefact in {path.name} ({problem}), needed kind {kind}") from problem
    if meta.get("kind") != kind:
        raise ArtefactRefused(f"found an artefact of kind {meta.get('kind')} in {path.name}, needed {kind}")
    return arrays, meta
