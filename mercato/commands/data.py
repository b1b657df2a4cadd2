"""`mercato source`: data in."""

from typing import Annotated

import typer

from mercato.commands.support import EXIT_BAD_DATA, EXIT_TRY_AGAIN, Since, Table, Until, command, instant, show
from mercato.settings import Settings

source = typer.Typer(no_args_is_help=True, help="Where a shop's data come from.")


@source.command("list")
@command
def source_list(table: Table = False) -> None:
    """List the tables of the shop and where each comes from.

    Example: mercato source list --table
    """
    from data_contracts.shop import load_shop

    shop = load_shop(Settings().shop)
    show([{"table": name, "kind": each.source.kind} for name, each in shop.tables.items()], table=table)


@source.command("check")
@command
def source_check(
    name: Annotated[str, typer.Argument(help="A table of the shop; all when left out.")] = "",
    table: Table = False,
) -> None:
    """Open each source, compare it with the shop's YAML, and show three rows without customers' ids.

    Exits 65 when a source does not fit, 75 when all that is wrong may pass.

    Example: mercato source check transactions
    """
    from data_contracts.shop import load_shop
    from training.checking import check_source

    shop = load_shop(Settings().shop)
    found = [check_source(shop, each) for each in ([name] if name else shop.tables)]
    show(
        [{"table": each.table, "kind": each.kind, "problems": each.problems, "sample": each.sample} for each in found],
        table=table,
    )
    wrong = [each for each in found if each.problems]
    if wrong:
        raise typer.Exit(EXIT_TRY_AGAIN if all(each.passing for each in wrong) else EXIT_BAD_DATA)


@source.command("init")
@command
def source_init(
    files: Annotated[list[str], typer.Argument(help="CSV, JSON lines or Parquet; plain, .gz or .zip.")],
    name: Annotated[str, typer.Option(help="Name of the shop; from the first file when left out.")] = "",
    write: Annotated[bool, typer.Option("--write", help="Write data_contracts/shops/NAME.yaml.")] = False,
) -> None:
    """Look at files and draft a shop's YAML, each guess explained; what nobody can guess is marked FILL IN.

    Prints the YAML, or writes it (never over another) and prints where, what is left to fill in, and the next step.

    Example: mercato source init exports/lines.csv exports/articles.csv --name my_shop
    """
    from training import draft

    made = draft.draft(files, name)
    if write:
        then = f"fill them in, then: MERCATO_SHOP={made.name} mercato source check"
        show({"written": str(draft.write(made)), "fill_in": made.gaps, "next": then})
    else:
        typer.echo(made.text, nl=False)


@source.command("extract")
@command
def source_extract(
    since: Since,
    until: Until,
    name: Annotated[str, typer.Argument(help="A table of the shop; all when left out.")] = "",
    look_again: Annotated[
        bool, typer.Option("--look-again", help="Take in rows that came after their days were extracted, as known now.")
    ] = False,
    table: Table = False,
) -> None:
    """Extract what became known in [since, until) into raw/.

    Example: mercato source extract transactions --since 2017-01-01 --until 2017-02-01
    """
    from data_contracts.shop import load_shop
    from training import jobs

    settings = Settings()
    names = [name] if name else list(load_shop(settings.shop).tables)
    span = instant(since), instant(until)
    show([jobs.extract_table(settings, each, *span, look_again=look_again) for each in names], table=table)
