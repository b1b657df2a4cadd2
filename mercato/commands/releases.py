"""`mercato release` and `trace`: what is live, and where an answer came from."""

from typing import Annotated

import typer

from mercato.commands.support import ISO, Table, command, instant, show
from mercato.settings import Settings

release = typer.Typer(no_args_is_help=True, help="What is, was and could be live.")


@release.command("list")
@command
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
    show(rows, table=table)


@release.command("show")
@command
def releaseshow(release_id: Annotated[str, typer.Argument(help="A release id, such as r-0123456789abcdef.")]) -> None:
    """Show a release: what it consists of and where it came from.

    Example: mercato release show r-0123456789abcdef
    """
    from data_contracts.artefact_store import ArtefactStore
    from mercato.paths import lake

    show(ArtefactStore(lake(Settings())).release(release_id).to_json())


@release.command("verify")
@command
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
    show({"release_id": release_id, "verified": sorted(files)})


@release.command("live")
@command
def release_live(
    at: Annotated[str, typer.Option(help=f"What was live at this instant ({ISO}); now when left out.")] = "",
) -> None:
    """Show the routing document that is, or was, in force.

    Example: mercato release live --at 2017-12-05T00:00Z
    """
    from data_contracts.errors import UnknownRelease
    from mercato.stores.routing import routing_store

    settings = Settings()
    live = routing_store(settings).live(settings.shop, at=instant(at) if at else None)
    if live is None:
        raise UnknownRelease(
            f"no release of {settings.shop} is live{f' at {at}' if at else ''}; run the demo or assemble_release"
        )
    show(live.as_json())


@release.command("make-live")
@command
def release_make_live(
    release_id: Annotated[str, typer.Argument(help="A release id, such as r-0123456789abcdef.")],
    reason: Annotated[str, typer.Option(help="Why, in a few words; kept with the routing document.")],
) -> None:
    """Verify a release and give it all traffic: a newer one, or the one before to roll back.

    Example: mercato release make-live r-0123456789abcdef --reason "worse answers since noon"
    """
    from mercato import clock
    from monitoring.rollout import make_live

    settings = Settings()
    show(make_live(settings, release_id, at=clock.clock(settings)(), reason=reason).as_json())


@command
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
    show({"request_id": request_id, "impressions": shown, "release": manifest.to_json()})
