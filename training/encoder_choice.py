"""Which encoder the last tuning chose: the encoder, its tokenizer and a report that names both, kept as artefacts."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from data_contracts.artefact_store import ArtefactRef, ArtefactStore
from data_contracts.release import Artefact, Kind, Reproducible
from mercato.settings import Settings
from training.record import record


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a tuning chose."""

    encoder: Path
    tokenizer: Path
    run_id: str
    """Of the tuning."""
    pairs: str
    """Version of the search_pairs that it learned from."""


REPORT: Final = "encoder_choice"
_TICK: Final = timedelta(microseconds=1)
FILES: Final[Mapping[str, Kind]] = {"chosen_encoder": Kind.ONNX, "chosen_tokenizer": Kind.TOKENIZER}


def keep(  # noqa: PLR0913 - what a run leaves
    settings: Settings,
    encoder: Path,
    tokenizer: Path,
    report: Mapping[str, Any],
    *,
    fit_until: datetime,
    config: Mapping[str, Any],
    snapshots: Mapping[str, str],
    metrics: Mapping[str, float],
) -> ArtefactRef:
    """The ref of the report, after encoder and tokenizer were kept; `report` gains their hashes under `files`.

    Args:
        settings: where the lake and MLflow are.
        encoder: ONNX file.
        tokenizer: `tokenizers` file.
        report: plain JSON values; `base_model` says what was tuned.
        fit_until: nothing at or after this instant was seen.
        config: all that decided the tuning.
        snapshots: dataset or table -> digest of what was read.
        metrics: scalars of the evaluation, for MLflow.
    """
    write = partial(record, settings, fit_until=fit_until, config=config, snapshots=snapshots)
    kept = {
        name: write(name, partial(shutil.copyfile, source), kind=kind, metrics=metrics,
                    reproducible=Reproducible.QUALITY)
        for (name, kind), source in zip(FILES.items(), (encoder, tokenizer), strict=True)
    }  # fmt: skip
    told = {**report, "files": {name: ref.artefact.sha256 for name, ref in kept.items()}}
    return write(REPORT, lambda path: path.write_text(json.dumps(told, indent=1, sort_keys=True)), kind=Kind.JSON)


def report(store: ArtefactStore, until: datetime) -> dict[str, Any] | None:
    """What the newest tuning as of `until` or before said; None when there was none."""
    ref = store.newest_ref(REPORT, until=until)
    return dict(json.loads(store.fetch_one(REPORT, ref.artefact).read_text())) if ref else None


def newest(store: ArtefactStore, until: datetime, base_model: str) -> Chosen | None:
    """What the newest tuning of before `until` chose, its files verified; None when there was none of this base model.

    One of `until` itself ends long after that night's embedding: which of the two is first must not decide.
    """
    ref, said = store.newest_ref(REPORT, until=until - _TICK), report(store, until - _TICK)
    if ref is None or said is None or said["base_model"] != base_model:
        return None
    encoder, tokenizer = (
        store.fetch_one(name, Artefact(kind=kind, sha256=said["files"][name])) for name, kind in FILES.items()
    )
    return Chosen(encoder, tokenizer, ref.run_id, said["pairs"])


def copy(source: ArtefactStore, to: ArtefactStore, until: datetime) -> None:
    """Bring the choice that `newest` finds into another lake: a replay takes it as recorded and does not tune again."""
    for name in (REPORT, *FILES):
        ref = source.newest_ref(name, until=until - _TICK)
        if ref is not None:
            to.put(source.fetch_one(name, ref.artefact), ref.artefact.kind)
            to.write_ref(ref)
