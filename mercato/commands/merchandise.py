"""`mercato merchandise`: the rules of a shop, and whether they hold."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mercato.commands.support import ISO, Table, command, instant, show
from mercato.settings import Settings

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
    from data_contracts.merchandising import load_rules
    from mercato.clock import clock

    settings = Settings()
    when = instant(at) if at else clock(settings)()
    rules = load_rules(_path(settings))
    show([_row(rule.model_dump(mode="json"), rule.in_force(when)) for rule in rules], table=table)


@merchandise.command("check")
@command
def check(
    path: Annotated[Path | None, typer.Argument(help="A file of rules; the shop's when left out.")] = None,
) -> None:
    """Read a file of rules as the gateway does; exit 65 and the rule that is wrong unless all hold.

    Example: mercato merchandise check merchandising.yaml
    """
    from data_contracts.errors import BadShop
    from data_contracts.merchandising import load_rules

    file = path or _path(Settings())
    if path is not None and not path.exists():
        raise BadShop(f"found no file {path}; need a YAML list of rules")
    show({"file": str(file), "rules": len(load_rules(file))})


def _path(settings: Settings) -> Path:
    from data_contracts.merchandising import rules_path

    return Path(settings.merchandising or rules_path(settings.shop))


def _row(rule: dict[str, Any], in_force: bool) -> dict[str, Any]:
    return {"in_force": in_force, **{name: value for name, value in rule.items() if value is not None}}
