"""Artefacts by content, refs to the newest of each name, and the releases made of them."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from data_contracts.errors import ArtefactRefused, UnknownRelease
from data_contracts.release import Artefact, Kind, Manifest, Reproducible
from mercato.paths import Lake, sha256_file

_RELEASE_ID = re.compile(r"r-[0-9a-f]{16}")


class ArtefactRef(BaseModel):
    """One training run's artefact: what it is, what it saw, who made it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    artefact: Artefact
    fit_until: datetime
    """It saw no event at or after this instant."""
    run_id: str
    """MLflow run."""
    dag_run: str = ""
    """`dag_id/run_id`, empty when started by hand."""
    snapshots: dict[str, str]
    """Table or feature view -> digest of the data read."""
    metrics: dict[str, float] = {}
    code_revision: str = ""
    """The code that made it; empty in refs older than this field."""
    contracts: dict[str, str] = {}
    """Contract -> semantic version in force when it was made."""
    packages: dict[str, str] = {}
    """Package that computes -> version when it was made."""


class ArtefactStore:
    """`artefacts/<sha256>`, `artefacts/refs/<name>/<fit_until>.json` and `releases/<release_id>.json` of one lake."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake

    def put(self, file: Path, kind: Kind, *, reproducible: Reproducible = Reproducible.BYTES) -> Artefact:
        """Store a file under its hash; the same bytes are stored once, and again where they were damaged."""
        digest = sha256_file(file)
        target = self.lake.path("artefacts", digest)
        if not self.lake.exists(target) or sha256_file(self.lake.local(target)) != digest:
            with self.lake.writing(target) as aside:
                aside.write_bytes(file.read_bytes())
        return Artefact(kind=kind, sha256=digest, reproducible=reproducible)

    def fetch_one(self, name: str, artefact: Artefact) -> Path:
        """The local file of an artefact, its hash verified before anybody parses it."""
        path = self.lake.path("artefacts", artefact.sha256)
        if not self.lake.exists(path):
            raise ArtefactRefused(f"artefact {name} ({artefact.sha256[:12]}) is missing at {path}; train it again")
        local = self.lake.local(path)
        found = sha256_file(local)
        if found != artefact.sha256:
            raise ArtefactRefused(
                f"artefact {name} at {path} hashes to {found[:12]}, the release needs {artefact.sha256[:12]}: "
                "its bytes changed after training; train it again"
            )
        return local

    def fetch(self, manifest: Manifest) -> dict[str, Path]:
        """Name -> verified local file of each artefact of a release."""
        return {name: self.fetch_one(name, each) for name, each in sorted(manifest.identity.artefacts.items())}

    def write_ref(self, ref: ArtefactRef) -> None:
        """Remember what a training run made; a rerun for the same `fit_until` replaces its own ref."""
        path = self.lake.path("artefacts", "refs", ref.name, f"{_stamp(ref.fit_until)}.json")
        self.lake.write_json(path, json.loads(ref.model_dump_json()))

    def newest_ref(self, name: str, *, until: datetime) -> ArtefactRef | None:
        """The ref of `name` with the greatest `fit_until` <= `until`, or None."""
        found = sorted(self.lake.fs.glob(self.lake.path("artefacts", "refs", name, "*.json")))
        fitting = [str(path) for path in found if Path(str(path)).stem <= _stamp(until)]
        return ArtefactRef.model_validate(self.lake.read_json(fitting[-1])) if fitting else None

    def release_path(self, release_id: str) -> str:
        """Where the manifest of a release lies."""
        return self.lake.path("releases", f"{release_id}.json")

    def save_release(self, manifest: Manifest) -> None:
        """Write the manifest; a release that exists keeps its first provenance."""
        path = self.release_path(manifest.release_id)
        if not self.lake.exists(path):
            self.lake.write_json(path, manifest.to_json())

    def release(self, release_id: str) -> Manifest:
        """The manifest, its hashes checked."""
        path = self.release_path(release_id)
        if not _RELEASE_ID.fullmatch(release_id) or not self.lake.exists(path):
            known = ", ".join(self.release_ids()[-3:]) or "none"
            raise UnknownRelease(
                f"found no release {release_id!r}; the newest known: {known}; see `mercato release list`"
            )
        try:
            return Manifest.model_validate(self.lake.read_json(path))
        except (ValidationError, json.JSONDecodeError) as error:
            raise ArtefactRefused(f"the manifest at {path} does not hold: {error}") from error

    def save_evaluation(self, release_id: str, result: dict[str, Any]) -> None:
        """Keep the newest offline evaluation beside the release."""
        self.lake.write_json(self._evaluation(release_id), result)

    def evaluation(self, release_id: str) -> dict[str, Any] | None:
        """The newest offline evaluation of a release, or None."""
        path = self._evaluation(release_id)
        return dict(self.lake.read_json(path)) if self.lake.exists(path) else None

    def _evaluation(self, release_id: str) -> str:
        return self.lake.path("releases", "evaluations", f"{release_id}.json")

    def release_ids(self) -> list[str]:
        """Every release id, sorted."""
        found = [Path(str(path)).stem for path in self.lake.fs.glob(self.lake.path("releases", "r-*.json"))]
        return sorted(found)


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
