"""`mercato`: JSON on stdout (`--table` for people), logs on stderr; exit 0, 65 bad data, 70 our fault, 75 try again."""

from typing import Annotated

import typer

from mercato import log
from mercato.commands.annotation import annotation
from mercato.commands.contracts import contract
from mercato.commands.data import source
from mercato.commands.datasets import dataset
from mercato.commands.evaluate import evaluate
from mercato.commands.merchandise import merchandise
from mercato.commands.quarantine import quarantine
from mercato.commands.releases import release, trace
from mercato.commands.support import command, exit_codes
from mercato.commands.time import backfill, replay, retention
from mercato.settings import Settings

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(source, name="source")
app.add_typer(contract, name="contract")
app.add_typer(quarantine, name="quarantine")
app.add_typer(dataset, name="dataset")
app.add_typer(annotation, name="annotation")
app.add_typer(release, name="release")
app.add_typer(evaluate, name="evaluate")
app.add_typer(merchandise, name="merchandise")
app.add_typer(backfill, name="backfill")
app.add_typer(retention, name="retention")
app.command()(replay)
app.command()(trace)


@app.callback()
def main() -> None:
    """Operate a Mercato shop."""
    log.configure()


@app.command()
def demo(
    shop: Annotated[str, typer.Option(help="A file in data_contracts/shops/.")] = "complete_journey",
    stop: Annotated[bool, typer.Option("--exit", help="Run the closing checks, stop everything, exit.")] = False,
) -> None:
    """Run the whole loop on a shop's data, then serve a page to look at; Ctrl-C stops everything.

    Example: mercato demo --exit
    """
    from mercato.demo import demo as run_demo

    with exit_codes():
        raise typer.Exit(run_demo(Settings(shop=shop), exit_after=stop))


@app.command()
@command
def serve() -> None:
    """Serve the live release on MERCATO_URL.

    Example: mercato serve
    """
    from serving.run import serve as run_gateway

    run_gateway(Settings())


if __name__ == "__main__":
    app()
