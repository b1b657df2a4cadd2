"""Which messages a batch holds: a declared mix, one of each group of near-duplicates."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from training.annotation.config import ExportConfig, IntentModel, Reason
from training.annotation.pool import Message
from training.near_duplicates import groups

Guess = tuple[str, float]
"""(label, confidence)."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A message to annotate."""

    message: Message
    reason: Reason
    alike: int
    """Other messages of the pool that are near-duplicates of it."""
    guesses: tuple[tuple[str, Guess], ...] = ()
    """Name of a model -> what it says, the live model first."""


def choose(
    found: Sequence[Message],
    known: Sequence[str],
    models: Sequence[IntentModel],
    config: ExportConfig,
    until: datetime,
) -> list[Chosen]:
    """At most `config.tasks` messages, near-duplicates neither of each other nor of the `known` texts.

    The same messages, models and settings give the same choice. What a missing model cannot choose is drawn at random:
    uncertainty needs one model, disagreement two.
    """
    kept = sorted(found, key=lambda each: _draw(config, until, each))[: config.pool]
    kept, alike = _apart(sorted(kept, key=lambda each: each.message_id), known, config)
    said = [(model.name, list(model.classify([each.text for each in kept]))) for model in models[:2]]
    guesses = [tuple((name, labels[at]) for name, labels in said) for at in range(len(kept))]
    candidates = [Chosen(message, "random", n, guess) for message, n, guess in zip(kept, alike, guesses, strict=True)]
    wanted = _wanted(config, len(said))
    taken: dict[str, Chosen] = {}
    orders: Mapping[Reason, Callable[[], Iterable[Chosen]]] = {
        "disagreement": lambda: _disputed(candidates),
        "uncertain": lambda: sorted(candidates, key=lambda each: (each.guesses[0][1][1], each.message.message_id)),
        "random": lambda: _round_robin(candidates, config, until),
    }
    for reason in ("disagreement", "uncertain", "random"):
        # What one reason could not fill, the random draw fills: it comes last.
        upto = config.tasks if reason == "random" else len(taken) + wanted[reason]
        if upto > len(taken):
            for each in orders[reason]():
                if len(taken) == upto:
                    break
                taken.setdefault(each.message.message_id, Chosen(each.message, reason, each.alike, each.guesses))
    return sorted(taken.values(), key=lambda each: _draw(config, until, each.message))


def _wanted(config: ExportConfig, models: int) -> dict[Reason, int]:
    """Tasks of each reason."""
    disputed = round(config.tasks * config.disagreement_share) if models > 1 else 0
    unsure = round(config.tasks * config.uncertain_share) if models else 0
    return {"disagreement": disputed, "uncertain": unsure, "random": config.tasks - disputed - unsure}


def _draw(config: ExportConfig, until: datetime, message: Message) -> str:
    """A random number of a message: the order of the draw."""
    return hashlib.sha256(f"{config.seed} {until.isoformat()} {message.message_id}".encode()).hexdigest()


def _apart(found: list[Message], known: Sequence[str], config: ExportConfig) -> tuple[list[Message], list[int]]:
    """(the message written most of each group without a known text, how many others the group has)."""
    group = groups([*known, *(each.text for each in found)], config.similarity)
    old = set(group[: len(known)].tolist())
    members: dict[int, list[Message]] = defaultdict(list)
    for at, each in zip(group[len(known) :].tolist(), found, strict=True):
        if at not in old:
            members[at].append(each)
    best = [min(each, key=lambda one: (-one.written, one.message_id)) for each in members.values()]
    counts = [len(each) - 1 for each in members.values()]
    both = sorted(zip(best, counts, strict=True), key=lambda each: each[0].message_id)
    return [message for message, _ in both], [n for _, n in both]


def _disputed(candidates: Iterable[Chosen]) -> list[Chosen]:
    """Those that both models label differently, the surest first."""
    found = [each for each in candidates if each.guesses[0][1][0] != each.guesses[1][1][0]]
    return sorted(found, key=lambda each: (-sum(sure for _, (_, sure) in each.guesses), each.message.message_id))


def _round_robin(candidates: Iterable[Chosen], config: ExportConfig, until: datetime) -> Iterable[Chosen]:
    """One of each channel, language and predicted label in turn, in the order of the draw."""
    strata: dict[tuple[str, ...], list[Chosen]] = defaultdict(list)
    for each in sorted(candidates, key=lambda one: _draw(config, until, one.message), reverse=True):
        predicted = each.guesses[0][1][0] if each.guesses else ""
        strata[each.message.channel, each.message.language, predicted].append(each)
    queues = [strata[key] for key in sorted(strata)]
    while queues:
        yield from [queue.pop() for queue in queues]
        queues = [queue for queue in queues if queue]
