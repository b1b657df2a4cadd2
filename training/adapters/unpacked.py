"""Files as DuckDB reads them: UTF-8, and plain or gzipped; the rest is unpacked or transcoded into a run's folder."""

import codecs
import gzip
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import IO, cast

from data_contracts.errors import CorruptFile, SourceMissing

_BLOCK = 1 << 20
_PLAIN = {"utf-8", "utf-8-sig", "ascii"}
_FORMATS = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}
_FORMATS |= {".parquet": "parquet", ".pq": "parquet"}


def format_of(name: str) -> str:
    """csv, jsonl, parquet, or empty when the extension (before .gz) says nothing."""
    return _FORMATS.get(Path(name.lower().removesuffix(".gz")).suffix, "")


def unpacked(paths: tuple[Path, ...], folder: Path, *, encoding: str, member: str) -> tuple[Path, ...]:
    """The same files as UTF-8, plain or gzipped; members of a .zip stand in its place, ascending by name.

    A copy's name ends in the original's, so that an error can name it.

    Raises:
        CorruptFile: an archive is cut short, or bytes are not of the encoding.
        SourceMissing: no member of an archive matches.
    """
    found: list[Path] = []
    for path in paths:
        if path.suffix.lower() == ".zip":
            found.extend(_members(path, folder, encoding, member, len(found)))
        elif encoding in _PLAIN and not (path.suffix.lower() == ".gz" and format_of(path.name) == "parquet"):
            found.append(path)
        else:
            with opened(path) as source:
                found.append(_copy(source, folder / f"{len(found):04d}-{path.name.removesuffix('.gz')}", encoding))
    return tuple(found)


def _members(path: Path, folder: Path, encoding: str, pattern: str, number: int) -> Iterator[Path]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(each.filename for each in archive.infolist() if not each.is_dir())
            wanted = [name for name in names if fnmatch(name, pattern)]
            if not wanted:
                raise SourceMissing(
                    f"no member of {path} matches {pattern!r}; it has {', '.join(names[:5]) or 'none'}; "
                    "set `source.member`"
                )
            for i, name in enumerate(wanted, number):
                with archive.open(name) as source:
                    yield _copy(source, folder / f"{i:04d}-{path.name}!{name.replace('/', '-')}", encoding)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise CorruptFile(f"{path} is not a whole, unencrypted .zip ({error}); fetch it again") from error


def readable(paths: Sequence[Path]) -> Sequence[Path]:
    """The same paths; SourceMissing names one that may not be read."""
    denied = [path for path in paths if not os.access(path, os.R_OK)]
    if denied:
        raise SourceMissing(
            f"{len(denied)} of {len(paths)} files may not be read (permission denied), e.g. {denied[0].absolute()}; "
            "let the user that runs mercato read them"
        )
    return paths


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a plain or gzipped file; CorruptFile when a .gz is cut short."""
    try:
        with path.open("rb") as plain:
            yield cast("IO[bytes]", gzip.GzipFile(fileobj=plain)) if path.suffix.lower() == ".gz" else plain
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise CorruptFile(f"{path} is not a whole .gz ({error}); fetch it again") from error


def _copy(source: IO[bytes], target: Path, encoding: str) -> Path:
    if encoding in _PLAIN or format_of(target.name) == "parquet":
        with target.open("wb") as out:
            shutil.copyfileobj(source, out, _BLOCK)
        return target
    read = 0
    decoder = codecs.getincrementaldecoder(encoding)()
    with target.open("wb") as out:
        try:
            while block := source.read(_BLOCK):
                out.write(decoder.decode(block).encode())
                read += len(block)
            out.write(decoder.decode(b"", final=True).encode())
        except UnicodeError as error:
            where = f" at byte {read + error.start:,}" if isinstance(error, UnicodeDecodeError) else ""
            why = error.reason if isinstance(error, UnicodeDecodeError) else error
            raise CorruptFile(
                f"{target.name[5:]} is not {encoding}{where} ({why}); correct `source.csv.encoding`"
            ) from error
    return target
