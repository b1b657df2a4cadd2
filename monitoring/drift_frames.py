"""What a drift report compares: bounded samples of clean tables and feature snapshots, without ids and times."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_contracts import partitions
from data_contracts.contract import load_contract
from data_contracts.errors import SourceMissing
from data_contracts.lake import as_of
from feature_repo.views import SERVICES, VIEWS, service_columns
from feature_repo.writer import LAYER
from mercato.paths import Lake

SAMPLE_ROWS: Final = 20_000
"""Rows of each side at most."""
TOP_VALUES: Final = 30
"""Categories kept by name; the others are one."""
EVENTS: Final = frozenset({"transactions", "promotions", "coupon_redemptions", "interactions", "impressions"})
"""Tables compared window against window. The others are states: what was true at the end of each window."""
_OTHER: Final = "(other)"


@dataclass(frozen=True, slots=True)
class Window:
    """[since, until), UTC."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Pair:
    """Two samples with the same columns: numbers as numbers, everything else as text."""

    subject: str
    kind: str
    """`table` or `features`."""
    of: tuple[str, ...]
    """The table, or the feature services that read exactly these features."""
    current: pd.DataFrame
    reference: pd.DataFrame


def table_pair(lake: Lake, table: str, current: Window, reference: Window) -> Pair:
    """The samples of one clean table; a side without rows is empty."""
    now, before = (_comparable(_table_sample(lake, table, window)) for window in (current, reference))
    return Pair(table, "table", (table,), *_aligned(now, before))


def _table_sample(lake: Lake, table: str, window: Window) -> pa.Table:
    """The rows whose hashed key is smallest: the same ones in each run, and of a state on both sides."""
    since = window.since if table in EVENTS else None
    try:
        rows = as_of(lake, table, event_before=window.until, known_before=window.until, since=since)
    except SourceMissing:
        return pa.table({})
    key = rows[load_contract(table).key[0]].cast("string")
    for name in load_contract(table).key[1:]:
        key = key.concat("|", rows[name].cast("string"))
    return rows.mutate(_order=key.hash()).order_by("_order").limit(SAMPLE_ROWS).drop("_order").to_pyarrow()


def feature_pairs(lake: Lake, current: Window, reference: Window) -> Iterator[Pair]:
    """One pair per entity and distinct feature list: services that read the same features share it."""
    lists: dict[tuple[str, tuple[tuple[str, tuple[str, ...]], ...]], list[str]] = {}
    for service in SERVICES:
        columns = service_columns(service)
        for entity in dict.fromkeys(VIEWS[view].entity for view in columns):
            wanted = tuple((view, tuple(names)) for view, names in columns.items() if VIEWS[view].entity == entity)
            lists.setdefault((entity, wanted), []).append(service)
    for (entity, wanted), services in lists.items():
        sides = [
            [_snapshot_sample(lake, view, names, window.until) for view, names in wanted]
            for window in (current, reference)
        ]
        now, before = (pd.concat(side, axis=1) for side in sides)
        yield Pair(f"{services[0]}.{entity}", "features", tuple(services), *_aligned(now, before))


def _snapshot_sample(lake: Lake, view: str, names: tuple[str, ...], until: datetime) -> pd.DataFrame:
    """The newest snapshot with T <= until, one row per sampled key; empty when there is none."""
    found = [m for m in partitions.manifests(lake, LAYER, view) if m.event_time_max and m.event_time_max <= until]
    if not found:
        return pd.DataFrame()
    key = VIEWS[view].key
    table = pq.read_table(partitions.part_path(lake, found[-1]), columns=[key, *names])
    hashed = pd.util.hash_array(table.column(key).to_numpy(zero_copy_only=False).astype(object))
    chosen = table.take(pa.array(np.sort(np.argsort(hashed, kind="stable")[:SAMPLE_ROWS])))
    return _comparable(chosen.combine_chunks()).set_axis(chosen.column(key).to_pylist(), axis=0)


def _comparable(table: pa.Table) -> pd.DataFrame:
    """The columns that can drift: ids and times always differ, arrays are reduced to their length and mean."""
    out: dict[str, Any] = {}
    for field in table.schema:
        column = table.column(field.name).combine_chunks()
        if field.name.endswith(("_id", "_key", "_upc", "_at", "_time", "_from", "_date")) and not pa.types.is_list(
            field.type
        ):
            continue
        if pa.types.is_list(field.type):
            if pa.types.is_string(field.type.value_type):
                out[f"{field.name}_n"] = pc.list_value_length(column).to_numpy(zero_copy_only=False)
            elif not field.name.endswith("_at"):
                out[f"{field.name}_mean"] = _list_means(column)
        elif pa.types.is_integer(field.type) or pa.types.is_floating(field.type):
            out[field.name] = column.to_numpy(zero_copy_only=False)
        elif pa.types.is_boolean(field.type):
            out[field.name] = column.cast("string").to_pandas().astype(object)
        elif pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            out[field.name] = column.to_pandas().astype(object)
    return pd.DataFrame(out, index=range(table.num_rows))


def _list_means(column: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(n,) the mean of each list, 0 for an empty one."""
    owner = pc.list_parent_indices(column).to_numpy(zero_copy_only=False)
    values = pc.list_flatten(column).to_numpy(zero_copy_only=False).astype(np.float64)
    counts = np.bincount(owner, minlength=len(column))
    sums = np.bincount(owner, weights=values, minlength=len(column))
    return np.asarray(sums / np.maximum(counts, 1))


def _aligned(current: pd.DataFrame, reference: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The common columns of both; rare categories of the reference, and missing values, become values of their own.

    Whether a number is there is a column of its own where it is not always. The number is left out where one side never
    has it: there is nothing that it could drift from, or to.
    """
    names = [name for name in reference.columns if name in current.columns]
    sides = current[names].reset_index(drop=True), reference[names].reset_index(drop=True)
    for name in names:
        if reference[name].dtype == object:
            top = set(reference[name].value_counts().index[:TOP_VALUES])
            for side in sides:
                side[name] = side[name].where(side[name].isin(top) | side[name].isna(), _OTHER).fillna("(missing)")
            continue
        missing = [side[name].isna() for side in sides]
        for side, gaps in zip(sides, missing, strict=True):
            if any(each.any() for each in missing):
                side[f"{name} missing"] = np.where(gaps, "yes", "no").astype(object)
            if any(each.all() for each in missing):
                del side[name]
    return sides
