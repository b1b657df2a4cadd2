"""What was dropped: files that are whole and new, look by look."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from training.adapters.files import matching

_Mark = tuple[int, int, int]
"""Inode, bytes, time of the last change: two looks that find the same found the same file."""


@dataclass(slots=True)
class Arrivals:
    """Looks at drop folders again and again; a new one tells everything that is there."""

    paths: Mapping[str, str]
    """Table -> path or glob."""
    _seen: dict[tuple[str, Path], _Mark] = field(default_factory=dict, init=False)
    _told: dict[tuple[str, Path], _Mark] = field(default_factory=dict, init=False)

    def look(self) -> dict[str, list[Path]]:
        """Table -> its files that are new or changed since they were told, ascending.

        Nothing is told while any file is empty or differs from the look before: a run reads all files of a table,
        so one that is still being written must not be among them.
        """
        before, self._seen = self._seen, self._marks()
        if self._seen != before or any(size == 0 for _, size, _ in self._seen.values()):
            return {}
        new = [each for each, mark in self._seen.items() if self._told.get(each) != mark]
        self._told = self._seen
        return {table: [path for of, path in new if of == table] for table in sorted({of for of, _ in new})}

    def _marks(self) -> dict[tuple[str, Path], _Mark]:
        found = {}
        for table, path in self.paths.items():
            for each in matching(path):
                state = each.stat()
                found[table, each] = (state.st_ino, state.st_size, state.st_mtime_ns)
        return found
