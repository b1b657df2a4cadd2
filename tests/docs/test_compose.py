"""docker-compose.yaml and the Dockerfile name only what exists."""

import re

import yaml

from mercato.settings import Settings
from tests.golden import ROOT

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
KNOWN = {f"MERCATO_{name.upper()}" for name in Settings.model_fields}


def test_every_variable_is_a_setting() -> None:
    """A misspelt MERCATO_ variable would be ignored in silence."""
    for name, service in COMPOSE["services"].items():
        assert set(service["environment"]) <= KNOWN, name
    assert set(re.findall(r"MERCATO_\w+", (ROOT / "Dockerfile").read_text())) <= KNOWN


def test_nothing_is_published_beyond_this_machine() -> None:
    """Every published port is bound to the loopback address."""
    ports = [port for service in COMPOSE["services"].values() for port in service["ports"]]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_every_volume_is_declared_and_every_service_is_watched() -> None:
    """Data outlive the container, memory is bounded, and a sick container is seen."""
    for service in COMPOSE["services"].values():
        assert {volume.partition(":")[0] for volume in service["volumes"]} <= set(COMPOSE["volumes"])
        assert service["healthcheck"]["test"]
        assert service["mem_limit"] == "6g"
