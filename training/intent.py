"""One run of the intent model: linear models and the fine-tuned encoder, each exported and calibrated as it serves."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import structlog
from numpy.typing import NDArray

from feature_repo.message_text import romanised
from serving.runtime.intent import EncoderModel, IntentModel, WordsModel, decide, softmax
from training.errors import BadConfig
from training.intent_calibration import calibrate, sure_above
from training.intent_config import Encoder, IntentConfig
from training.intent_data import PUBLIC, Messages
from training.intent_linear import fit_head, fit_words, row_weights

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]
WORDS: Final = "words"
FROZEN: Final = "frozen"
FINE_TUNED: Final = "fine-tuned"
_FOLDS: Final = 3
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that could ship, and which messages of validation it gets right."""

    name: str
    model: IntentModel
    right: NDArray[np.bool_]

    @property
    def fine_tuned(self) -> bool:
        """Whether its encoder was trained."""
        return self.name.startswith(FINE_TUNED)

    @property
    def accuracy(self) -> float:
        """On validation, in [0, 1]."""
        return float(self.right.mean())


@dataclass(frozen=True, slots=True)
class IntentRun:
    """The outcome of one training run."""

    candidates: tuple[Candidate, ...]
    """Every one, the cheap ones first."""
    curve: list[dict[str, float]]
    """Epoch, loss and accuracy on validation of each evaluation while the encoder was trained."""
    exports: Mapping[str, Mapping[str, float]]
    """Encoder -> variant of its export -> accuracy on validation."""
    seconds: Mapping[str, float]
    """CPU seconds of each part."""
    suspicious: pd.DataFrame
    """Training rows whose label the linear models, fitted without them, do not believe; the least believed first. None
    in a run that does not fine-tune."""

    def named(self, name: str) -> Candidate:
        """One candidate."""
        return next(each for each in self.candidates if each.name == name)

    def choose(self, wins: Callable[[Sequence[float], Sequence[float]], bool]) -> Candidate:
        """The candidate that ships: the best fine-tuned one if it `wins` over the best cheap one, else that.

        Args:
            wins: (challenger's, rival's) 1.0 for each message that it got right -> whether the gain is beyond doubt.
        """
        cheap = max((each for each in self.candidates if not each.fine_tuned), key=lambda each: each.accuracy)
        tuned = max((each for each in self.candidates if each.fine_tuned), key=lambda each: each.accuracy, default=None)
        if tuned and wins(tuned.right.astype(float).tolist(), cheap.right.astype(float).tolist()):
            return tuned
        return cheap


@dataclass(frozen=True, slots=True)
class _Part:
    """One half of a candidate, and its (n, labels) logits of the validation messages."""

    model: WordsModel | EncoderModel
    logits: Floats


@dataclass
class _Work:
    """What the steps of one run share."""

    config: IntentConfig
    messages: Messages
    until: datetime
    labels: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    exports: dict[str, dict[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.labels = self.messages.labels
        self.truth = self.codes(self.messages.validation)

    def codes(self, rows: pd.DataFrame) -> Labels:
        """(n,) label numbers."""
        return np.asarray(pd.Categorical(rows["intent"], categories=list(self.labels)).codes, np.int64)

    def weights(self, rows: pd.DataFrame) -> Floats:
        """(n,) row weights: the origin's, then balanced over labels."""
        own = np.where(rows["origin"].str.startswith(PUBLIC), self.config.public_weight, 1.0).astype(np.float32)
        return row_weights(self.codes(rows), own)

    def timed(self, name: str, begun: float) -> None:
        """Note the CPU seconds since `begun`."""
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.process_time() - begun, 1)
        log.info("intent.done", part=name, cpu_seconds=self.seconds[name])


def train(config: IntentConfig, messages: Messages, until: datetime, checkpoints: Path) -> IntentRun:
    """Train, export and calibrate every candidate.

    Args:
        config: the recipe.
        messages: to learn from and to judge by; `test` is not looked at.
        until: nothing at or after it was seen.
        checkpoints: folder of the fine-tuning; a run that was killed goes on from what it left there.

    Raises:
        BadConfig: neither words nor the encoder.
    """
    if config.encoder is Encoder.NONE and not config.words:
        raise BadConfig("found encoder none and words false, which leaves no model; switch one of them on")
    work = _Work(config, messages, until)
    begun = time.process_time()
    words = _words(work) if config.words else None
    work.timed(WORDS, begun)
    candidates = [_candidate(work, WORDS, words)] if words else []
    if config.encoder is Encoder.NONE:
        return IntentRun(tuple(candidates), [], work.exports, work.seconds, _no_doubts(messages.train))
    return _with_encoder(work, words, candidates, checkpoints)


def _words(work: _Work) -> _Part:
    rows = work.messages.train
    fitted = fit_words(
        rows["text"].tolist(), work.codes(rows), work.weights(rows), regularisation=work.config.regularisation
    )
    return _Part(fitted, logits_of(fitted, work.messages.validation["text"].tolist()))


def _no_doubts(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.iloc[:0].assign(likelier="", margin=0.0)


def _with_encoder(work: _Work, words: _Part | None, candidates: list[Candidate], checkpoints: Path) -> IntentRun:
    from training import intent_encoder as encoders
    from training.base_models import load_base

    config, train_rows = work.config, work.messages.train
    begun = time.process_time()
    bert, tokenizer = load_base(config.base_model)
    model = encoders.Classifier(bert, len(work.labels), token_dropout=config.token_dropout)
    ids = encoders.encoded(tokenizer, train_rows["text"].tolist(), config.max_length)
    features = encoders.features_of(model, tokenizer, ids)
    model.set_head(
        *fit_head(features, work.codes(train_rows), work.weights(train_rows), regularisation=config.head_regularisation)
    )
    frozen = _exported(work, FROZEN, model, tokenizer, ids)
    work.timed(FROZEN, begun)
    candidates += _with(work, FROZEN, words, frozen)
    if config.encoder is Encoder.FROZEN:
        return IntentRun(tuple(candidates), [], work.exports, work.seconds, _no_doubts(train_rows))
    begun = time.process_time()
    doubts = suspicious(work, features) if words else _no_doubts(train_rows)
    work.timed("doubts", begun)
    begun = time.process_time()
    curve = _fine_tune(work, model, tokenizer, checkpoints)
    tuned = _exported(work, FINE_TUNED, model, tokenizer, ids)
    work.timed(FINE_TUNED, begun)
    candidates += _with(work, FINE_TUNED, words, tuned)
    return IntentRun(tuple(candidates), curve, work.exports, work.seconds, doubts)


def _with(work: _Work, name: str, words: _Part | None, encoder: _Part) -> list[Candidate]:
    """The encoder by itself, and with the words beside it where there are some."""
    alone = _candidate(work, name, encoder)
    return [alone, _candidate(work, f"{name} + {WORDS}", words, encoder)] if words else [alone]


def _fine_tune(work: _Work, model: Any, tokenizer: Any, checkpoints: Path) -> list[dict[str, float]]:
    from training import intent_encoder as encoders

    def read(rows: pd.DataFrame, weights: Floats) -> tuple[list[list[int]], Labels, Floats]:
        ids = encoders.encoded(tokenizer, rows["text"].tolist(), work.config.max_length)
        return ids, work.codes(rows), weights

    rows = work.messages.train
    if work.config.romanise:
        hindi = rows[rows["language"] == "hi"]
        rows = pd.concat(
            [rows, hindi.assign(text=hindi["text"].map(romanised), language="hinglish")], ignore_index=True
        )
    held = work.messages.validation
    return encoders.fine_tune(
        model,
        tokenizer,
        work.config,
        train=read(rows, work.weights(rows)),
        validation=read(held, np.ones(len(held), np.float32)),
        checkpoints=checkpoints,
    )


def _exported(work: _Work, name: str, model: Any, tokenizer: Any, ids: Sequence[list[int]]) -> _Part:
    from training import intent_encoder as encoders
    from training.intent_export import export

    texts = work.messages.validation["text"].tolist()
    held = encoders.encoded(tokenizer, texts, work.config.max_length)
    made = export(
        model,
        tokenizer,
        logits=lambda encoder: logits_of(encoder, texts),
        trained=encoders.logits_of(model, tokenizer, held),
        truth=work.truth,
        typical=ids,
    )
    work.exports[name] = made.tried
    log.info("intent.exported", encoder=name, variant=made.variant, tried=made.tried)
    return _Part(made.encoder, made.logits)


def logits_of(part: EncoderModel | WordsModel, texts: Sequence[str]) -> Floats:
    """(n, labels) float32, one message at a time, as they are served."""
    return np.stack([part.logits(text) for text in texts])


def _candidate(work: _Work, name: str, *parts: _Part) -> Candidate:
    found = calibrate([each.logits for each in parts], work.truth, work.labels)
    words = next((each.model for each in parts if isinstance(each.model, WordsModel)), None)
    encoder = next((each.model for each in parts if isinstance(each.model, EncoderModel)), None)
    meta = {
        "kind": IntentModel.kind,
        "method": name,
        "labels": list(work.labels),
        "words_weight": found.weights[0] if words else 0.0,
        "encoder_weight": found.weights[-1] if encoder else 0.0,
        "temperature": found.temperature,
        "threshold": found.threshold,
        "fit_until": work.until.isoformat(),
        "messages": work.messages.digest(),
        "config": work.config.model_dump(),
    }
    if words and encoder:
        meta |= _when_words_are_enough(work, parts[0].logits, found.threshold)
    model = IntentModel(meta, words, encoder)
    said, _ = model.decided(model.probabilities([each.logits for each in parts]))
    return Candidate(name, model, said == work.truth)


def _when_words_are_enough(work: _Work, logits: Floats, threshold: float) -> dict[str, float]:
    alone = calibrate([logits], work.truth, work.labels)
    found = alone.probabilities([logits])
    said, _ = decide(found, work.labels, threshold)  # as it is served
    return {
        "words_temperature": alone.temperature,
        "words_sure": sure_above(found.max(axis=1), said == work.truth),
    }


def suspicious(work: _Work, features: Floats) -> pd.DataFrame:
    """Training rows whose label the linear models do not believe: text, intent, language, origin, likelier, margin.

    Confident learning (Northcutt et al., JAIR 2021): of models fitted on the other folds, a label is doubted when its
    own probability is below, and another's above, the average that rows labelled so get.
    """
    rows = work.messages.train
    labels, weights = work.codes(rows), work.weights(rows)
    texts = rows["text"].tolist()
    order = np.random.default_rng(work.config.seed).permutation(len(rows))
    order = order[np.argsort(labels[order], kind="stable")]  # a label is dealt out to the folds
    fold = np.empty(len(rows), np.int64)
    fold[order] = np.arange(len(rows)) % _FOLDS
    found = np.zeros((len(rows), len(work.labels)), np.float64)
    for each in range(_FOLDS):
        inside, out = np.flatnonzero(fold != each), np.flatnonzero(fold == each)
        head, bias = fit_head(
            features[inside], labels[inside], weights[inside], regularisation=work.config.head_regularisation
        )
        words = fit_words(
            [texts[i] for i in inside], labels[inside], weights[inside], regularisation=work.config.regularisation
        )
        found[out] = softmax(features[out] @ head + bias) + softmax(logits_of(words, [texts[i] for i in out]))
    found /= 2
    usual = np.array([found[labels == each, each].mean() for each in range(len(work.labels))])
    own = found[np.arange(len(rows)), labels]
    rival = np.where(found >= usual, found, -1.0)
    rival[np.arange(len(rows)), labels] = -1.0
    likelier = rival.argmax(axis=1)
    doubted = (own < usual[labels]) & (rival.max(axis=1) > 0)
    listed: pd.DataFrame = rows.assign(likelier=[work.labels[i] for i in likelier], margin=rival.max(axis=1) - own)[
        doubted
    ]
    return listed.sort_values("margin", ascending=False, kind="stable", ignore_index=True)
