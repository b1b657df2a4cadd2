"""A file gets to its place whole or not at all, on a folder and on an object store."""

from pathlib import Path

import fsspec
import pytest

from mercato.paths import Lake, canonical_json, lake, sha256_file
from mercato.settings import Settings


@pytest.fixture(params=["file", "memory"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    """A lake on a folder and one on an object store."""
    root = str(tmp_path) if request.param == "file" else f"/{tmp_path.name}"
    return Lake(fsspec.filesystem(request.param), root, "shop")


def test_what_is_written_is_read(stored: Lake) -> None:
    """Bytes and JSON come back as they were, and only finished partitions count as days."""
    stored.write_json(stored.path("a", "b.json"), {"b": 1, "a": [True, None]})
    assert stored.read_json(stored.path("a", "b.json")) == {"a": [True, None], "b": 1}
    stored.write_bytes(stored.partition("raw", "t", "2017-01-02") + "/part.parquet", b"2")
    stored.write_bytes(stored.partition("raw", "t", "2017-01-01") + "/part.parquet", b"1")
    stored.write_bytes(stored.partition("raw", "t", "2017-01-03") + "/manifest.json", b"{}")
    assert stored.days("raw", "t") == ["2017-01-01", "2017-01-02"]


def test_an_error_leaves_the_old_file(stored: Lake) -> None:
    """A writer that fails half-way leaves what was there before, and no leftover."""
    path = stored.path("x.bin")
    stored.write_bytes(path, b"old")

    def fail() -> None:
        with stored.writing(path) as aside:
            aside.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert stored.read_bytes(path) == b"old"
    assert len(stored.fs.ls(stored.path(), detail=False)) == 1


def test_settings_name_the_lake(tmp_path: Path) -> None:
    """Without a URL the data lie below home; the shop's name is a folder."""
    found = lake(Settings(home=tmp_path))
    assert found.path("raw") == f"{tmp_path}/data/complete_journey/raw"
    assert lake(Settings(home=tmp_path), "other").path() == f"{tmp_path}/data/other"


def test_hashes_and_canonical_json(tmp_path: Path) -> None:
    """One value has one byte string; the hash is SHA-256 of the file's bytes."""
    assert canonical_json({"b": 1, "a": "é"}) == '{"a":"é","b":1}'.encode()
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert sha256_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
