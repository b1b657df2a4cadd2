"""Latency and throughput of the gateway beside a bare FastAPI and a trivial Bento endpoint, in the same run."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mercato.settings import Settings
from tests.bench.load import run

CONCURRENCY = (1, 8, 32)
REQUESTS = 600
QUERIES = ("milk", "frozen pizza", "dog food", "shampoo", "apples", "baby wipes", "cheese slices", "cold brew coffee")


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def started(command: list[str], url: str, env: dict[str, str] | None = None) -> Iterator[float]:
    """A server from start until `url` answers; yields the seconds that took, ends it afterwards."""
    begun = time.monotonic()
    process = subprocess.Popen(
        command, env={**os.environ, **(env or {})}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while True:
            if process.poll() is not None or time.monotonic() - begun > 120:
                raise RuntimeError(f"{command} did not start (exit {process.returncode})")
            with contextlib.suppress(OSError):
                urllib.request.urlopen(url, timeout=2).close()
                break
            time.sleep(0.1)
        yield time.monotonic() - begun
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


@contextlib.contextmanager
def gateway(settings: Settings, env: dict[str, str] | None = None) -> Iterator[tuple[str, float]]:
    """Address of a gateway on what the demo made, and the seconds until it was ready."""
    address = f"http://127.0.0.1:{free_port()}"
    said = {"MERCATO_URL": address, "MERCATO_HOME": str(settings.root), "MERCATO_CLOCK": "shifted", **(env or {})}
    with started([sys.executable, "-m", "mercato.cli", "serve"], f"{address}/readyz", said) as ready:
        yield address, ready


def customers(settings: Settings) -> list[str]:
    """The shop's own ids of the households that the demo's page offers."""
    path = settings.root / "demo" / "households.json"
    return [str(each["customer_id"]) for each in json.loads(Path(path).read_text())]


def measure(settings: Settings) -> dict[str, Any]:
    """Endpoint -> one load per concurrency, and seconds until the gateway answers."""
    python = sys.executable
    bare, bento = free_port(), free_port()
    bodies = [{"customer_id": each, "n": 10} for each in customers(settings)]
    searches = [{"query": each, "n": 10} for each in QUERIES]
    found: dict[str, Any] = {}
    with (
        started([python, "-m", "uvicorn", "tests.bench.trivial_fastapi:app", "--port", str(bare), "--log-level",
                 "warning"], f"http://127.0.0.1:{bare}/docs"),
        started([python, "-m", "bentoml", "serve", "tests.bench.trivial_bento:Trivial", "--port", str(bento)],
                f"http://127.0.0.1:{bento}/readyz"),
        gateway(settings) as (address, ready),
    ):  # fmt: skip
        found["gateway_ready_seconds"] = ready
        targets = {
            "bare FastAPI": (f"http://127.0.0.1:{bare}/hello", [{"n": 10}]),
            "trivial Bento": (f"http://127.0.0.1:{bento}/hello", [{"n": 10}]),
            "recommend": (f"{address}/v1/recommend", bodies),
            "search": (f"{address}/v1/search", searches),
        }
        for name, (url, sent) in targets.items():
            run(url, sent, concurrency=4, requests=100)
            found[name] = [asdict(run(url, sent, concurrency=c, requests=REQUESTS)) for c in CONCURRENCY]
    return found
