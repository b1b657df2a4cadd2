"""`mercato source` and `mercato contract`: data in."""

from typing import Annotated

import typer

from mercato.commands.support import Table, command, instant, show
from mercato.settings import Settings

source = typer.Typer(no_args_is_help=True, help="Where a shop's data come from.")
contract = typer.Typer(no_args_is_help=True, help="What was agreed about tables.")


@source.command("list")
@command
def source_list(table: Table = False) -> None:
    """List the tables of the shop and where each comes from.

    Example: mercato source list --table
    """
    from data_contracts.shop import load_shop

    shop = load_shop(Settings().shop)
    show([{"table": name, "kind": each.source.kind} for name, each in shop.tables.items()], table=table)


@source.command("extract")
@command
def source_extract(
    since: Annotated[str, typer.Option(help="First instant, ISO 8601.")],
    until: Annotated[str, typer.Option(help="Instant after the last, ISO 8601.")],
    name: Annotated[str, typer.Argument(help="A table of the shop; all when left out.")] = "",
    table: Table = False,
) -> None:
    """Extract what became known in [since, until) into raw/.

    Example: mercato source extract transactions --since 2017-01-01 --until 2017-02-01
    """
    from data_contracts.shop import load_shop
    from training import jobs

    settings = Settings()
    names = [name] if name else list(load_shop(settings.shop).tables)
    show([jobs.extract_table(settings, each, instant(since), instant(until)) for each in names], table=table)


@contract.command("list")
@command
def contract_list(table: Table = False) -> None:
    """List the contracts with version, owner and rules.

    Example: mercato contract list --table
    """
    from data_contracts.contract import contract_names, load_contract

    show(
        [
            {"contract": each.name, "version": each.version, "owner": each.owner, "columns": len(each.columns)}
            for each in map(load_contract, contract_names())
        ],
        table=table,
    )


@contract.command("check")
@command
def contract_check(
    since: Annotated[str, typer.Option(help="First instant, ISO 8601.")],
    until: Annotated[str, typer.Option(help="Instant after the last, ISO 8601.")],
    name: Annotated[str, typer.Argument(help="A table of the shop; all when left out.")] = "",
    table: Table = False,
) -> None:
    """Check raw/ against its contracts, write clean/ and quarantine/, and print the counts.

    Example: mercato contract check transactions --since 2017-01-01 --until 2017-02-01
    """
    from data_contracts.contract import cleaning_order
    from data_contracts.shop import load_shop
    from training import jobs

    settings = Settings()
    names = [name] if name else cleaning_order(load_shop(settings.shop).tables)
    show([jobs.clean_table(settings, each, instant(since), instant(until)) for each in names], table=table)
