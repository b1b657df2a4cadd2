"""What every command shares: exit codes, JSON or a table on stdout, instants in."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from functools import wraps
from typing import Annotated, Any, ParamSpec, TypeVar

import typer

from mercato.errors import MercatoError
from mercato.settings import Settings

EXIT_BAD_DATA, EXIT_OURS, EXIT_TRY_AGAIN = 65, 70, 75

P = ParamSpec("P")
R = TypeVar("R")
Table = Annotated[bool, typer.Option("--table", help="A table for people instead of JSON.")]
ISO = "ISO 8601; a date is the shop's midnight"
"""How an instant is written, for the help of an option."""
Since = Annotated[str, typer.Option(help="First day: a date, or its midnight in the shop's zone, ISO 8601.")]
Until = Annotated[str, typer.Option(help="Day after the last, written in the same way.")]


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn our errors into one line on stderr and an exit code."""
    try:
        yield
    except MercatoError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(EXIT_TRY_AGAIN if error.retryable else EXIT_BAD_DATA) from error


def command(function: Callable[P, R]) -> Callable[P, R]:
    """Turn our errors into one line and an exit code."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with exit_codes():
            return function(*args, **kwargs)

    return wrapped


def show(value: Any, *, table: bool = False) -> None:
    """Print JSON, or a table of a list of rows (or of one mapping)."""
    if not table:
        typer.echo(json.dumps(value, indent=1, default=str))
        return
    from rich.console import Console
    from rich.table import Table as RichTable

    rows = value if isinstance(value, list) else [{"name": key, "value": each} for key, each in value.items()]
    shown = RichTable(*(rows[0] if rows else ["nothing"]))
    for row in rows:
        shown.add_row(*(str(cell) for cell in row.values()))
    Console(file=sys.stdout, width=140).print(shown)


def instant(text: str) -> datetime:
    """An instant from ISO 8601: a bare date is midnight of the shop that the settings name, a time without zone UTC."""
    from data_contracts.shop import load_shop

    try:
        day = date.fromisoformat(text)
    except ValueError:
        pass
    else:
        return load_shop(Settings().shop).day_start(day).astimezone(UTC)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"found {text!r}, need an ISO date or time such as 2017-12-04T05:00Z") from None
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
