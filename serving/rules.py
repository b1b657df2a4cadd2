"""The merchandising rules in force: a file read again when it changes, the last good rules kept when it is wrong."""

import math
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final

import structlog

from data_contracts.errors import BadShop
from data_contracts.merchandising import Rule, read_rules
from mercato.clock import Clock
from serving import metrics
from serving.runtime import merchandising

log = structlog.get_logger()
REFRESH_SECONDS = 5.0
"""Between two looks at the file."""
_NEVER_SEEN: Final = (-1, -1)
"""Stamp of no file, not even of a missing one."""


class RuleBook:
    """One shop's rules."""

    def __init__(self, path: Path, now: Clock, *, needed: bool = False) -> None:
        """The rules of a file, read now.

        Args:
            path: the file; once it was there its rules hold until it says something else.
            now: the time at which rules are in force.
            needed: whether its absence from the start is worth a warning: somebody named it.
        """
        self._path = path
        self._now = now
        self._rules: list[Rule] = []
        self._stamp: tuple[int, int] | None = _NEVER_SEEN if needed else None
        self._looked_at = -math.inf
        self._current()

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
            self._rules = read_rules(self._path)
        except (BadShop, OSError, UnicodeDecodeError) as error:
            metrics.RULES_REFUSED.inc()
            log.warning("merchandising.refused", reason=str(error), kept=len(self._rules))
            return
        metrics.RULES.set(len(self._rules))
        log.info("merchandising.read", rules=len(self._rules))
