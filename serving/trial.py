"""Parses a release: in the worker, and before that alone in a child process. `python -m serving.trial NAME=FILE…`."""

import sys
from pathlib import Path

from data_contracts.errors import ArtefactRefused
from serving.runtime import artefacts as runtime
from serving.runtime import search
from serving.runtime.artefacts import Artefacts
from serving.runtime.intent import IntentModel
from serving.runtime.query.lexicon import Lexicon
from serving.runtime.search import SearchEngine

_COULD_NOT_PARSE = 65


def parse(paths: dict[str, Path]) -> tuple[Artefacts, SearchEngine, Lexicon | None, IntentModel | None]:
    """The parts of a release from verified files; older ones have no lexicon, and any may have no intent model."""
    artefacts = runtime.load(paths)
    lexicon = Lexicon.load(paths["query_lexicon"]) if "query_lexicon" in paths else None
    intent = IntentModel.load(paths["intent"]) if "intent" in paths else None
    return artefacts, search.load(paths, artefacts.catalogue), lexicon, intent


def _main(arguments: list[str]) -> int:
    try:
        parse({name: Path(path) for name, _, path in (each.partition("=") for each in arguments)})
    except ArtefactRefused as error:
        print(error, file=sys.stderr)  # noqa: T201 - read by the parent
        return _COULD_NOT_PARSE
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
