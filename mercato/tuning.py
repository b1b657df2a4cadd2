"""One fine-tuning of the encoder: training makes and scores the candidates, monitoring judges them; both meet here."""

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pandas as pd
import structlog

from data_contracts.artefact_store import ArtefactRef, ArtefactStore
from data_contracts.lake import as_of, snapshot_digest
from mercato import paths
from mercato.paths import Lake, canonical_json, sha256_file
from mercato.settings import Settings
from training import encoder_choice, golden, negatives, pairs
from training.datasets.search_pairs import SEARCH_PAIRS
from training.datasets.versions import DatasetManifest, newest, rows_of
from training.embeddings import encode_texts, known_vectors
from training.encoder_trial import Candidate, Trial
from training.errors import ArtefactMissing, NotEnoughData
from training.held_out import refuse_leaks
from training.tuning import TuningConfig, tune, usable

log = structlog.get_logger()

MIN_NEW_PAIRS: Final = 640
"""Pairs that the last tuning did not see; fewer are ten batches, which move no weight that a shopper would notice."""
MAX_INT8_LOSS: Final = 0.005
"""nDCG@10 that int8 may cost, on the queries kept for judging."""
DEFAULT: Final = TuningConfig(max_minutes=90)
"""What the DAG uses; the limit lets evaluation and the catalogue fit into the task's two hours on a CPU."""


@dataclass(frozen=True, slots=True)
class _Work:
    """What a tuning reads."""

    made: DatasetManifest
    """The version of the pairs."""
    rows: pd.DataFrame
    trial: Trial
    products: str
    """Digest of the products in `trial`."""


def tune_encoder(settings: Settings, until: datetime, config: TuningConfig = DEFAULT) -> dict[str, Any]:
    """What the tuning of a week chose, as kept in `encoder_choice`; an embedding of a later `until` encodes with it.

    The tuned encoder is chosen when its nDCG@10 on the judged queries kept for judging is above the un-tuned one's by
    more than the paired 95 % interval; int8 of the one chosen when that costs less than MAX_INT8_LOSS.

    Raises:
        ArtefactMissing: no pairs were built yet.
        LeakageFound: a pair is nearly a query kept for judging.
        NotEnoughData: no judged queries, or fewer than MIN_NEW_PAIRS since the last tuning.
    """
    lake = paths.lake(settings)
    work = _work(settings, lake, until, config)
    recipe = hashlib.sha256(canonical_json(config.model_dump())).hexdigest()[:8]
    home = settings.root / "tuning" / settings.shop / f"{work.made.version}-{until:%Y%m%d}-{recipe}"
    with tempfile.TemporaryDirectory(prefix="mercato-") as scratch:
        untuned = work.trial.untuned(Path(scratch) / "untuned")
        texted = work.rows.merge(work.trial.products[["product_id", "text"]], on="product_id")
        current = _current(lake, until, work.trial) or untuned
        found = negatives.triplets(texted, current.encoder, work.trial.over(current), negatives.MiningConfig())
        done = tune(config, found, home)
        tuned = work.trial.candidate("tuned", done.folder, Path(scratch) / "tuned")
        scores = {"bm25": work.trial.bm25(), "un-tuned": work.trial.score(untuned), "tuned": work.trial.score(tuned)}
        gain = _gain(scores["tuned"], scores["un-tuned"])
        chosen = tuned if gain.positive else untuned
        small = work.trial.int8(chosen, Path(scratch) / "int8")
        scores["int8"] = work.trial.score(small)
        loss = -_gain(scores["int8"], scores[chosen.name]).mean
        ships = small if loss < MAX_INT8_LOSS else chosen
        said = {
            "base_model": config.base_model,
            "chosen": chosen.name,
            "why": f"nDCG@10 over the un-tuned encoder: {gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]",
            "int8": ships is small,
            "int8_loss": round(loss, 4),
            "pairs": work.made.version,
            "origins": work.rows["origin"].value_counts().to_dict(),
            "mined": len(found),
            "steps": done.steps,
            "seconds": round(done.seconds, 1),
            "device": done.device,
            "rows": [_row(name, each) for name, each in scores.items()],
        }
        ref = _keep(settings, ships, said, until=until, config=config, work=work)
    shutil.rmtree(home.parent)  # what killed runs over other pairs left too
    log.info("tuning.done", chosen=chosen.name, int8=ships is small, gain=round(gain.mean, 4), steps=done.steps)
    return {"sha256": ref.artefact.sha256, "run_id": ref.run_id, **{k: said[k] for k in ("chosen", "why", "int8")}}


def _current(lake: Lake, until: datetime, trial: Trial) -> Candidate | None:
    """The encoder that the last tuning chose, whose mistakes are worth learning from; None before the first."""
    store = ArtefactStore(lake)
    chosen = encoder_choice.newest(store, until, trial.config.base_model)
    if chosen is None:
        return None
    known = known_vectors(store, until, sha256_file(chosen.encoder))
    vectors = encode_texts(trial.config, chosen.encoder, chosen.tokenizer, trial.texts, known)
    return Candidate("current", chosen.encoder, chosen.tokenizer, vectors)


def _work(settings: Settings, lake: Lake, until: datetime, config: TuningConfig) -> _Work:
    judgments = golden.read(settings.shop)
    held = pairs.held_out(judgments, pairs.DEFAULT)
    made = newest(lake, SEARCH_PAIRS.name, until=until)
    if made is None:
        raise ArtefactMissing(
            f"found no version of {SEARCH_PAIRS.name} as of {until.isoformat()} or before; run build_datasets first"
        )
    rows = rows_of(lake, made).to_pandas()
    _need_news(lake, rows, until, config)
    refuse_leaks(rows["query"].tolist(), held)
    digest = snapshot_digest(lake, "products", event_before=until, known_before=until)
    products = as_of(lake, "products", event_before=until, known_before=until).execute()
    return _Work(made, usable(config, rows), Trial.of(products, judgments, held, config), digest)


def _need_news(lake: Lake, rows: pd.DataFrame, until: datetime, config: TuningConfig) -> None:
    """Nothing, unless the last tuning of this base model saw nearly all of these pairs."""
    last = encoder_choice.report(ArtefactStore(lake), until)
    if last is None or last["base_model"] != config.base_model:
        return
    before = newest(lake, SEARCH_PAIRS.name, until=until, version=last["pairs"])
    if before is None:
        return
    key = ["query", "product_id", "origin"]
    seen = pd.MultiIndex.from_frame(rows_of(lake, before).to_pandas()[key])
    new = int((~pd.MultiIndex.from_frame(rows[key]).isin(seen)).sum())
    if new < MIN_NEW_PAIRS:
        raise NotEnoughData(f"found {new} pairs that the last tuning did not see, need {MIN_NEW_PAIRS}; wait for more")


def _gain(one: pd.DataFrame, other: pd.DataFrame) -> Any:
    from monitoring.statistics import paired_gain

    return paired_gain(one["ndcg_at_10"].to_numpy(), other["ndcg_at_10"].to_numpy())


def _row(name: str, scores: pd.DataFrame) -> dict[str, Any]:
    means = scores.mean(numeric_only=True)
    return {"method": name, "queries": len(scores), **{str(k): round(float(v), 4) for k, v in means.items()}}


def _keep(  # noqa: PLR0913 - what a run leaves
    settings: Settings, ships: Candidate, said: Mapping[str, Any], *, until: datetime, config: TuningConfig, work: _Work
) -> ArtefactRef:
    metrics = {
        f"{row['method']}.{name}": value for row in said["rows"] for name, value in row.items() if name != "method"
    }
    return encoder_choice.keep(
        settings,
        ships.model,
        ships.tokenizer,
        said,
        fit_until=until,
        config={**config.model_dump(), "pairs": pairs.DEFAULT.model_dump()},
        snapshots={"products": work.products, SEARCH_PAIRS.name: work.made.sha256},
        metrics={**metrics, "int8_loss": said["int8_loss"], "steps": said["steps"]},
    )
