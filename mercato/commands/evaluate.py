"""`mercato evaluate`: how good the served artefacts are, with the baselines in the same run."""

from typing import Annotated

import typer

from mercato.commands.support import Table, command, show
from mercato.settings import Settings

evaluate = typer.Typer(no_args_is_help=True, help="Offline quality of the served artefacts.")


@evaluate.command("recommend")
@command
def evaluate_recommend(
    release_id: Annotated[str, typer.Option("--release", help="A release id; the live one when left out.")] = "",
    table: Table = False,
) -> None:
    """Score the served artefacts and the baselines on the weeks after they were fitted.

    Example: mercato evaluate recommend --table
    """
    from mercato.quality import evaluate_release

    settings = Settings()
    result = evaluate_release(settings, release_id or _live(settings))
    show(result["rows"] if table else result, table=table)


@evaluate.command("search")
@command
def evaluate_search(
    release_id: Annotated[str, typer.Option("--release", help="A release id; the live one when left out.")] = "",
    table: Table = False,
) -> None:
    """Score the served search and its rivals on the shop's golden set, as written and misspelt.

    Example: mercato evaluate search --table
    """
    from mercato.search_quality import evaluate_search as score

    settings = Settings()
    result = score(settings, release_id or _live(settings))
    show(result["rows"] if table else result, table=table)


def _live(settings: Settings) -> str:
    """The release with the greatest weight."""
    from data_contracts.errors import UnknownRelease
    from mercato.stores.routing import routing_store

    live = routing_store(settings).live(settings.shop)
    if live is None:
        raise UnknownRelease(f"no release of {settings.shop} is live and none was named; pass --release ID")
    return max(live.weights, key=lambda each: live.weights[each])
