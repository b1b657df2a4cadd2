"""The release: its name is the hash of what it consists of, and nothing is loaded that does not match."""

import json
from datetime import UTC, datetime
from pathlib import Path

import fsspec
import pytest

from data_contracts.artefact_store import ArtefactRef, ArtefactStore
from data_contracts.errors import ArtefactRefused, UnknownRelease
from data_contracts.release import Artefact, Kind, Manifest, Provenance, ReleaseIdentity
from mercato.paths import Lake

AT = datetime(2017, 12, 4, 5, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> ArtefactStore:
    return ArtefactStore(Lake(fs=fsspec.filesystem("file"), root=str(tmp_path), shop="shop"))


def manifest(artefacts: dict[str, Artefact], *, code_revision: str = "abc") -> Manifest:
    identity = ReleaseIdentity(
        shop="shop", artefacts=artefacts, feature_services={"f_v1": "d"}, contracts={"t": "1.0.0"}
    )
    provenance = Provenance(runs={}, snapshots={}, fit_until=AT, code_revision=code_revision, dag_runs={})
    return Manifest.of(identity, provenance)


def put(store: ArtefactStore, tmp_path: Path, data: bytes) -> Artefact:
    file = tmp_path / "made"
    file.write_bytes(data)
    return store.put(file, Kind.NPZ)


def test_the_same_artefacts_are_the_same_release_whoever_made_them(store: ArtefactStore, tmp_path: Path) -> None:
    """Provenance does not enter the release id; another artefact does."""
    one = put(store, tmp_path, b"one")
    two = put(store, tmp_path, b"two")
    assert manifest({"als": one}, code_revision="a").release_id == manifest({"als": one}, code_revision="b").release_id
    assert manifest({"als": one}).release_id != manifest({"als": two}).release_id
    assert manifest({"als": one}).release_id != manifest({"ease": one}).release_id


def test_a_release_survives_the_disk(store: ArtefactStore, tmp_path: Path) -> None:
    """What was saved is what is loaded, with each file where its hash says."""
    made = manifest({"als": put(store, tmp_path, b"one")})
    store.save_release(made)
    assert store.release(made.release_id) == made
    assert store.release_ids() == [made.release_id]
    assert store.fetch(made)["als"].read_bytes() == b"one"


@pytest.mark.parametrize("damage", [b"onf", b"on", b""])
def test_a_flipped_or_cut_artefact_is_refused_by_its_hash(store: ArtefactStore, tmp_path: Path, damage: bytes) -> None:
    """Nobody parses bytes that are not the ones the release names."""
    made = manifest({"als": put(store, tmp_path, b"one")})
    Path(store.lake.path("artefacts", made.identity.artefacts["als"].sha256)).write_bytes(damage)
    with pytest.raises(ArtefactRefused, match=r"als .* its bytes changed"):
        store.fetch(made)


def test_a_missing_artefact_is_named(store: ArtefactStore, tmp_path: Path) -> None:
    """The error says which artefact and what to do."""
    made = manifest({"als": put(store, tmp_path, b"one")})
    Path(store.lake.path("artefacts", made.identity.artefacts["als"].sha256)).unlink()
    with pytest.raises(ArtefactRefused, match=r"als .* missing .* train it again"):
        store.fetch(made)


def test_an_edited_manifest_is_refused(store: ArtefactStore, tmp_path: Path) -> None:
    """Identity and provenance are both hashed: neither can be changed by hand."""
    made = manifest({"als": put(store, tmp_path, b"one")})
    for part, key, value in (("identity", "shop", "other"), ("provenance", "code_revision", "forged")):
        edited = made.to_json()
        edited[part][key] = value
        store.lake.write_json(store.lake.path("releases", f"{made.release_id}.json"), edited)
        with pytest.raises(ArtefactRefused, match="does not hold"):
            store.release(made.release_id)


@pytest.mark.parametrize("name", ["r-0000000000000000", "../../etc/passwd", "", "r-xyz"])
def test_an_unknown_release_is_named(store: ArtefactStore, name: str) -> None:
    """An id that no release carries, or that is no id at all, never reaches the file system."""
    with pytest.raises(UnknownRelease):
        store.release(name)


def test_the_newest_ref_is_the_one_fitted_last_before_until(store: ArtefactStore, tmp_path: Path) -> None:
    """A backfill of an older date does not hide the newer artefact, nor the other way round."""
    for month in (11, 12, 10):
        ref = ArtefactRef(
            name="als",
            artefact=put(store, tmp_path, json.dumps(month).encode()),
            fit_until=datetime(2017, month, 1, tzinfo=UTC),
            run_id=str(month),
            snapshots={},
        )
        store.write_ref(ref)
    newest = {until: store.newest_ref("als", until=datetime(2017, until, 15, tzinfo=UTC)) for until in (9, 10, 12)}
    assert newest[9] is None
    assert newest[10] is not None
    assert newest[10].run_id == "10"
    assert newest[12] is not None
    assert newest[12].run_id == "12"
