"""`mercato`: JSON on stdout (`--table` for people), logs on stderr; exit 0, 65 bad data, 70 our fault, 75 try again."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps
from typing import Annotated, Any, ParamSpec, TypeVar

import typer

from mercato import log
from mercato.errors import MercatoError
from mercato.settings import Settings

EXIT_BAD_DATA, EXIT_OURS, EXIT_TRY_AGAIN = 65, 70, 75

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
source = typer.Typer(no_args_is_help=True, help="Where a shop's data come from.")
contract = typer.Typer(no_args_is_help=True, help="What was agreed about tables.")
release = typer.Typer(no_args_is_help=True, help="What is, was and could be live.")
evaluate = typer.Typer(no_args_is_help=True, help="Offline quality of the served artefacts.")
app.add_typer(source, name="source")
app.add_typer(contract, name="contract")
app.add_typer(release, name="release")
app.add_typer(evaluate, name="evaluate")

P = ParamSpec("P")
R = TypeVar("R")
Table = Annotated[bool, typer.Option("--table", help="A table for people instead of JSON.")]


@app.callback()
def main() -> None:
    """Operate a Mercato shop."""
    log.configure()


@contextmanager
def _exit_codes() -> Iterator[None]:
    try:
        yield
    except MercatoError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(EXIT_TRY_AGAIN if error.retryable else EXIT_BAD_DATA) from error


def _command(function: Callable[P, R]) -> Callable[P, R]:
    """Turn our errors into one line and an exit code."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with _exit_codes():
            return function(*args, **kwargs)

    return wrapped


def _show(value: Any, *, table: bool = False) -> None:
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


def _instant(text: str) -> datetime:
    """An instant from ISO 8601; without a zone it is UTC."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"found {text!r}, need an ISO date or time such as 2017-12-04T05:00Z") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


@app.command()
def demo(
    shop: Annotated[str, typer.Option(help="A file in data_contracts/shops/.")] = "complete_journey",
    stop: Annotated[bool, typer.Option("--exit", help="Run the closing checks, stop everything, exit.")] = False,
) -> None:
    """Run the whole loop on a shop's data, then serve a page to look at; Ctrl-C stops everything.

    Example: mercato demo --exit
    """
    from mercato.demo import demo as run_demo

    with _exit_codes():
        raise typer.Exit(run_demo(Settings(shop=shop), exit_after=stop))


@app.command()
@_command
def serve() -> None:
    """Serve the live release on MERCATO_URL.

    Example: mercato serve
    """
    from serving.run import serve as run_gateway

    run_gateway(Settings())


@app.command()
@_command
def trace(request_id: Annotated[str, typer.Argument(help="The x-request-id of a ranked answer.")]) -> None:
    """Follow a ranked answer back to its release, runs and data.

    Example: mercato trace 5f0c6c1e9f3b4b0e
    """
    from data_contracts.artefact_store import ArtefactStore
    from data_contracts.errors import ContractError
    from mercato.paths import lake
    from mercato.stores.impressions import impressions_of

    settings = Settings()
    shown = impressions_of(settings, request_id)
    if not shown:
        raise ContractError(
            f"found no impression of request {request_id!r}: it was never answered here, its impressions were lost "
            "in a crash, or they wait to be written; try again in a second"
        )
    manifest = ArtefactStore(lake(settings)).release(shown[0]["release_id"])
    _show({"request_id": request_id, "impressions": shown, "release": manifest.to_json()})


@source.command("list")
@_command
def source_list(table: Table = False) -> None:
    """List the tables of the shop and where each comes from.

    Example: mercato source list --table
    """
    from data_contracts.shop import load_shop

    shop = load_shop(Settings().shop)
    _show([{"table": name, "kind": each.source.kind} for name, each in shop.tables.items()], table=table)


@source.command("extract")
@_command
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
    _show([jobs.extract_table(settings, each, _instant(since), _instant(until)) for each in names], table=table)


@contract.command("list")
@_command
def contract_list(table: Table = False) -> None:
    """List the contracts with version, owner and rules.

    Example: mercato contract list --table
    """
    from data_contracts.contract import contract_names, load_contract

    _show(
        [
            {"contract": each.name, "version": each.version, "owner": each.owner, "columns": len(each.columns)}
            for each in map(load_contract, contract_names())
        ],
        table=table,
    )


@contract.command("check")
@_command
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
    _show([jobs.clean_table(settings, each, _instant(since), _instant(until)) for each in names], table=table)


@release.command("list")
@_command
def release_list(table: Table = False) -> None:
    """List every release, the live one marked.

    Example: mercato release list --table
    """
    from data_contracts.artefact_store import ArtefactStore
    from mercato.paths import lake
    from mercato.stores.routing import routing_store

    settings = Settings()
    store = ArtefactStore(lake(settings))
    live = routing_store(settings).live(settings.shop)
    rows = []
    for release_id in store.release_ids():
        made = store.release(release_id)
        rows.append(
            {
                "release_id": release_id,
                "fit_until": made.provenance.fit_until.isoformat(),
                "artefacts": len(made.identity.artefacts),
                "weight": live.weights.get(release_id, 0) if live else 0,
            }
        )
    _show(rows, table=table)


@release.command("show")
@_command
def release_show(release_id: Annotated[str, typer.Argument(help="A release id, such as r-0123456789abcdef.")]) -> None:
    """Show a release: what it consists of and where it came from.

    Example: mercato release show r-0123456789abcdef
    """
    from data_contracts.artefact_store import ArtefactStore
    from mercato.paths import lake

    _show(ArtefactStore(lake(Settings())).release(release_id).to_json())


@release.command("verify")
@_command
def release_verify(
    release_id: Annotated[str, typer.Argument(help="A release id, such as r-0123456789abcdef.")],
) -> None:
    """Hash every artefact of a release; 65 when one is not what the release names.

    Example: mercato release verify r-0123456789abcdef
    """
    from data_contracts.artefact_store import ArtefactStore
    from mercato.paths import lake

    store = ArtefactStore(lake(Settings()))
    files = store.fetch(store.release(release_id))
    _show({"release_id": release_id, "verified": sorted(files)})


@release.command("live")
@_command
def release_live(
    at: Annotated[str, typer.Option(help="What was live at this instant, ISO 8601; now when left out.")] = "",
) -> None:
    """Show the routing document that is, or was, in force.

    Example: mercato release live --at 2017-12-05T00:00Z
    """
    from data_contracts.errors import UnknownRelease
    from mercato.stores.routing import routing_store

    settings = Settings()
    live = routing_store(settings).live(settings.shop, at=_instant(at) if at else None)
    if live is None:
        raise UnknownRelease(
            f"no release of {settings.shop} is live{f' at {at}' if at else ''}; run the demo or assemble_release"
        )
    _show(live.as_json())


@evaluate.command("recommend")
@_command
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
    _show(result["rows"] if table else result, table=table)


if __name__ == "__main__":
    app()
