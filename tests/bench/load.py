"""A small closed-loop HTTP/1.1 client: each connection sends its next request when the last one was answered."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np


@dataclass(frozen=True, slots=True)
class Load:
    """What one run saw."""

    concurrency: int
    requests: int
    per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    failed: int
    """Answers other than 200."""


def run(url: str, bodies: Sequence[dict[str, object]], *, concurrency: int, requests: int) -> Load:
    """Latency and throughput of POSTs of `bodies` in turn (GET for an empty body)."""
    return asyncio.run(_run(url, bodies, concurrency, requests))


async def _run(url: str, bodies: Sequence[dict[str, object]], concurrency: int, requests: int) -> Load:
    parts = urlsplit(url)
    assert parts.hostname in {"127.0.0.1", "localhost"}, "load goes to this machine only"
    raw = [_request(parts.path, body) for body in bodies]
    todo = iter(range(requests))
    seconds: list[float] = []
    failed = 0

    async def client() -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        for at in todo:
            start = time.perf_counter()
            writer.write(raw[at % len(raw)])
            status = await _answer(reader)
            seconds.append(time.perf_counter() - start)
            failed += status != 200
        writer.close()

    begun = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(concurrency)))
    took = time.perf_counter() - begun
    p50, p95, p99 = np.percentile(np.array(seconds) * 1000, [50, 95, 99])
    return Load(concurrency, requests, requests / took, float(p50), float(p95), float(p99), failed)


def _request(path: str, body: dict[str, object]) -> bytes:
    if not body:
        return f"GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n".encode()
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


async def _answer(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    length = next((int(line.split(":")[1]) for line in lines if line.startswith("content-length:")), 0)
    await reader.readexactly(length)
    return int(lines[0].split(" ")[1])
