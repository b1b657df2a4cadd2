"""The merchandising rules in force: a file read again when it changes, the last good rules kept when it is wrong."""

import time
from collections.abc import Collection
from pathlib import Path

import structlog

from data_contracts.errors import BadShop
from data_contracts.merchandising import Rule, load_rules
from mercato.clock import Clock
from serving import metrics
from serving.runtime import merchandising

log = structlog.get_logger()
REFRESH_SECONDS = 5.0
"""Between two looks at the file."""


class RuleBook:
    """One shop's rules."""

    def __init__(self, path: Path, now: Clock) -> None:
        self._path = path
        self._now = now
        self._rules: list[Rule] = []
        self._stamp: tuple[int, int] | None = None
        self._looked_at = -REFRESH_SECONDS

    def applying(self, *, queries: Collection[str], category: str | None, segment: str | None) -> list[Rule]:
        """The rules that a request meets now; see `serving.runtime.merchandising.applying`."""
        rules = self._current()
        if not rules:
            return []
        return merchandising.applying(rules, queries=queries, category=category, segment=segment, as_of=self._now())

    def _current(self) -> list[Rule]:
        if time.monotonic() - self._looked_at > REFRESH_SECONDS:
            self._looked_at = time.monotonic()
            stamp = self._file_stamp()
            if stamp != self._stamp:
                self._stamp = stamp
                self._read()
        return self._rules

    def _file_stamp(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size

    def _read(self) -> None:
        try:
            self._rules = load_rules(self._path)
        except (BadShop, OSError, UnicodeDecodeError) as error:
            metrics.RULES_REFUSED.inc()
            log.warning("merchandising.refused", reason=str(error), kept=len(self._rules))
            return
        metrics.RULES.set(len(self._rules))
        log.info("merchandising.read", rules=len(self._rules))
