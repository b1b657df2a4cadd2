"""A release goes live only whole, and a shop's first one by itself."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from data_contracts.artefact_store import ArtefactStore
from data_contracts.errors import ArtefactRefused, UnknownRelease
from data_contracts.release import Kind, Manifest, Provenance, ReleaseIdentity
from mercato import paths
from mercato.cli import app
from mercato.settings import Settings
from mercato.stores.routing import TOTAL_WEIGHT
from monitoring.rollout import make_first_live, make_live

AT = datetime(2017, 12, 4, 5, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


def release(settings: Settings, tmp_path: Path, data: bytes) -> Manifest:
    store = ArtefactStore(paths.lake(settings))
    file = tmp_path / "als"
    file.write_bytes(data)
    identity = ReleaseIdentity(
        shop=settings.shop, artefacts={"als": store.put(file, Kind.NPZ)}, feature_services={}, contracts={}
    )
    made = Manifest.of(identity, Provenance(runs={}, snapshots={}, fit_until=AT, code_revision="x", dag_runs={}))
    store.save_release(made)
    return made


def test_the_first_release_goes_live_and_the_second_waits(settings: Settings, tmp_path: Path) -> None:
    """Generation 1 is written once; a later release does not take traffic by being assembled."""
    one, two = release(settings, tmp_path, b"one"), release(settings, tmp_path, b"two")
    first = make_first_live(settings, one.release_id, at=AT)
    assert (first["generation"], first["weights"]) == (1, {one.release_id: TOTAL_WEIGHT})
    assert make_first_live(settings, two.release_id, at=AT) == first


def test_moving_traffic_keeps_the_salt_and_is_idempotent(settings: Settings, tmp_path: Path) -> None:
    """Units keep their buckets over releases; pointing twice to the same release is one generation."""
    one, two = release(settings, tmp_path, b"one"), release(settings, tmp_path, b"two")
    first = make_live(settings, one.release_id, at=AT, reason="test")
    second = make_live(settings, two.release_id, at=AT, reason="test")
    again = make_live(settings, two.release_id, at=AT, reason="test")
    assert (second.generation, second.salt) == (2, first.salt)
    assert again == second


def test_a_damaged_or_unknown_release_never_goes_live(settings: Settings, tmp_path: Path) -> None:
    """Hashes are checked before traffic moves."""
    one = release(settings, tmp_path, b"one")
    lake = paths.lake(settings)
    Path(lake.path("artefacts", one.identity.artefacts["als"].sha256)).write_bytes(b"0ne")
    with pytest.raises(ArtefactRefused):
        make_live(settings, one.release_id, at=AT, reason="test")
    with pytest.raises(UnknownRelease):
        make_live(settings, "r-0000000000000000", at=AT, reason="test")


def test_a_release_goes_live_and_back_by_command(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`mercato release make-live` moves all traffic, there and back; an unknown id is refused with the next step."""
    monkeypatch.setenv("MERCATO_HOME", str(settings.home))
    one, two = release(settings, tmp_path, b"one"), release(settings, tmp_path, b"two")
    for generation, made in enumerate((one, two, one), start=1):
        asked = CliRunner().invoke(app, ["release", "make-live", made.release_id, "--reason", "test"])
        shown = json.loads(asked.stdout)
        assert (shown["generation"], shown["weights"]) == (generation, {made.release_id: TOTAL_WEIGHT})
    refused = CliRunner().invoke(app, ["release", "make-live", "r-0000000000000000", "--reason", "test"])
    assert refused.exit_code == 65
    assert "mercato release list" in refused.stderr
