"""`mercato quarantine`: rows that broke a rule, out for repair and back."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from mercato.commands.support import ISO, Table, command, instant, show
from mercato.settings import Settings

quarantine = typer.Typer(no_args_is_help=True, help="Rows that broke a rule of their contract.")

Since = Annotated[str, typer.Option(help=f"First instant ({ISO}); the shop's first day when left out.")]
Until = Annotated[str, typer.Option(help="Instant after the last, in the same way; now when left out.")]


@quarantine.command("list")
@command
def quarantine_list(
    name: Annotated[str, typer.Argument(help="A table of the shop; all when left out.")] = "",
    since: Since = "",
    until: Until = "",
    table: Table = False,
) -> None:
    """Count the rows in quarantine per table, day and rule, each with an example.

    Example: mercato quarantine list transactions --since 2017-03-01 --table
    """
    from data_contracts.shop import load_shop
    from mercato.paths import lake
    from training.quarantine import listing

    settings = Settings()
    shop = load_shop(settings.shop)
    names = [name] if name else list(shop.tables)
    first, last = _window(settings, since, until)
    show(listing(lake(settings), shop, names, first, last), table=table)


@quarantine.command("export")
@command
def quarantine_export(
    name: Annotated[str, typer.Argument(help="A table of the shop.")],
    to: Annotated[Path, typer.Option(help="File to write: .csv, .jsonl or .parquet.")],
    rule: Annotated[str, typer.Option(help="Only rows that break this rule.")] = "",
    since: Since = "",
    until: Until = "",
) -> None:
    """Write quarantined rows to a file for repair, with the source's own columns.

    Example: mercato quarantine export transactions --rule quantity_positive --to repair.csv
    """
    from data_contracts.shop import load_shop
    from mercato.paths import lake
    from training.quarantine import export

    settings = Settings()
    first, last = _window(settings, since, until)
    shop = load_shop(settings.shop)
    show(export(lake(settings), shop, name, to, since=first, until=last, rule=rule))


@quarantine.command("readmit")
@command
def quarantine_readmit(
    name: Annotated[str, typer.Argument(help="A table of the shop.")],
    file: Annotated[Path, typer.Argument(help="Repaired rows: .csv, .jsonl or .parquet.")],
    table: Table = False,
) -> None:
    """Put repaired rows back: same mapping, same rules, known from now on; a second time changes nothing.

    Example: mercato quarantine readmit transactions repair.csv
    """
    from dataclasses import asdict

    from data_contracts.shop import load_shop
    from mercato.clock import clock
    from mercato.identity import identity
    from mercato.paths import lake
    from training.readmit import readmit

    settings = Settings()
    at = clock(settings)()
    found = readmit(lake(settings), load_shop(settings.shop), name, identity(settings), file, at=at)
    show(asdict(found), table=table)


def _window(settings: Settings, since: str, until: str) -> tuple[datetime, datetime]:
    from data_contracts.shop import load_shop
    from mercato.clock import clock

    first = instant(since) if since else load_shop(settings.shop).window()[0]
    return first, instant(until) if until else clock(settings)()
