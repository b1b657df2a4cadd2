"""A customer's key is random, permanent and the same in every process; forgetting and rotating hold."""

import subprocess
import sys
from pathlib import Path

import pytest

from mercato.errors import BadSetting
from mercato.identity import identity
from mercato.settings import Settings


def test_a_key_is_permanent_and_says_nothing(tmp_path: Path) -> None:
    """The same id gets the same key in every process, another shop's gets another, and the id is nowhere on disk."""
    people = identity(Settings(home=tmp_path))
    keys = people.keys("shop", ["4711", "4712", "4711"])
    assert len(set(keys.values())) == 2
    assert people.keys("shop", ["4712", "4711"]) == keys
    assert people.find("shop", "4711") == keys["4711"]
    assert people.find("other", "4711") is None
    code = f"""
from pathlib import Path
from mercato.identity import identity
from mercato.settings import Settings
print(identity(Settings(home=Path({str(tmp_path)!r}))).find("shop", "4711"))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == keys["4711"]
    assert (tmp_path / "identity.key").stat().st_mode & 0o777 == 0o600
    people.connection.close()
    for path in tmp_path.iterdir():
        assert b"4711" not in path.read_bytes()


def test_a_forgotten_customer_comes_back_as_a_stranger(tmp_path: Path) -> None:
    """After forgetting, the id has no key; asked for again it gets a new one."""
    people = identity(Settings(home=tmp_path))
    before = people.keys("shop", ["1"])["1"]
    assert people.forget("shop", "1")
    assert not people.forget("shop", "1")
    assert people.find("shop", "1") is None
    assert people.keys("shop", ["1"])["1"] != before
    people.connection.close()


def test_rotation_keeps_the_keys(tmp_path: Path) -> None:
    """Under a new secret the same customers have the same keys, and the old secret finds nobody."""
    people = identity(Settings(home=tmp_path, identity_key="a" * 40))
    keys = people.keys("shop", ["1", "2"])
    rotated = people.rotate("shop", ["1", "2"], b"b" * 32)
    assert rotated.keys("shop", ["1", "2"]) == keys
    assert people.find("shop", "1") is None
    people.connection.close()


def test_a_short_secret_is_refused(tmp_path: Path) -> None:
    """A secret that could be guessed is named, with the length that is needed, and not shown."""
    with pytest.raises(BadSetting, match="has 5 characters, need at least 32"):
        identity(Settings(home=tmp_path, identity_key="short"))
