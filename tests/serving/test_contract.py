"""The contract of version 1: `/v1/openapi.json` is what is committed, and no request that it allows gets a 500."""

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from starlette.testclient import TestClient

from mercato.errors import BadSetting
from serving.app import create_app
from serving.door import Door
from serving.gateway import Gateway
from serving.run import PortInUse, address, check_port
from tests.golden import ROOT, check_golden


def test_the_contract_is_the_committed_one(client: TestClient) -> None:
    """A change of the interface shows as a change of docs/openapi.json."""
    rendered = {**client.get("/v1/openapi.json").json()}
    rendered["paths"] = {path: each for path, each in rendered["paths"].items() if path.startswith("/v1/")}
    check_golden(ROOT / "docs/openapi.json", json.dumps(rendered, indent=1, sort_keys=True) + "\n")


def test_no_request_gets_a_500(gateway: Gateway) -> None:
    """Whatever fits the schema of a route, the answer is one that the contract names, in our shape, never a 500."""
    schema = schemathesis.openapi.from_asgi("/v1/openapi.json", Door(create_app(lambda: gateway, page=False)))
    operations = [found.ok() for found in schema.get_all_operations() if found.ok().path.startswith("/v1/")]
    assert len(operations) == 10
    for operation in operations:
        _try_out(operation)


def _try_out(operation: Any) -> None:
    @settings(
        max_examples=15, derandomize=True, database=None, deadline=None, phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy())
    def answers(case: schemathesis.Case) -> None:
        response = case.call()
        assert str(response.status_code) in {*operation.definition.raw["responses"], "404", "405"}, response.text
        if response.status_code >= 400:
            assert {"code", "message", "hint", "request_id"} == response.json()["error"].keys()
        else:
            case.validate_response(response, checks=[schemathesis.checks.not_a_server_error])

    answers()


def test_a_port_in_use_is_named_with_the_next_step() -> None:
    """A taken port is found before anything starts, named, and may be free later."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=f"port {port} .* taken.*MERCATO_URL"):
            check_port("127.0.0.1", port)
    assert PortInUse.retryable
    check_port("127.0.0.1", port)


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1:1", "http://127.0.0.1", "http://shop.example:80", "http://127.0.0.1:x", ""]
)
def test_an_address_that_cannot_be_listened_on_is_refused(url: str) -> None:
    """The gateway speaks plain HTTP on a numeric address and a port."""
    with pytest.raises(BadSetting, match="MERCATO_URL"):
        address(url)


def test_localhost_is_an_address() -> None:
    """The name of this machine's loopback is taken."""
    assert address("http://localhost:3000") == ("127.0.0.1", 3000)


def test_mercato_serve_on_a_taken_port_exits_75(tmp_path: Path) -> None:
    """The command says what is wrong on stderr and asks to be tried again."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-m", "mercato.cli", "serve"],
            env={"MERCATO_URL": url, "MERCATO_HOME": str(tmp_path), "PATH": "", "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
    assert (done.returncode, done.stdout) == (75, "")
    assert "taken" in done.stderr
