"""One partition of the lake: a Parquet file whose bytes its manifest names; written whole or not at all."""

import errno
import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import date, datetime
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data_contracts.errors import CorruptFile
from data_contracts.shop import Shop
from mercato.errors import TransientError
from mercato.paths import Lake

_P = ParamSpec("_P")
_R = TypeVar("_R")
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class OutOfSpace(TransientError):
    """The disk is full; what was being written is gone and what was there before is untouched."""


class Manifest(BaseModel):
    """`manifest.json` beside a partition's `part.parquet`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: str
    layer: str
    ds: date
    """Business day of `known_at`."""
    rows: int
    bytes: int
    sha256: str
    contract: str
    """`name@version` in force when it was written."""
    inputs: dict[str, str]
    """What it was made from -> digest or rule."""
    event_time_min: datetime | None = None
    event_time_max: datetime | None = None
    keys_unique: bool = False
    """Whether no key is there twice (clean tables)."""
    nulls: dict[str, int] | None = None
    """Column -> rows without a value, where there are any; None in manifests written before it was counted."""
    history: bool = True
    """Raw: whether the whole day was extracted; False when only late corrections lie here so far."""
    successor: "Manifest | None" = Field(default=None, exclude_if=lambda each: each is None)
    """While the partition is being replaced: the manifest of what comes."""


def one_at_a_time(
    work: Callable[Concatenate[Lake, Shop, str, _P], _R],
) -> Callable[Concatenate[Lake, Shop, str, _P], _R]:
    """`work` on the partitions of one table, which waits while another process works on the same table."""

    @wraps(work)
    def alone(lake: Lake, shop: Shop, table: str, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        with lake.alone(table):
            return work(lake, shop, table, *args, **kwargs)

    return alone


@dataclass(frozen=True, slots=True)
class Partitions:
    """Partitions of one run, written aside until the run ends."""

    lake: Lake
    stack: ExitStack

    def put(self, data: bytes, about: Manifest) -> None:
        """Write a partition aside; the data come into place before the manifest that vouches for them.

        Where other data lie, the manifest in place names both first: after a kill in between, whichever lie there hold.
        """
        folder = self.lake.partition(about.layer, about.table, about.ds.isoformat())
        manifest_aside = self.stack.enter_context(self.lake.writing(f"{folder}/manifest.json"))
        part_aside = self.stack.enter_context(self.lake.writing(f"{folder}/part.parquet"))
        part_aside.write_bytes(data)
        manifest_aside.write_text(about.model_dump_json(indent=1) + "\n")
        before = None
        with suppress(CorruptFile):
            before = manifest(self.lake, about.layer, about.table, about.ds.isoformat())
        if before is not None and before.sha256 != about.sha256:
            both_aside = self.stack.enter_context(self.lake.writing(f"{folder}/manifest.json"))
            both = before.model_copy(update={"successor": about})
            both_aside.write_text(both.model_dump_json(indent=1) + "\n")


@contextmanager
def writing(lake: Lake) -> Iterator[Partitions]:
    """Partitions that come into place together at the end; on any error none does.

    A kill while they are put in place leaves some new and some old, each whole; the same run again completes them.
    """
    with out_of_space(lake.root), ExitStack() as stack:
        yield Partitions(lake, stack)


@contextmanager
def out_of_space(where: str) -> Iterator[None]:
    """Turn the system's "no space left" into OutOfSpace."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        raise OutOfSpace(f"no space left below {where}: free some and run the same interval again") from error


def encode(frame: pa.Table) -> bytes:
    """The Parquet file of a frame: the same rows give the same bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        frame,
        sink,
        compression="zstd",
        compression_level=1,
        use_dictionary=False,  # a fifth less time, and zstd finds the repeats
        version="2.6",
        row_group_size=1_000_000,
    )
    return bytes(sink.getvalue())


def describe(frame: pa.Table, data: bytes, **known: Any) -> Manifest:
    """The manifest of a frame encoded as `data`; `known` are the fields that the frame does not tell."""
    times = pc.min_max(frame["event_time"])
    return Manifest(
        rows=frame.num_rows,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        event_time_min=times["min"].as_py(),
        event_time_max=times["max"].as_py(),
        nulls={name: frame[name].null_count for name in sorted(frame.column_names) if frame[name].null_count},
        **known,
    )


def manifest(lake: Lake, layer: str, table: str, ds: str) -> Manifest | None:
    """The manifest of a finished partition, or None; CorruptFile when it does not parse."""
    path = f"{lake.partition(layer, table, ds)}/manifest.json"
    if not lake.exists(path):
        return None
    try:
        found = Manifest.model_validate_json(lake.read_bytes(path))
    except ValidationError as error:
        raise CorruptFile(
            f"{_name(layer, table, ds)}: its manifest does not parse; run {_again(layer, table, ds)}"
        ) from error
    if found.successor is None:
        return found
    lies = hashlib.sha256(lake.read_bytes(f"{lake.partition(layer, table, ds)}/part.parquet")).hexdigest()
    return found.successor if lies == found.successor.sha256 else found.model_copy(update={"successor": None})


def manifests(
    lake: Lake, layer: str, table: str, first: date | None = None, last: date | None = None
) -> list[Manifest]:
    """The manifests of the finished partitions with first <= ds <= last, ascending."""
    days = [
        ds
        for ds in lake.days(layer, table)
        if (first is None or ds >= first.isoformat()) and (last is None or ds <= last.isoformat())
    ]
    return [found for ds in days if (found := manifest(lake, layer, table, ds))]


def let_go(lake: Lake, layer: str, table: str) -> list[date]:
    """Days whose data went at the end of their lifetime, ascending: their manifests are left to say so."""
    gone = {*lake.days(layer, table, "manifest.json")} - {*lake.days(layer, table)}
    return sorted(date.fromisoformat(ds) for ds in gone)


def quiet_days(lake: Lake, table: str) -> set[date]:
    """Days of raw that were extracted and had no rows, so that they have no partition."""
    path = lake.path("raw", table, "quiet_days.json")
    return {date.fromisoformat(day) for day in lake.read_json(path)} if lake.exists(path) else set()


def note_quiet(lake: Lake, table: str, days: Iterable[date]) -> None:
    """Add to what `quiet_days` tells."""
    before = quiet_days(lake, table)
    after = before | set(days)
    if after != before:
        lake.write_json(lake.path("raw", table, "quiet_days.json"), sorted(day.isoformat() for day in after))


def part_path(lake: Lake, found: Manifest, *, verify: bool = False) -> str:
    """Local path of a partition's file; CorruptFile, before anybody parses it, when it is not the manifest's.

    The size is compared always, the hash when `verify` is set.
    """
    ds = found.ds.isoformat()
    local = lake.local(f"{lake.partition(found.layer, found.table, ds)}/part.parquet")
    size = local.stat().st_size
    name = _name(found.layer, found.table, ds)
    if size != found.bytes:
        raise CorruptFile(
            f"{name} has {size:,} bytes, its manifest says {found.bytes:,}: it was cut short or changed; "
            f"run {_again(found.layer, found.table, ds)}"
        )
    if verify and (sha := hashlib.sha256(local.read_bytes()).hexdigest()) != found.sha256:
        raise CorruptFile(
            f"{name} hashes to {sha[:12]}, its manifest says {found.sha256[:12]}: its bytes changed; "
            f"run {_again(found.layer, found.table, ds)}"
        )
    return str(local)


def _name(layer: str, table: str, ds: str) -> str:
    return f"{layer}/{table}/ds={ds}"


def _again(layer: str, table: str, ds: str) -> str:
    step = {"raw": "extract_sources", "features": "materialize_features"}.get(layer, "clean_tables")
    return f"{step} again for {table} on {ds}"
