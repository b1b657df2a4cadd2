"""`mercato backfill`, `replay` and `retention`: making the past again, and letting it go."""

from typing import Annotated, Any

import typer

from mercato.commands.support import EXIT_BAD_DATA, ISO, Since, Table, Until, command, instant, show
from mercato.settings import Settings

backfill = typer.Typer(no_args_is_help=True, help="Make what a window of the past lacks.")
retention = typer.Typer(no_args_is_help=True, help="How long things are kept.")

Targets = Annotated[
    list[str],
    typer.Argument(help="Tables of the shop, or extract_sources, clean_tables, materialize_features."),
]
Redo = Annotated[
    bool,
    typer.Option("--redo", help="Also make whole clean days and snapshots again, and look again at days without rows."),
]


@backfill.command("plan")
@command
def backfill_plan(targets: Targets, since: Since, until: Until, redo: Redo = False, table: Table = False) -> None:
    """Show what a backfill would make, overwrite and cost, and under which code and contracts; nothing is written.

    Example: mercato backfill plan transactions --since 2017-01-01 --until 2017-02-01
    """
    from mercato.backfill import plan

    found = plan(Settings(), targets, instant(since), instant(until), redo=redo)
    rows = [
        {
            "step": each.step,
            "table": each.table,
            "present": len(each.present),
            "missing": len(each.missing),
            "changed": len(each.changed),
            "empty": len(each.empty),
            "no_input": len(each.no_input),
            "seconds": "unknown" if each.seconds is None else each.seconds,
        }
        for each in found.pieces
    ]
    show(rows if table else found.to_json(), table=table)
    if table:
        show({"code_revision": found.code_revision, **found.contracts}, table=True)


@backfill.command("run")
@command
def backfill_run(targets: Targets, since: Since, until: Until, redo: Redo = False) -> None:
    """Make what the plan names, in chunks; after a kill the same command goes on where it stopped.

    Example: mercato backfill run transactions --since 2017-01-01 --until 2017-02-01
    """
    from rich.console import Console
    from rich.progress import Progress

    from mercato.backfill import run

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("planning", total=None)

        def shown(label: str, done: int, total: int) -> None:
            bar.update(task, description=label, completed=done, total=total)

        result: dict[str, Any] = run(Settings(), targets, instant(since), instant(until), redo=redo, progress=shown)
    show(result)


@retention.command("plan")
@command
def retention_plan(
    at: Annotated[str, typer.Option(help=f"As of this instant ({ISO}); now when left out.")] = "",
    table: Table = False,
) -> None:
    """Show what apply_retention would delete, and why the rest that is past its lifetime stays; nothing is deleted.

    Example: mercato retention plan --table
    """
    from mercato.clock import clock
    from mercato.retention import plan, summary

    settings = Settings()
    items = plan(settings, instant(at) if at else clock(settings)())
    rows = [
        {"": "goes" if each.goes else "stays", "kind": each.kind, "name": each.name, "why": each.why} for each in items
    ]
    show(rows if table else summary(settings, items), table=table)


@command
def replay(
    as_of: Annotated[str, typer.Option(help="Nothing that happened since is seen: a day of the shop, or an instant.")],
    known_at: Annotated[str, typer.Option(help="Nothing that became known since is seen; as-of when left out.")] = "",
    only: Annotated[str, typer.Option(help="Parts or artefacts, by commas, such as als,ranker_all.")] = "",
    into: Annotated[str, typer.Option(help="New folder to keep everything in; a temporary one when left out.")] = "",
    table: Table = False,
) -> None:
    """Build again what would have been built as of a day, in a scratch folder, and compare it with what is recorded.

    Exit code 65 when something that had been made could not be built or is not as recorded, or nothing had been made.

    Example: mercato replay --as-of 2017-12-04 --only als,ease --table
    """
    import tempfile
    from dataclasses import asdict
    from pathlib import Path

    from training.replay import replay as build

    settings = Settings()
    at, known = instant(as_of), instant(known_at or as_of)
    names = [name.strip() for name in only.split(",") if name.strip()]
    with tempfile.TemporaryDirectory(prefix="mercato-replay-") as folder:
        report = build(settings, Path(into or folder).absolute(), at, known, only=names)
    show(_rows(report) if table else asdict(report), table=table)
    if not report.reproduced:
        raise typer.Exit(EXIT_BAD_DATA)


def _rows(report: Any) -> list[dict[str, str]]:
    said = {each["name"]: each["verdict"] for each in report.compared}
    rows = [
        {"name": name, "sha256": sha256, "is": said.get(name, "rebuilt")} for name, sha256 in report.rebuilt.items()
    ]
    kinds = {"not reproduced": report.not_reproduced, "was not made": report.not_made}
    lost = [
        {"name": name, "sha256": kind, "is": "; ".join(why)} for kind, of in kinds.items() for name, why in of.items()
    ]
    return [*rows, *lost]
