"""`mercato annotation`: messages out to annotators, their labels back in."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from mercato.commands.support import ISO, Table, command, instant, show
from mercato.settings import Settings

annotation = typer.Typer(no_args_is_help=True, help="Messages out to annotators, their labels back in.")
UntilNow = Annotated[str, typer.Option(help=f"Nothing at or after this instant is seen ({ISO}); now when left out.")]


@annotation.command("export")
@command
def annotation_export(
    until: UntilNow = "",
    errors: Annotated[
        Path | None,
        typer.Option(help="What a model got wrong (.csv, .jsonl, .parquet), instead of messages."),
    ] = None,
) -> None:
    """Write a batch of tasks for Label Studio, without personal data, and print where it lies.

    Example: mercato annotation export --until 2017-12-04T05:00Z
    """
    from training.annotation.jobs import export_annotations

    settings = Settings()
    show(export_annotations(settings, _until(settings, until), errors=errors))


@annotation.command("import")
@command
def annotation_import(until: UntilNow = "") -> None:
    """Take the JSON exports of Label Studio in MERCATO_ANNOTATIONS, and make a version of intent_examples.

    Exits 65 when a file or batch is refused; the others are taken.

    Example: mercato annotation import
    """
    from training.annotation.jobs import import_annotations

    settings = Settings()
    show(import_annotations(settings, _until(settings, until)))


@annotation.command("status")
@command
def annotation_status(table: Table = False) -> None:
    """List the batches: which wait for annotators, which are back, how far annotators agreed.

    Example: mercato annotation status --table
    """
    from training.annotation.jobs import annotation_status as status

    show(status(Settings()), table=table)


def _until(settings: Settings, given: str) -> datetime:
    from mercato.clock import clock

    return instant(given) if given else clock(settings)()
