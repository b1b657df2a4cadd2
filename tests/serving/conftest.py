"""One small release, built once; a gateway over it for each module that asks."""

import shutil
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from mercato.settings import Settings
from serving.app import create_app
from serving.door import Door
from serving.gateway import Gateway
from tests.serving import small_release

HEALTHY_SECONDS = 180


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The home of a shop with one release, live as generation 1, and the release's id."""
    home = tmp_path_factory.mktemp("release")
    settings = Settings(home=home)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries that training uses; its own tests judge them
        manifest = small_release.build(settings, tmp_path_factory.mktemp("scratch"))
    small_release.go_live(settings, {manifest.release_id: 10_000})
    return home, manifest.release_id


@pytest.fixture
def home(built: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy of that home, to break."""
    shutil.copytree(built[0], tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture(scope="module")
def gateway(built: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway over a copy of that home, ready."""
    home = tmp_path_factory.mktemp("gateway") / "home"
    shutil.copytree(built[0], home)
    opened = Gateway.open(Settings(home=home))
    wait_ready(opened)
    yield opened
    opened.close()


@pytest.fixture
def client(gateway: Gateway) -> Iterator[TestClient]:
    """A client of that gateway, through the door."""
    with client_of(gateway) as found:
        yield found


def client_of(gateway: Gateway) -> TestClient:
    """A client of any gateway."""
    return TestClient(Door(create_app(lambda: gateway, page=False)), raise_server_exceptions=False)


def wait_ready(gateway: Gateway) -> None:
    """Returns when a release is loaded."""
    end = time.monotonic() + HEALTHY_SECONDS
    while not gateway.router.ready:
        assert time.monotonic() < end, "no release was loaded"
        time.sleep(0.05)
