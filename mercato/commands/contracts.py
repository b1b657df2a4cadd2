"""`mercato contract`: what was agreed about tables, whether data keep it, and what a change of it means."""

import subprocess
from pathlib import Path
from typing import Annotated, Any

import typer

from mercato.commands.support import EXIT_BAD_DATA, Since, Table, Until, command, instant, show
from mercato.settings import Settings

contract = typer.Typer(no_args_is_help=True, help="What was agreed about tables.")


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
    since: Since,
    until: Until,
    name: Annotated[str, typer.Argument(help="A table of the shop; all when left out.")] = "",
    table: Table = False,
) -> None:
    """Check raw/ against its contracts, and write: what holds to clean/, the rest to quarantine/; print the counts.

    The days of the window are written anew. A look that writes nothing is `mercato source check`.

    Example: mercato contract check transactions --since 2017-01-01 --until 2017-02-01
    """
    from data_contracts.contract import cleaning_order
    from data_contracts.shop import load_shop
    from training import jobs

    settings = Settings()
    names = [name] if name else cleaning_order(load_shop(settings.shop).tables)
    show([jobs.clean_table(settings, each, instant(since), instant(until)) for each in names], table=table)


@contract.command("diff")
@command
def contract_diff(
    old: Annotated[str, typer.Argument(help="A file, TABLE@REVISION of git, or TABLE as it is now.")],
    new: Annotated[str, typer.Argument(help="The same, for the newer one.")],
    table: Table = False,
) -> None:
    """Say what changed, whether it breaks readers, and who reads; 65 when breaking without a new major version.

    Example: mercato contract diff transactions@HEAD~1 transactions
    """
    from data_contracts.diff import as_rows, changes, complaint, needed

    before, after = _contract(old), _contract(new)
    found = changes(before, after)
    wrong = complaint(before, after)
    readers = _readers(after.name)
    if table:
        show(as_rows(found), table=True)
        show([{"read by": kind, "": ", ".join(names) or "none"} for kind, names in readers.items()], table=True)
    else:
        show(
            {
                "old": before.label,
                "new": after.label,
                "breaking": any(each.breaking for each in found),
                "needed": needed(found),
                "changes": as_rows(found),
                "read_by": readers,
            }
        )
    if wrong:
        typer.echo(f"error: {wrong}", err=True)
        raise typer.Exit(EXIT_BAD_DATA)


@contract.command("lock")
@command
def contract_lock() -> None:
    """Write contracts.lock.json from the contracts; 65 while a changed one lacks the version that its change needs.

    Example: mercato contract lock
    """
    from data_contracts.diff import LOCK, write_lock

    show({"lock": LOCK.name, "changed": write_lock()})


def _contract(named: str) -> Any:
    """The contract of a file, of TABLE@REVISION, or of TABLE."""
    from data_contracts.contract import load_contract, parse_contract
    from data_contracts.datasets import DATASETS, dataset_names
    from data_contracts.errors import BadContract

    if Path(named).suffix in {".yaml", ".yml"}:
        if not Path(named).is_file():
            raise BadContract(f"found no file {named}")
        return parse_contract(Path(named).read_text(), named)
    name, _, revision = named.partition("@")
    folder = DATASETS if name in dataset_names() else DATASETS.parent
    if not revision:
        return load_contract(name, folder)
    told = subprocess.run(  # noqa: S603 - no shell
        ["git", "show", f"{revision}:./{name}.odcs.yaml"],  # noqa: S607
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if told.returncode:
        raise BadContract(f"found no {name}.odcs.yaml at revision {revision!r}: {told.stderr.strip()}")
    return parse_contract(told.stdout, named)


def _readers(name: str) -> dict[str, list[str]]:
    """Feature views, models and datasets that read a table, or a dataset."""
    from feature_repo.views import SERVICES, VIEWS
    from training import feedback
    from training.annotation import pool
    from training.datasets.intents import INTENT
    from training.datasets.kinds import BUILDERS
    from training.reads import DATASETS_READ, READS, SERVICES_READ

    datasets = {each.name: each.reads for each in BUILDERS.values()}
    datasets |= {feedback.DATASET: feedback.READS, INTENT.name: pool.READS}
    views = {view.name for view in VIEWS.values() if name in view.reads}
    services = {**{service.rpartition("_v")[0]: service for service in SERVICES}, **SERVICES_READ}
    models = {model for told in (READS, DATASETS_READ) for model, reads in told.items() if name in reads}
    models |= {model for model, service in services.items() if views & SERVICES[service].keys()}
    return {
        "feature_views": sorted(views),
        "models": sorted(models),
        "datasets": sorted(dataset for dataset, reads in datasets.items() if name in reads),
    }
