"""A rotated log of JSON lines as a source; every value arrives as text."""

import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.errors import CorruptFile, SourceMissing
from data_contracts.sources import Logs
from data_contracts.tables import Table
from mercato.paths import sha256_files
from training.adapters.environment import expanded
from training.adapters.records import flat, stage
from training.adapters.unpacked import opened, readable
from training.errors import SourceDown

_EXAMPLES = 3
_PACKED = (".gz", ".bz2", ".zst", ".xz", ".lz4", ".lzma", ".Z", ".zip")
_ROTATED = re.compile(rf"[.-](\d+)((?:[-_.:T]\d+)*)(?:{'|'.join(map(re.escape, _PACKED))})?")
_ISO_DATE = re.compile(r"(?<!\d)(\d{4})-(\d\d)-(\d\d)(?!\d)")


@dataclass(slots=True)
class LogLines:
    """The lines of a log, oldest file first; parsed once, into a Parquet file in `folder`."""

    source: Logs
    spec: Table
    folder: Path
    text: ClassVar[bool] = True
    _path: Path | None = field(default=None, init=False)

    def schema(self) -> pa.Schema:
        """The declared columns, as text; errors as `relation`."""
        return pq.read_schema(self._staged())

    def digest(self) -> str:
        """Hex SHA-256 over the files' names and hashes."""
        return sha256_files(self.paths())

    def relation(self, con: Any, since: datetime, until: datetime) -> Any:
        """All lines; a last line that is still being written is left for the next run.

        Raises:
            SourceDown: the log was rotated while it was read.
            CorruptFile: lines are no JSON objects and no column takes them, or a rotated file is cut short.
            SchemaMismatch: a line has a value that is not declared.
        """
        del since, until
        return con.read_parquet(str(self._staged()), hive_partitioning=False)

    def sample(self, con: Any, rows: int) -> pa.Table:
        """The first lines of the oldest file."""
        return con.read_parquet(str(self._staged()), hive_partitioning=False).limit(rows).to_pyarrow()

    def _staged(self) -> Path:
        if self._path is None:
            before = self._files()
            path = self.folder / f"log-{uuid.uuid4().hex}.parquet"
            stage(self._records(), self.spec.columns, path, self.source.path)
            if self._files() != before:
                raise SourceDown(f"{self.source.path} was rotated while it was read; it is read again")
            self._path = path
        return self._path

    def paths(self) -> list[Path]:
        """The log and its rotated predecessors, oldest first, each once; SourceMissing when none can be read."""
        log = Path(expanded(self.source.path))
        rotated = [(_age(each.name[len(log.name) :]), each) for each in log.parent.glob(f"{log.name}[.-]*")]
        found = [each for age, each in sorted((age, each) for age, each in rotated if age is not None)]
        # While it is packed, a file lies there twice; the one that is not packed is whole.
        found = [each for each in found if each.suffix not in _PACKED or each.with_suffix("") not in found]
        strange = [each.name for each in found if each.suffix in _PACKED and each.suffix != ".gz"]
        if strange:
            raise SourceMissing(
                f"{len(strange)} rotated logs beside {log.absolute()} are packed in a way that is not read, e.g. "
                f"{strange[0]}; pack them with gzip, or move them away"
            )
        found += [log] if log.is_file() else []
        if not found:
            raise SourceMissing(f"found no log {log.absolute()}, nor a rotated one beside it; check `source.path`")
        return list(readable(found))

    def _files(self) -> list[tuple[str, int]]:
        return [(path.name, path.stat().st_ino) for path in self.paths()]

    def _records(self) -> Iterator[dict[str, Any]]:
        """Every line as an object; one that is none at the time of the line before it, in the column that takes it."""
        time, taker = self._time(), self.source.unreadable
        bad: list[str] = []
        count, last = 0, None
        log = Path(expanded(self.source.path))
        for path in self.paths():
            for number, line in _lines(path, growing=path == log):
                record = _object(line)
                if record is not None:
                    last = dict(flat(record, self.spec.columns)).get(time, last)
                    yield record
                elif taker and last is not None:
                    yield {time: last, taker: line.decode(errors="replace")}
                else:
                    count += 1
                    bad += (
                        [f"{path.name} line {number:,}: {line[:60].decode(errors='replace')!r}"]
                        if len(bad) < _EXAMPLES
                        else []
                    )
        if count:
            raise CorruptFile(
                f"{count:,} lines of {self.source.path} are no JSON objects, e.g. {'; '.join(bad)}. Correct them, or "
                "name a text column as `source.unreadable` that takes such lines to quarantine"
            )

    def _time(self) -> str:
        return self.spec.known_at.column or self.spec.event_time.timestamp


def _age(suffix: str) -> tuple[int, int, list[int], str] | None:
    """What sorts rotated files oldest first: dates ascending, then numbers descending; None for other files.

    A date is `20170306` or `2017-03-06`, and a time or a number may follow.
    """
    found = _ROTATED.fullmatch(_ISO_DATE.sub(r"\1\2\3", suffix))
    if not found:
        return None
    number, more = found.group(1), [int(each) for each in re.findall(r"\d+", found.group(2))]
    return (0, int(number), more, suffix) if len(number) >= len("20170306") else (1, -int(number), more, suffix)


def _lines(path: Path, *, growing: bool) -> Iterator[tuple[int, bytes]]:
    """(number, line) of what is not blank; of a file that grows, only lines that are whole."""
    with opened(path) as lines:
        for number, line in enumerate(lines, 1):
            if line.strip() and (line.endswith(b"\n") or not growing):
                yield number, line.rstrip(b"\r\n")


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line.decode())
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
