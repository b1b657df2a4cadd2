"""Golden sets: what a shop's search must find, `data_contracts/golden/<shop>.csv` beside its data card."""

import re
from pathlib import Path
from typing import Final

import pandas as pd

from training.errors import BadConfig, NotEnoughData
from training.search_quality import NO_RESULT, Judgments

GOLDEN: Final = Path(__file__).resolve().parent.parent / "data_contracts" / "golden"
COLUMNS: Final = ("query", "product_id", "grade", "slice")
FEW_QUERIES: Final = 5
"""Queries with something relevant: an interval over fewer says nothing, so nothing is learned or gated by them."""
_SLICE: Final = re.compile(r"[a-z][a-z0-9-]*")


def has(shop: str, folder: Path = GOLDEN) -> bool:
    """Whether the shop has a golden set."""
    return (folder / f"{shop}.csv").exists()


def read(shop: str, folder: Path = GOLDEN) -> Judgments:
    """The golden set of a shop: columns query, product_id (empty where nothing answers), grade (0 to 4), slice.

    Raises:
        NotEnoughData: the shop has none.
        BadConfig: it cannot be read, or contradicts itself; the message names file, line and what is allowed.
    """
    path = folder / f"{shop}.csv"
    if not path.exists():
        raise NotEnoughData(f"found no golden set of {shop}, needed {path.name} in data_contracts/golden")
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False, skip_blank_lines=False)
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise BadConfig(f"golden set {path.name} is no CSV in UTF-8: {error}") from error
    if tuple(rows.columns) != COLUMNS:
        raise BadConfig(
            f"golden set {path.name} has the columns {', '.join(rows.columns)}; need {', '.join(COLUMNS)}, in this "
            "order, separated by commas"
        )
    for line, problem in _problems(rows):
        raise BadConfig(f"golden set {path.name}, line {line}: {problem}")
    return Judgments.of(rows)


def _problems(rows: pd.DataFrame) -> list[tuple[int, str]]:
    """(line of the file, what is wrong there), the first first."""
    found = []
    pairs: set[tuple[str, str]] = set()
    slices: dict[str, str] = {}
    for line, (query, product, grade, name) in enumerate(rows.itertuples(index=False), start=2):
        if not query.strip():
            found.append((line, "found no query, need what a shopper writes"))
        if grade not in {"0", "1", "2", "3", "4"}:
            found.append((line, f"found the grade {grade!r}, need 0 (wrong) to 4"))
        if not _SLICE.fullmatch(name):
            found.append((line, f"found the slice {name!r}, need a name in small letters, such as head or {NO_RESULT}"))
        if (query, product) in pairs:
            found.append((line, f"found {product or 'no product'} for {query!r} a second time; keep one"))
        if slices.setdefault(query, name) != name:
            found.append((line, f"found {query!r} in the slice {name}, above it is in {slices[query]}; keep one"))
        if name == NO_RESULT and product and grade != "0":
            found.append((line, f"found something relevant for {query!r}, which is in the slice {NO_RESULT}"))
        pairs.add((query, product))
    return found
