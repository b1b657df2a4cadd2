"""What the demo tells a person: lines as tasks move, a table of stages at the end."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from rich.console import Console
from rich.table import Table

from mercato.demo_airflow import TaskRun

_DONE = {"success": "green", "skipped": "yellow", "failed": "red", "up_for_retry": "yellow", "upstream_failed": "red"}


@dataclass(slots=True)
class View:
    """Progress on a terminal, plain lines elsewhere."""

    console: Console = field(default_factory=lambda: Console(highlight=False, soft_wrap=True))
    started: float = field(default_factory=time.monotonic)
    stages: list[tuple[str, float]] = field(default_factory=list)
    _seen: dict[tuple[str, str], str] = field(default_factory=dict)

    def say(self, text: str) -> None:
        """One line with the time since the start."""
        self.console.print(f"[dim]{time.monotonic() - self.started:6.1f} s[/dim]  {text}")

    def stage(self, name: str, since: float) -> None:
        """Keep how long a stage took."""
        self.stages.append((name, time.monotonic() - since))

    def tasks(self, tasks: Iterable[TaskRun]) -> None:
        """One line per task that started or ended since the last call."""
        for each in sorted(tasks, key=lambda one: (one.start is None, str(one.start))):
            key = (each.dag_id, each.task_id)
            if not each.works or self._seen.get(key) == each.state:
                continue
            self._seen[key] = each.state
            name = f"{each.dag_id:<21} {each.task_id:<32}"
            if each.state == "running":
                self.say(f"{name} [cyan]running[/cyan]")
            elif each.state in _DONE:
                took = f"{(each.end - each.start).total_seconds():6.1f} s" if each.start and each.end else ""
                self.say(f"{name} [{_DONE[each.state]}]{each.state}[/] {took}")

    def table(self) -> None:
        """Seconds per stage."""
        shown = Table("stage", "seconds", box=None, pad_edge=False)
        shown.columns[1].justify = "right"
        for name, seconds in self.stages:
            shown.add_row(name, f"{seconds:.1f}")
        shown.add_row("total", f"{time.monotonic() - self.started:.1f}")
        self.console.print(shown)


def dag_seconds(tasks: Iterable[TaskRun]) -> list[tuple[str, float]]:
    """DAG -> seconds from its first task's start to its last task's end, in order of start."""
    spans: dict[str, list[tuple[datetime, datetime]]] = {}
    for each in tasks:
        if each.works and each.start and each.end:
            spans.setdefault(each.dag_id, []).append((each.start, each.end))
    ordered = sorted(spans.items(), key=lambda item: min(item[1]))
    return [(dag, (max(e for _, e in of) - min(s for s, _ in of)).total_seconds()) for dag, of in ordered]


def busy_seconds(tasks: Iterable[TaskRun]) -> float:
    """Seconds in which at least one working task ran: the length of the union of their intervals."""
    total, end = 0.0, None
    for start, stop in sorted((each.start, each.end) for each in tasks if each.works and each.start and each.end):
        if end is None or start > end:
            total, end = total + (stop - start).total_seconds(), stop
        elif stop > end:
            total, end = total + (stop - end).total_seconds(), stop
    return total
