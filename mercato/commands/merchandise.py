"""`mercato merchandise`: the rules of a shop, and whether they hold."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mercato.commands.support import ISO, Table, command, instant, show
from mercato.settings import Settings

if TYPE_CHECKING:
    from data_contracts.merchandising import Rule

merchandise = typer.Typer(no_args_is_help=True, help="What a shop pins, boosts, buries and blocks.")


@merchandise.command("list")
@command
def list_rules(
    at: Annotated[str, typer.Option(help=f"When, {ISO}; default: now.")] = "",
    table: Table = False,
) -> None:
    """Every rule of the shop, and whether it is in force.

    Example: mercato merchandise list --at 2017-12-24 --table
    """
    from mercato.clock import clock

    settings = Settings()
    when = instant(at) if at else clock(settings)()
    rules = _of_shop(settings)[1]
    show([_row(rule.model_dump(mode="json"), rule.in_force(when)) for rule in rules], table=table)


@merchandise.command("check")
@command
def check(
    path: Annotated[Path | None, typer.Argument(help="A file of rules; the shop's when left out.")] = None,
) -> None:
    """Read a file of rules as the gateway does; exit 65 and the rule that is wrong unless all hold.

    Example: mercato merchandise check merchandising.yaml
    """
    from data_contracts.merchandising import read_rules

    file, rules = (path, read_rules(path)) if path is not None else _of_shop(Settings())
    show({"file": str(file), "rules": len(rules)})


def _of_shop(settings: Settings) -> tuple[Path, list["Rule"]]:
    """The file of the shop's rules, and the rules: none without a file, unless the settings name it."""
    from data_contracts.merchandising import load_rules, read_rules, rules_path

    if settings.merchandising:
        named = Path(settings.merchandising)
        return named, read_rules(named)
    path = rules_path(settings.shop)
    return path, load_rules(path)


def _row(rule: dict[str, Any], in_force: bool) -> dict[str, Any]:
    return {"in_force": in_force, **{name: value for name, value in rule.items() if value is not None}}
