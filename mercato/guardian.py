"""A small process that owns services and ends all of them when its parent is gone, however the parent went.

The parent holds the write end of a pipe. When it exits, is killed with -9 or closes the pipe, the guardian
reads end-of-file and ends every descendant: as their subreaper it is handed also those whose own parent died
or which moved to a session of their own (Airflow's do).
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

import psutil

from mercato.errors import MercatoError

_PR_SET_CHILD_SUBREAPER = 36
_GRACE_SECONDS = 8.0
_POLL_SECONDS = 0.1


class ServiceStopped(MercatoError):
    """A service ended before it was asked to."""


@dataclass(frozen=True, slots=True)
class Service:
    """One process to keep."""

    name: str
    command: Sequence[str]
    log: Path
    env: Mapping[str, str]


class Guardian:
    """The parent's side: start services, ask whether they run, stop everything."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mercato.guardian"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches the parent only; the guardian follows by the pipe
            text=True,
        )
        self._lock = threading.Lock()

    @property
    def pid(self) -> int:
        """The guardian's own process."""
        return self._process.pid

    def start(self, service: Service) -> int:
        """The pid of a service started with its output in `service.log`."""
        service.log.parent.mkdir(parents=True, exist_ok=True)
        said = {"command": list(service.command), "log": str(service.log), "env": dict(service.env)}
        return int(self._ask({"start": service.name, **said})["pid"])

    def stop(self, name: str) -> None:
        """End one service with all that it started."""
        self._ask({"stop": name})

    def ended(self) -> dict[str, int]:
        """Exit codes of the services that ended by themselves, by name."""
        return {name: int(code) for name, code in self._ask({"ended": True}).items()}

    def close(self) -> None:
        """End everything; returns when the last process is gone."""
        if self._process.stdin and not self._process.stdin.closed:
            self._process.stdin.close()
        self._process.wait(timeout=4 * _GRACE_SECONDS)
        if self._process.stdout:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            sending, answers = self._process.stdin, self._process.stdout
            assert sending is not None  # noqa: S101 - both are pipes
            assert answers is not None  # noqa: S101
            try:
                sending.write(json.dumps(request) + "\n")
                sending.flush()
                line = answers.readline()
            except (BrokenPipeError, ValueError) as error:
                raise ServiceStopped("the guardian of the services is gone; start again") from error
        if not line:
            raise ServiceStopped("the guardian of the services is gone; start again")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ServiceStopped(f"cannot start {request.get('start')}: {answer['error']}")
        return answer


def _end(processes: Sequence[psutil.Process]) -> None:
    """TERM, a grace period, then KILL."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=_GRACE_SECONDS)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=_GRACE_SECONDS)


def _family(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def _end_all() -> None:
    """End every descendant, until none is left: a dying parent hands its children to us one level at a time."""
    give_up = time.monotonic() + 3 * _GRACE_SECONDS
    while (rest := psutil.Process().children(recursive=True)) and time.monotonic() < give_up:
        _end(rest)
        _reap()


def _reap() -> None:
    """Collect orphans that ended, so that none stays a zombie."""
    for orphan in psutil.Process().children():
        with contextlib.suppress(ChildProcessError, psutil.NoSuchProcess):
            if orphan.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(orphan.pid, os.WNOHANG)


def _answer(services: dict[str, subprocess.Popen[bytes]], request: dict[str, Any]) -> dict[str, Any]:
    if name := request.get("start"):
        with Path(request["log"]).open("ab") as log:
            services[name] = subprocess.Popen(
                request["command"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=request["env"]
            )
        return {"pid": services[name].pid}
    if name := request.get("stop"):
        service = services.pop(name, None)
        if service is not None:
            _end(_family(service.pid))
            service.wait()
        return {}
    return {name: code for name, each in services.items() if (code := each.poll()) is not None}


def guard(requests: IO[str], answers: IO[str]) -> None:
    """Serve the parent until its pipe closes, then end every descendant."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Only the parent's end ends us. A handler, not SIG_IGN: services would inherit the latter.
        signal.signal(sign, lambda *_: None)
    services: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for line in requests:
            try:
                answer = _answer(services, json.loads(line))
            except OSError as error:
                answer = {"error": str(error)}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()
    except BrokenPipeError:
        pass
    finally:
        _end_all()


if __name__ == "__main__":
    guard(sys.stdin, sys.stdout)
