"""Work in a forked process: it begins with what this one has imported, so it costs no interpreter."""

import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

PUT_IN_PLACE = (Path, "replace")
"""What a lake on a folder calls for each file that comes into place."""


def fork(work: Callable[[], object]) -> int:
    """Process id of `work` in a process of its own; it ends with 1 when `work` raises."""
    pid = os.fork()
    if pid:
        return pid
    gc.freeze()  # what the parent left belongs to threads that are not here
    status = 1
    try:
        work()
        status = 0
    except BaseException:  # noqa: BLE001 - nothing may get back into the test's own frames
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def ended(pid: int) -> int:
    """Exit code of a forked process, when it has ended; -9 after a kill."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed(work: Callable[[], object], after: int, *calls: tuple[Any, str]) -> int:
    """Exit code of `work` in a process that a kill -9 ends right after the `after`-th of its `calls` (owner, name)."""

    def doomed() -> None:
        done = 0

        def counting(plain: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                nonlocal done
                result = plain(*args, **kwargs)
                done += 1
                if done == after:
                    os.kill(os.getpid(), signal.SIGKILL)
                return result

            return call

        for owner, name in calls:
            setattr(owner, name, counting(getattr(owner, name)))
        work()

    return ended(fork(doomed))
