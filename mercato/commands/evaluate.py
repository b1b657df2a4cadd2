"""`mercato evaluate`: how good the served artefacts are, with the baselines in the same run."""

from typing import Annotated, Any

import typer

from mercato.commands.support import Table, command, show
from mercato.settings import Settings

Release = Annotated[str, typer.Option("--release", help="A release id; the live one when left out.")]
evaluate = typer.Typer(no_args_is_help=True, help="Offline quality of the served artefacts.")


@evaluate.command("recommend")
@command
def evaluate_recommend(
    release_id: Release = "",
    table: Table = False,
) -> None:
    """Score the served artefacts and the baselines on the weeks after they were fitted.

    Example: mercato evaluate recommend --table
    """
    from mercato.quality import evaluate_release

    settings = Settings()
    result = evaluate_release(settings, _chosen(settings, release_id))
    show(result["rows"] if table else result, table=table)


@evaluate.command("search")
@command
def evaluate_search(release_id: Release = "", table: Table = False) -> None:
    """Score the served search and its rivals on the shop's golden set, as written and misspelt.

    Example: mercato evaluate search --table
    """
    from mercato.search_quality import evaluate_search as score

    settings = Settings()
    result = score(settings, _chosen(settings, release_id))
    if not table:
        show(result)
        return
    show(result["rows"], table=True)
    show(result["behaviours"], table=True)
    show({name: result[name] for name in ("p50_ms", "p95_ms")}, table=True)


@evaluate.command("intent")
@command
def evaluate_intent(release_id: Release = "", table: Table = False) -> None:
    """Score the served intent model and the linear baselines on test messages, per language, intent and both.

    Example: mercato evaluate intent --table
    """
    from mercato.intent_quality import evaluate_intent as evaluate_served

    settings = Settings()
    result = evaluate_served(settings, _chosen(settings, release_id))
    if not table:
        show(result)
        return
    show([{name: row[name] for name in _INTENT_COLUMNS} for row in result["rows"]], table=True)
    show(_side_by_side(result["intents"]), table=True)
    show(result["latency"], table=True)


_INTENT_COLUMNS = ("method", "language", "messages", "accuracy", "interval", "macro_f1", "ece", "served_gain")


def _side_by_side(intents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per intent: precision / recall over every language, then of each."""
    languages = dict.fromkeys(row["language"] for row in intents)
    found: dict[str, dict[str, Any]] = {}
    for row in intents:
        cells = found.setdefault(row["intent"], {"precision / recall": row["intent"], **dict.fromkeys(languages, "")})
        cells[row["language"]] = f"{row['precision']:.3f} / {row['recall']:.3f}"
    return list(found.values())


def _chosen(settings: Settings, release_id: str) -> str:
    """The named release, else the one that answers most."""
    from data_contracts.errors import UnknownRelease
    from mercato.stores.routing import routing_store

    live = routing_store(settings).live(settings.shop)
    chosen = release_id or (max(live.weights, key=lambda each: live.weights[each]) if live else "")
    if not chosen:
        raise UnknownRelease(f"no release of {settings.shop} is live and none was named; pass --release ID")
    return chosen
