"""A file gets to its place whole or not at all, on a folder and on an object store."""

import os
import tempfile
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
    assert len(stored.fs.find(stored.path())) == 1


def test_a_local_copy_is_what_lies_there_now(stored: Lake) -> None:
    """A file that was written again is read anew, also where it had to be copied from an object store."""
    for content in (b"old", b"new", b"old"):
        stored.write_bytes(stored.path("x"), content)
        assert stored.local(stored.path("x")).read_bytes() == content


def test_local_copies_that_nobody_asks_for_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They lie below TMPDIR; of two that are two days old the one that is asked for again stays."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    settings = Settings(home=tmp_path, data_url=f"memory://{tmp_path.name}")
    there = lake(settings)
    copies = []
    for name in ("used", "unused"):
        there.write_bytes(there.path(name), name.encode())
        copies.append(there.local(there.path(name)))
        os.utime(copies[-1], (0, 0))
    assert there.local(there.path("used")) == copies[0]
    assert all(each.is_relative_to(tmp_path) for each in copies)
    lake(settings)
    assert [each.exists() for each in copies] == [True, False]


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
