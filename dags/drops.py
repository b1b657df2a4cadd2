"""The watcher of drop folders, which the triggerer runs."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

LOOK_SECONDS = 30.0
"""Between two looks; a file that two looks find the same is whole."""


class FilesArrived(BaseEventTrigger):
    """Tells when files of tables arrived; after a restart those that are there, and a run finds nothing new in them.

    Args:
        paths: table -> path or glob.
        pause: seconds between two looks.
    """

    def __init__(self, paths: dict[str, str], pause: float = LOOK_SECONDS) -> None:
        super().__init__()
        self.paths = paths
        self.pause = pause

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """How the triggerer makes this one again."""
        return "dags.drops.FilesArrived", {"paths": self.paths, "pause": self.pause}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event for all files that a look found whole and new; a look that fails is logged, and tried again."""
        from mercato.clock import clock
        from mercato.errors import MercatoError
        from mercato.settings import Settings
        from training.arrivals import Arrivals

        now, arrivals = clock(Settings()), Arrivals(self.paths)
        while True:
            try:
                files = await asyncio.to_thread(arrivals.look)
            except (MercatoError, OSError) as error:
                self.log.error("drops.failed reason=%s", error)  # noqa: TRY400 - the message says it all
                files = {}
            if files:
                counts = {table: len(paths) for table, paths in files.items()}
                yield TriggerEvent({"until": now().isoformat(), "tables": sorted(files), "files": counts})
            await asyncio.sleep(self.pause)
