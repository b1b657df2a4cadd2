"""The release: one consistent set of artefacts, named by the hash of what it consists of."""

import hashlib
import json
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mercato.paths import canonical_json

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Kind(StrEnum):
    """What an artefact is, and so how it is parsed. Data only: no kind can carry code."""

    NPZ = "npz"
    ONNX = "onnx"
    FAISS = "faiss"
    TOKENIZER = "tokenizer"
    JSON = "json"


class Reproducible(StrEnum):
    """What a replay may promise of an artefact."""

    BYTES = "bytes"
    QUALITY = "quality"


class Artefact(BaseModel):
    """One file of a release."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    sha256: Sha256
    reproducible: Reproducible = Reproducible.BYTES


class ReleaseIdentity(BaseModel):
    """All that decides what a release answers; its hash is the release's name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shop: str
    artefacts: dict[str, Artefact] = Field(min_length=1)
    """Name -> artefact, an open map."""
    feature_services: dict[str, str]
    """Feature service -> digest of its feature list."""
    contracts: dict[str, str]
    """Contract -> semantic version."""

    def release_id(self) -> str:
        """`r-` and the first 16 hex digits of SHA-256 over the canonical JSON."""
        return "r-" + hashlib.sha256(canonical_json(self.model_dump(mode="json"))).hexdigest()[:16]


class Provenance(BaseModel):
    """Where a release came from; beside its identity, hashed separately."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runs: dict[str, str]
    """Artefact name -> MLflow run id."""
    snapshots: dict[str, str]
    """Table or feature view -> digest of the data read."""
    fit_until: datetime
    """No artefact saw an event at or after this instant."""
    code_revision: str
    dag_runs: dict[str, str]
    """Artefact name -> `dag_id/run_id` that made it."""
    metrics: dict[str, float] = Field(default_factory=dict)
    """Offline metrics by name, measured before release."""


class Manifest(BaseModel):
    """A release on disk: `releases/<release_id>.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    release_id: str
    identity: ReleaseIdentity
    provenance: Provenance
    provenance_sha256: Sha256

    @model_validator(mode="after")
    def _hashes_hold(self) -> Self:
        if self.release_id != self.identity.release_id():
            raise ValueError(f"release_id is {self.release_id}, its identity hashes to {self.identity.release_id()}")
        if self.provenance_sha256 != _digest(self.provenance):
            raise ValueError("the provenance does not hash to provenance_sha256")
        return self

    @classmethod
    def of(cls, identity: ReleaseIdentity, provenance: Provenance) -> Self:
        """The manifest of an identity and a provenance."""
        return cls(
            release_id=identity.release_id(),
            identity=identity,
            provenance=provenance,
            provenance_sha256=_digest(provenance),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dict(json.loads(self.model_dump_json()))


def _digest(provenance: Provenance) -> str:
    return hashlib.sha256(canonical_json(provenance.model_dump(mode="json"))).hexdigest()
