"""Search pairs: what is asked and what answers it, from shoppers, graders and the products' own words."""

from datetime import timedelta

import pandas as pd
import pyarrow as pa

from data_contracts.errors import SourceMissing
from data_contracts.lake import arrow_schema, as_of
from mercato.paths import Lake
from training import copurchase, golden, pairs
from training.datasets.builder import Builder, Inputs
from training.errors import NotEnoughData
from training.fit import purchases
from training.held_out import refuse_leaks
from training.search_quality import Judgments

_TICK = timedelta(microseconds=1)


def judgments_of(shop: str) -> Judgments:
    """The shop's golden set; an empty one when it has none."""
    return golden.read(shop) if golden.has(shop) else Judgments({}, {})


def _rows(given: Inputs) -> pa.Table:
    """The pairs of `pairs.DEFAULT`, known at `until`."""
    config, at = pairs.DEFAULT, given.until
    products = as_of(given.lake, "products", event_before=at, known_before=at).execute()
    judgments = judgments_of(given.shop.name)
    held = pairs.held_out(judgments, config)
    catalogue = pairs.Catalogue.of(products)
    parts = [
        pairs.structural(catalogue, config),
        pairs.judged(judgments, held, config, at - _TICK),
        pairs.bought_together(catalogue, products, _neighbours(given), config),
        *_searches(given.lake, given),
    ]
    made = pairs.pairs(parts, held, config)
    refuse_leaks(made["query"].tolist(), held)
    return pa.Table.from_pandas(made, schema=arrow_schema(SEARCH_PAIRS.contract), preserve_index=False)


def _neighbours(given: Inputs) -> dict[str, list[str]]:
    """Product -> the products of its baskets, nearest first; none where nothing was sold often enough."""
    if not given.shop.sells:
        return {}
    try:
        bought = purchases(given.lake, given.until)
        model = copurchase.fit(copurchase.CoPurchaseConfig(), bought, given.until)
    except (NotEnoughData, SourceMissing):
        return {}
    ids, nearest = model.item_ids, model.rows.matrix
    found: dict[str, list[str]] = {}
    for row, product in enumerate(ids):
        span = slice(nearest.indptr[row], nearest.indptr[row + 1])
        ordered = sorted(zip(-nearest.data[span], nearest.indices[span], strict=True))
        found[product] = [ids[other] for _, other in ordered]
    return found


def _searches(lake: Lake, given: Inputs) -> list[pd.DataFrame]:
    try:
        seen = as_of(lake, "interactions", event_before=given.until, known_before=given.until, since=given.since)
    except SourceMissing:
        return []  # nothing was logged yet
    return [pairs.searched(seen.execute())]


SEARCH_PAIRS = Builder(
    name="search_pairs",
    reads=("products", "transactions", "interactions"),
    rows=_rows,
    split="none",
)
