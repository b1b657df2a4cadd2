"""The customer of a request: one online read under a deadline, the last known features when it fails."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import structlog

from feature_repo.customer import CustomerFeatures

log = structlog.get_logger()
DEADLINE_SECONDS = 0.05
BREAK_AFTER = 3
"""Failures in a row after which the store is left alone for a while."""
BREAK_SECONDS = 2.0
REMEMBERED = 5_000
"""Customers whose last features are kept; about 7 KB each."""


class Reader(Protocol):
    """The online store."""

    def customer(self, customer_key: str) -> Mapping[str, Any] | None:
        """Feature -> value, or None for a customer without features."""


class Customers:
    """Reads customers, on behalf of one event loop."""

    def __init__(self, reader: Reader, *, deadline: float = DEADLINE_SECONDS, threads: int = 4) -> None:
        self._reader = reader
        self._deadline = deadline
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="online")
        self._last: OrderedDict[str, CustomerFeatures | None] = OrderedDict()
        self._failures = 0
        self._closed_until = 0.0

    async def read(self, customer_key: str) -> tuple[CustomerFeatures | None, bool]:
        """The customer (None: cold start), and whether the online store answered in time."""
        if time.monotonic() < self._closed_until:
            return self._last.get(customer_key), False
        pending = asyncio.get_running_loop().run_in_executor(self._pool, self._read, customer_key)
        try:
            found = await asyncio.wait_for(pending, self._deadline)
        except TimeoutError:
            self._failed(f"no answer within {self._deadline * 1000:g} ms")
        except Exception as error:  # noqa: BLE001 - whatever the store raises, the shopper gets an answer
            self._failed(str(error))
        else:
            self._failures = 0
            self._remember(customer_key, found)
            return found, True
        return self._last.get(customer_key), False

    def close(self) -> None:
        """Let the threads go."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, customer_key: str) -> CustomerFeatures | None:
        row = self._reader.customer(customer_key)
        return None if row is None else CustomerFeatures.from_row(row)

    def _failed(self, reason: str) -> None:
        self._failures += 1
        if self._failures >= BREAK_AFTER:
            self._closed_until = time.monotonic() + BREAK_SECONDS
        log.warning("online.failed", reason=reason, failures=self._failures, resting=self._failures >= BREAK_AFTER)

    def _remember(self, customer_key: str, customer: CustomerFeatures | None) -> None:
        self._last[customer_key] = customer
        self._last.move_to_end(customer_key)
        if len(self._last) > REMEMBERED:
            self._last.popitem(last=False)
