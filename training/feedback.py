"""Feedback: what each product that was shown led to, as a dataset and as rows that a ranker learns from."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, PositiveInt

from data_contracts.checks import BROKEN, mark_rows
from data_contracts.contract import Contract, load_contract
from data_contracts.datasets import DATASETS
from data_contracts.errors import SourceMissing, TableRuleBroken
from data_contracts.lake import arrow_schema, as_of, snapshot_digest
from data_contracts.partitions import describe, encode, manifests, writing
from data_contracts.shop import load_shop
from feature_repo.ranker_features import COLUMN, FEATURE_NAMES
from mercato.paths import Lake, canonical_json
from training.dataset import RankerRows, concatenate, only_novel
from training.days import split_by_day
from training.judging import EXAMPLES

DATASET: Final = "impression_outcomes"
READS: Final = ("impressions", "interactions")
"""Clean tables that it is made of."""
GRADES: Final = {"click": 1, "cart": 2, "purchase": 3}
"""Outcome -> label; lambdarank's gain is 2 ** label - 1."""
FEATURE_SET: Final = hashlib.sha256(json.dumps(FEATURE_NAMES).encode()).hexdigest()[:16]
"""Digest under which the gateway logs the features of today's rankers."""
SURFACE: Final = "recommend"
"""Where the rankers that learn had ordered what was shown."""
MAX_WEIGHT: Final = 20.0
"""Most that one row may count: 1 / propensity is clipped here."""
_EARLY: Final = timedelta(days=1)
"""An outcome may carry an earlier time than its impression, by a slow clock of the sender; its random request_id
proves that it came after."""


class FeedbackConfig(BaseModel, frozen=True, extra="forbid"):
    """What counts as feedback, and when rankers learn from it."""

    window_days: PositiveInt = 7
    """Days from the impression on in which an outcome counts."""
    lookback_days: PositiveInt = 28
    """How far back impressions are read, in days before `until`."""
    min_feedback_rows: PositiveInt = 1_000
    """Products shown that led to something; with fewer, rankers learn from purchases alone."""


DEFAULT: Final = FeedbackConfig()
"""What the jobs use."""


@dataclass(frozen=True, slots=True)
class FeedbackReport:
    """What was written of one version."""

    version: str
    """Its folder: the instant as of which it is, and a digest of the settings."""
    rows: int
    outcomes: int
    """Rows that led to something."""
    days: int
    sha256: str
    """Digest over the partitions' hashes."""


NO_ROWS: Final = hashlib.sha256(b"").hexdigest()
"""`sha256` of a version without rows, which has no partition."""


@cache
def contract() -> Contract:
    """The contract of the dataset."""
    return load_contract(DATASET, DATASETS)


def outcomes(lake: Lake, config: FeedbackConfig, until: datetime) -> pa.Table:
    """One row per product shown in the `lookback_days` before `until`, in the columns of the contract.

    Ordered by `known_at`, then the key. An event counts for the impression of the same request and product when it
    happened less than `window_days` after it. Nothing that happened or became known at or after `until` is seen.
    Requests with simulated events are left out. A shop that has shown nothing yet gets no rows.
    """
    since, window = until - timedelta(days=config.lookback_days), ibis.interval(days=config.window_days)
    shown = _rows(lake, "impressions", since, until)
    events = _rows(lake, "interactions", since - _EARLY, until)
    made_up = events.filter(events.origin == "simulated", events.request_id.notnull())
    shown = shown.anti_join(made_up.select("request_id").distinct(), "request_id")
    events = events.filter(events.origin != "simulated")
    graded = events.filter(events.type.isin(list(GRADES)))
    graded = graded.select(
        "request_id",
        "product_id",
        label=graded.type.cases(*GRADES.items()),
        at=graded.event_time,
        told=graded.known_at,
    )
    led = shown.inner_join(graded, ["request_id", "product_id"])
    led = led.filter(led.at < led.event_time + window)
    led = led.group_by("request_id", "position").agg(label=led.label.max(), told=led.told.max())
    rows = shown.left_join(led, ["request_id", "position"])
    rows = rows.mutate(
        outcome=rows.label.cases(*((label, outcome) for outcome, label in GRADES.items())),
        label=rows.label.fill_null(0).cast("int64"),
        settled=rows.event_time + window <= ibis.literal(until, "timestamp('UTC')"),
        known_at=ibis.greatest(rows.known_at, rows.told.coalesce(rows.known_at)),
    )
    schema = arrow_schema(contract())
    return rows.select(*schema.names).order_by("known_at", *contract().key).to_pyarrow().cast(schema).combine_chunks()


def write(lake: Lake, config: FeedbackConfig, until: datetime, frame: pa.Table) -> FeedbackReport:
    """What was written of `outcomes` to `datasets/impression_outcomes/until=…,config=…/`.

    One partition per business day of `known_at`. The same clean tables and settings leave the same bytes.

    Raises:
        TableRuleBroken: rows break a rule of the contract or share a key; with counts and examples, nothing written.
    """
    shop = load_shop(lake.shop)
    _check(frame)
    inputs = {name: snapshot_digest(lake, name, event_before=until, known_before=until) for name in READS}
    inputs["config"], version = _digest(config), _version(config, until)
    days = sorted({shop.business_day(at) for at in pc.unique(frame["known_at"]).to_pylist()})
    hashes = []
    with writing(lake) as out:
        for day, part in split_by_day(shop, frame, days):
            data = encode(part)
            known_as = {"table": f"{DATASET}/{version}", "layer": "datasets", "ds": day, "contract": contract().label}
            described = describe(part, data, **known_as, inputs=inputs, keys_unique=True)
            out.put(data, described)
            hashes.append(described.sha256)
    led = int(pc.sum(pc.greater(frame["label"], 0)).as_py() or 0)
    return FeedbackReport(version, frame.num_rows, led, len(days), _together(hashes))


def _check(frame: pa.Table) -> None:
    """TableRuleBroken when a row breaks its contract: these rows are made here, so none may be bad."""
    marked = mark_rows(ibis.memtable(frame), contract(), {}).select(*contract().key, BROKEN).to_pyarrow()
    bad = marked.filter(pc.not_equal(marked[BROKEN], "")).to_pylist()
    repeated = frame.num_rows - frame.group_by(list(contract().key)).aggregate([]).num_rows
    if bad or repeated:
        counts = Counter(rule for row in bad for rule in row[BROKEN].split(","))
        rules = ", ".join(f"{rule} {count:,}" for rule, count in counts.most_common())
        raise TableRuleBroken(
            f"{contract().label}: of {frame.num_rows:,} rows {len(bad):,} break a rule ({rules or 'none'}) and "
            f"{repeated:,} repeat a key. Examples: {bad[:EXAMPLES] or 'none'}. Nothing was written; correct the clean "
            f"tables that they are made of: {', '.join(READS)}"
        )


def recorded(lake: Lake, config: FeedbackConfig, until: datetime) -> str:
    """The `sha256` that `write` reported of a version; `NO_ROWS` when it is not there."""
    return _together(each.sha256 for each in manifests(lake, "datasets", f"{DATASET}/{_version(config, until)}"))


def _version(config: FeedbackConfig, until: datetime) -> str:
    return f"until={until:%Y%m%dT%H%M%SZ},config={_digest(config)[:8]}"


def _digest(config: FeedbackConfig) -> str:
    return hashlib.sha256(canonical_json(config.model_dump(mode="json"))).hexdigest()


def _together(hashes: Iterable[str]) -> str:
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def ranker_rows(frame: pa.Table, config: FeedbackConfig, until: datetime) -> RankerRows | None:
    """What a ranker learns from `outcomes`, a group per request; None while `min_feedback_rows` are not reached.

    Features are those that were logged, and only rows whose ranker read today's features count. A label counts once
    it is settled: the purchase may follow the click. Requests that led to nothing are left out: a list without a
    preference teaches lambdarank nothing. A row weighs 1 / propensity, at most `MAX_WEIGHT`.
    """
    usable = pc.and_(pc.equal(frame["surface"], SURFACE), pc.equal(frame["feature_set"], FEATURE_SET))
    frame = frame.filter(pc.and_(usable, frame["settled"]))
    led = pc.greater(frame["label"], 0)
    if (pc.sum(led).as_py() or 0) < config.min_feedback_rows:
        return None
    frame = frame.filter(pc.is_in(frame["request_id"], pc.unique(frame.filter(led)["request_id"])))
    frame = frame.sort_by([(name, "ascending") for name in ("event_time", "request_id", "position")])
    blob = bytes.fromhex("".join(frame["features"].to_pylist()))
    features = np.frombuffer(blob, "<f4").reshape(frame.num_rows, len(FEATURE_NAMES)).astype(np.float32)
    labels = frame["label"].to_numpy().astype(np.uint8)
    weights = np.minimum(1.0 / frame["propensity"].to_numpy(), MAX_WEIGHT).astype(np.float32)
    return RankerRows(
        features=features,
        labels=labels,
        seen=features[:, COLUMN["n_purchases"]] > 0,
        groups=_run_lengths(frame["request_id"]),
        since=pc.min(frame["event_time"]).as_py(),
        until=until,
        relevant=(int(np.count_nonzero(labels)), 0),
        weights=weights,
    )


def joined(rows: Mapping[str, RankerRows], learned: RankerRows | None) -> dict[str, RankerRows]:
    """Goal -> the rows of the purchase history, then those of feedback; `novel` gets what was never bought before."""
    if learned is None:
        return dict(rows)
    return {
        goal: concatenate([each, only_novel(learned) if goal == "novel" else learned]) for goal, each in rows.items()
    }


def _rows(lake: Lake, table: str, since: datetime, until: datetime) -> Any:
    """`as_of`, without rows while nothing was logged."""
    try:
        return as_of(lake, table, event_before=until, known_before=until, since=since)
    except SourceMissing:
        return ibis.memtable(arrow_schema(load_contract(table)).empty_table())


def _run_lengths(values: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
    """How often each value comes in a row."""
    encoded = pc.run_end_encode(values.combine_chunks())
    return np.asarray(np.diff(encoded.run_ends.to_numpy(), prepend=0), np.int64)
