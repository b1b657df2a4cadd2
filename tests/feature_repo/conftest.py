"""One feature store with snapshots and online rows at T, copied for each test that changes it."""

import shutil
from pathlib import Path

import pytest

from feature_repo import store
from feature_repo.writer import write_snapshots
from mercato.paths import Lake
from mercato.paths import lake as lake_of
from mercato.settings import Settings
from tests.feature_repo.clean_sample import DAY, WEEK, T, fill


@pytest.fixture(scope="session")
def clean_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose lake holds the clean sample, and snapshots of T and of the week after."""
    home = tmp_path_factory.mktemp("features")
    lake = lake_of(Settings(home=home))
    fill(lake)
    write_snapshots(lake, T)
    write_snapshots(lake, T + WEEK)
    return home


@pytest.fixture
def settings(clean_home: Path, tmp_path: Path) -> Settings:
    """A copy of that home, with nothing registered."""
    shutil.copytree(clean_home, tmp_path / "home")
    return Settings(home=tmp_path / "home")


@pytest.fixture
def lake(settings: Settings) -> Lake:
    """The lake of `settings`."""
    return lake_of(settings)


@pytest.fixture
def online(settings: Settings) -> Settings:
    """`settings`, registered and online as of T."""
    store.apply(settings)
    store.materialize(settings, T - DAY, T)
    return settings
