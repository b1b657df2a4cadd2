"""A PostgreSQL server of the test's own, on a unix socket, as a user that PostgreSQL accepts."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found and (there := shutil.which("initdb")):
        found = [Path(there)]
    if not found:
        pytest.fail("sources are tested on a real PostgreSQL: apt-get install postgresql")
    return found[-1].parent


def _user() -> str | None:
    """PostgreSQL refuses root: then somebody who owns nothing runs it."""
    if os.geteuid():
        return None
    known = {each.pw_name for each in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


@contextmanager
def postgres() -> Iterator[str]:
    """SQLAlchemy URL of an empty database; the server and its files are gone afterwards."""
    programs, user = _programs(), _user()
    with tempfile.TemporaryDirectory(prefix="mercato-pg-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if user:
            shutil.chown(folder, user)

        def run(*command: str) -> None:
            done = subprocess.run(
                command, user=user, cwd=folder, capture_output=True, text=True, timeout=60, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr

        data = str(folder / "data")
        run(f"{programs}/initdb", "-D", data, "-U", "mercato", "-A", "trust", "-N", "--locale=C.UTF-8")
        options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off -c shared_buffers=16MB"
        control = (f"{programs}/pg_ctl", "-D", data, "-w", "-t", "30")
        run(*control, "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql+psycopg://mercato@/postgres?host={folder}"
        finally:
            run(*control, "-m", "immediate", "stop")
