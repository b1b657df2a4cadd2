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
    from data_contracts.errors import UnknownRelease
    from mercato.quality import evaluate_release
    from mercato.stores.routing import routing_store

    settings = Settings()
    live = routing_store(settings).live(settings.shop)
    chosen = release_id or (max(live.weights, key=lambda each: live.weights[each]) if live else "")
    if not chosen:
        raise UnknownRelease(f"no release of {settings.shop} is live and none was named; pass --release ID")
    result = evaluate_release(settings, chosen)
    show(result["rows"] if table else result, table=table)
