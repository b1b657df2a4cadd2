"""`mercato dataset`: training datasets as versioned tables."""

from pathlib import Path
from typing import Annotated

import typer

from mercato.commands.support import ISO, Table, command, instant, show
from mercato.settings import Settings

dataset = typer.Typer(no_args_is_help=True, help="Training datasets, as versioned tables under contract.")


@dataset.command("build")
@command
def dataset_build(
    name: Annotated[str, typer.Argument(help="recommendation_examples, intent_examples, product_corpus, …")],
    until: Annotated[str, typer.Option(help=f"Nothing at or after this instant is read ({ISO}).")],
    since: Annotated[str, typer.Option(help="First event, in the same way; the shop's first day when left out.")] = "",
    file: Annotated[Path | None, typer.Option(help="Rows that people made: .csv, .jsonl or .parquet.")] = None,
) -> None:
    """Build a version of a dataset, check it, and write it with its manifest and report.

    Example: mercato dataset build recommendation_examples --until 2017-12-04T05:00Z
    """
    from data_contracts.shop import load_shop
    from mercato.paths import lake
    from training.datasets.builder import Inputs
    from training.datasets.kinds import builder
    from training.datasets.versions import build, folder

    settings = Settings()
    shop = load_shop(settings.shop)
    first = instant(since) if since else shop.window()[0]
    given = Inputs(lake(settings), shop, first, instant(until), file)
    made = build(builder(name), given)
    home = folder(given.lake, made.name, made.version)
    show({**made.model_dump(mode="json"), "report": f"{home}/report.html"})


@dataset.command("list")
@command
def dataset_list(
    name: Annotated[str, typer.Argument(help="A dataset; all when left out.")] = "",
    table: Table = False,
) -> None:
    """List the versions of datasets.

    Example: mercato dataset list --table
    """
    from mercato.paths import lake
    from training.datasets.kinds import BUILDERS, builder
    from training.datasets.versions import versions

    names = [builder(name).name] if name else sorted(BUILDERS)
    found = [each for one in names for each in versions(lake(Settings()), one)]
    show(
        [
            {
                "dataset": each.name,
                "version": each.version,
                "until": each.until.isoformat(),
                "rows": each.rows,
                **{split: part.rows for split, part in each.splits.items()},
            }
            for each in found
        ],
        table=table,
    )
