"""The scratch space of one extraction: a folder, and a DuckDB that spills into it."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import psutil

from data_contracts.lake import connect
from data_contracts.partitions import OutOfSpace
from training.adapters.delimited import broken

_PREFIX = "mercato-stage-"
_NO_SPACE = ("No space left", "File too large", "Disk quota exceeded")
"""How DuckDB passes on the system's refusal."""


@contextmanager
def staging() -> Iterator[tuple[Any, Path]]:
    """(DuckDB in memory, folder) for the rows of one run; what has no room in memory lies in the folder too.

    Raises:
        CorruptFile: DuckDB stopped at a line of a text file.
        OutOfSpace: the disk is full.
    """
    _sweep()
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-") as folder:
        con = connect(threads=os.cpu_count() or 1, spill=folder)
        try:
            yield con, Path(folder)
        except duckdb.Error as error:
            if any(words in str(error) for words in _NO_SPACE):
                raise OutOfSpace(f"no space left in {folder}: free some, or set TMPDIR to another disk") from error
            if (stopped := broken(error)) is not None:
                raise stopped from error
            raise
        finally:
            con.disconnect()


def _sweep() -> None:
    """Remove the folders of runs that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)
