"""Everything that was started ends with its parent, however the parent ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from mercato.guardian import Guardian, Service, ServiceStopped

ROOT = Path(__file__).resolve().parents[2]
FAMILY = """
import os, pathlib, subprocess, sys, time
folder = pathlib.Path(sys.argv[1])
child = "import os, pathlib, time; pathlib.Path('{0}', str(os.getpid())).touch(); time.sleep(600)".format(folder)
subprocess.Popen([sys.executable, "-c", child])
subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + child
subprocess.Popen([sys.executable, "-c", deaf], start_new_session=True)
# An orphan: its own parent ends at once.
orphan = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', {0!r}], start_new_session=True)".format(child)
subprocess.run([sys.executable, "-c", orphan], check=True)
folder.joinpath(str(os.getpid())).touch()
time.sleep(600)
"""
N_FAMILY = 5
PARENT = """
import os, pathlib, signal, sys, time
from mercato.guardian import Guardian, Service
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins with it ignored
guardian = Guardian()
folder, log = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
command = [sys.executable, "-c", sys.argv[3], str(folder)]
guardian.start(Service("family", command, log, dict(os.environ)))
time.sleep(600)
"""


def _pids(folder: Path, n: int) -> list[psutil.Process]:
    """The n processes that left a file with their pid."""
    give_up = time.monotonic() + 60
    while len(found := [each for each in folder.iterdir() if each.name.isdigit()]) < n:
        assert time.monotonic() < give_up, found
        time.sleep(0.05)
    return [psutil.Process(int(each.name)) for each in found]


def _all_end(processes: list[psutil.Process], seconds: float = 60) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return not [each for each in alive if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


def _service(folder: Path) -> Service:
    folder.mkdir()
    command = [sys.executable, "-c", FAMILY, str(folder)]
    return Service("family", command, folder.parent / "family.log", dict(os.environ))


def test_closing_ends_every_descendant(tmp_path: Path) -> None:
    """Children, children in sessions of their own, orphans and one that ignores TERM: all are gone after close()."""
    with Guardian() as guardian:
        guardian.start(_service(tmp_path / "pids"))
        family = _pids(tmp_path / "pids", N_FAMILY)
    assert _all_end(family, seconds=0)


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_family_ends_when_the_parent_is_killed(tmp_path: Path, sign: signal.Signals) -> None:
    """Kill -9, TERM and Ctrl-C of the parent: the guardian sees its pipe close and ends everything."""
    pids = tmp_path / "pids"
    pids.mkdir()
    command = [sys.executable, "-c", PARENT, str(pids), str(tmp_path / "log"), FAMILY]
    parent = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    family = _pids(pids, N_FAMILY)
    guardians = psutil.Process(parent.pid).children()
    parent.send_signal(sign)
    parent.wait(30)
    assert _all_end([*family, *guardians])


def test_stopping_one_service_leaves_the_others(tmp_path: Path) -> None:
    """stop() ends one service and its children; another goes on."""
    with Guardian() as guardian:
        sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
        other = psutil.Process(guardian.start(Service("other", sleeper, tmp_path / "other.log", dict(os.environ))))
        one = psutil.Process(guardian.start(Service("one", sleeper, tmp_path / "one.log", dict(os.environ))))
        guardian.stop("one")
        assert _all_end([one], seconds=0)
        assert other.is_running()
        assert guardian.ended() == {}


def test_a_service_that_ends_is_noticed(tmp_path: Path) -> None:
    """ended() names the service with its exit code, and its output is in its log."""
    with Guardian() as guardian:
        command = [sys.executable, "-c", "print('so long'); raise SystemExit(7)"]
        pid = guardian.start(Service("brief", command, tmp_path / "deep" / "brief.log", dict(os.environ)))
        give_up = time.monotonic() + 30
        while not guardian.ended():
            assert time.monotonic() < give_up
            time.sleep(0.05)
        assert guardian.ended() == {"brief": 7}
    assert pid > 0
    assert (tmp_path / "deep" / "brief.log").read_text() == "so long\n"


def test_a_command_that_does_not_exist_is_said(tmp_path: Path) -> None:
    """The error names the service and the reason; the guardian goes on."""
    with Guardian() as guardian:
        with pytest.raises(ServiceStopped, match=r"cannot start ghost: .*No such file"):
            guardian.start(Service("ghost", ["/no/such/program"], tmp_path / "log", {}))
        assert guardian.ended() == {}
