"""What a shopper wants, from one message: a linear model over pieces of words, an encoder with a head, or both.

One artefact, one file: arrays, ONNX and tokenizer are plain data inside it, so no encoder can meet another's labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from data_contracts.errors import ArtefactRefused
from feature_repo.message_text import message_features, tidy
from serving.runtime import npz
from serving.runtime.encoder import Encoder

Floats = NDArray[np.float32]
OUT_OF_SCOPE: Final = "out_of_scope"
"""The label of a message that no shop's assistant answers."""


@dataclass(frozen=True, slots=True)
class IntentAnswer:
    """One message, understood."""

    intent: str
    confidence: float
    """Calibrated, in [0, 1]: of messages answered with .8, eight in ten are right."""
    probabilities: Mapping[str, float]
    """Of every label, highest first."""


@dataclass(frozen=True, slots=True)
class WordsModel:
    """Logistic regression over TF-IDF of `message_features`.

    Attributes:
        vocabulary: piece -> row of weights.
        idf: (pieces,) float32.
        weights: (pieces, labels) float32.
        bias: (labels,) float32.
    """

    vocabulary: Mapping[str, int]
    idf: Floats
    weights: Floats
    bias: Floats

    def logits(self, message: str) -> Floats:
        """(labels,) float32; the bias alone when no piece is known."""
        known: Counter[int] = Counter()
        for piece in message_features(message):
            row = self.vocabulary.get(piece)
            if row is not None:
                known[row] += 1
        if not known:
            return self.bias
        rows = np.fromiter(known.keys(), np.int64, len(known))
        values = (1.0 + np.log(np.fromiter(known.values(), np.float32, len(known)))) * self.idf[rows]
        values /= np.linalg.norm(values)
        return np.asarray(values @ self.weights[rows] + self.bias, np.float32)


@dataclass(frozen=True, slots=True)
class EncoderModel:
    """A transformer with its head: ONNX from (1, s) ids and mask to (1, labels) logits."""

    model: bytes
    tokenizer: bytes
    encoder: Encoder

    @classmethod
    def of(cls, model: bytes, tokenizer: bytes) -> Self:
        """The encoder of its two files, on one thread.

        Raises:
            ArtefactRefused: one of them does not parse.
        """
        try:
            return cls(model, tokenizer, Encoder.of(model, tokenizer.decode()))
        except Exception as problem:
            # Neither library's errors share a base class that it exports.
            raise ArtefactRefused(
                f"found an intent encoder that does not parse ({problem}); train it again"
            ) from problem

    def logits(self, message: str) -> Floats:
        """(labels,) float32."""
        return np.asarray(self.encoder.encode([tidy(message)])[0], np.float32)


@dataclass(frozen=True, slots=True)
class IntentModel:
    """The intent model of one release; thread-safe.

    meta: kind, labels, temperature, threshold, words_weight, encoder_weight, fit_until, method, and how it was made.
    With words and encoder, also words_temperature and words_sure: the encoder, which is nearly all of the time, is not
    asked about a message of which the words alone are surer than that.
    """

    kind: ClassVar[str] = "intent"
    meta: Mapping[str, Any]
    words: WordsModel | None = None
    encoder: EncoderModel | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Every intent, in the order of the logits."""
        return tuple(self.meta["labels"])

    @property
    def parts(self) -> tuple[tuple[np.float32, WordsModel | EncoderModel], ...]:
        """Weight and model of each part there is."""
        named = (("words_weight", self.words), ("encoder_weight", self.encoder))
        return tuple((np.float32(self.meta[weight]), part) for weight, part in named if part is not None)

    def probabilities(self, logits: Sequence[Floats]) -> Floats:
        """(n, labels) float32 of each part's (n, labels) logits, calibrated; rows add up to 1.

        Of the words alone where they are sure by themselves, else of all parts together.
        """
        together = self._together(logits)
        if len(self.parts) == 1:
            return together
        alone, sure = self._words_alone(logits[0])
        return np.where(sure[:, None], alone, together)

    def _together(self, logits: Sequence[Floats]) -> Floats:
        total = sum(weight * found for (weight, _), found in zip(self.parts, logits, strict=True))
        return softmax(np.asarray(total, np.float32) / np.float32(self.meta["temperature"]))

    def _words_alone(self, logits: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """(n, labels) probabilities by the words' (n, labels) logits, and (n,) whether that is enough.

        Artefacts of earlier versions know no bound: there it never is.
        """
        found = softmax(logits / np.float32(self.meta.get("words_temperature", 1.0)))
        return found, found.max(axis=1) > self.meta.get("words_sure", 1.0)

    def decided(self, probabilities: Floats) -> tuple[NDArray[np.int64], Floats]:
        """(n,) label of each row and (n,) confidence, as `decide` says."""
        return decide(probabilities, self.labels, float(self.meta["threshold"]))

    def answer(self, message: str) -> IntentAnswer:
        """The intent of one message."""
        each = self._read(message)
        found = each[0]
        at, confidence = self.decided(each)
        order = np.argsort(-found, kind="stable")
        said = {self.labels[i]: float(found[i]) for i in order}
        return IntentAnswer(self.labels[int(at[0])], float(confidence[0]), said)

    def _read(self, message: str) -> Floats:
        """(1, labels) `probabilities` of one message."""
        first, *others = (part for _, part in self.parts)
        logits = [first.logits(message)[None]]
        if others:
            alone, sure = self._words_alone(logits[0])
            if sure[0]:
                return alone
        return self._together([*logits, *(part.logits(message)[None] for part in others)])

    def save(self, path: Path) -> Path:
        """Writes the one file of this artefact."""
        arrays: dict[str, NDArray[Any]] = {}
        if self.words is not None:
            pieces = sorted(self.words.vocabulary, key=self.words.vocabulary.__getitem__)
            arrays |= {"pieces": npz.pack_text(pieces), "idf": self.words.idf, "weights": self.words.weights,
                       "bias": self.words.bias}  # fmt: skip
        if self.encoder is not None:
            arrays |= {
                "model": np.frombuffer(self.encoder.model, np.uint8),
                "tokenizer": np.frombuffer(self.encoder.tokenizer, np.uint8),
            }
        return npz.write(path, arrays, {**self.meta, "kind": self.kind}, compressed=False)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The model of one file, whose hash the caller has verified.

        Raises:
            ArtefactRefused: it is no intent model, or lacks a part.
        """
        arrays, meta = npz.read(path, cls.kind)
        if meta.get("prefix"):
            raise ArtefactRefused(
                f"found an intent model in {path.name} that reads {meta['prefix']!r} before a text, as earlier "
                "versions made them; run train_intent again"
            )
        words = encoder = None
        if "idf" in arrays:
            pieces = npz.unpack_text(arrays["pieces"], arrays["idf"].size)
            vocabulary = {piece: row for row, piece in enumerate(pieces)}
            words = WordsModel(vocabulary, arrays["idf"], arrays["weights"], arrays["bias"])
        if "model" in arrays:
            encoder = EncoderModel.of(arrays["model"].tobytes(), arrays["tokenizer"].tobytes())
        if words is None and encoder is None:
            raise ArtefactRefused(f"found an intent model without words and encoder in {path.name}; train it again")
        return cls(meta, words, encoder)


def softmax(logits: NDArray[Any]) -> Floats:
    """(n, labels) float32 probabilities of (n, labels) logits."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), np.float32)


def decide(probabilities: Floats, labels: Sequence[str], threshold: float) -> tuple[NDArray[np.int64], Floats]:
    """(n,) label of each row and (n,) confidence.

    Out of scope where that label is the most probable, or where no other reaches `threshold`; its confidence is what
    the best label in scope leaves over. Without that label the most probable one is taken.
    """
    if OUT_OF_SCOPE not in labels:
        return probabilities.argmax(axis=1), probabilities.max(axis=1)
    out = labels.index(OUT_OF_SCOPE)
    inside = probabilities.copy()
    inside[:, out] = -1.0
    best, sure = inside.argmax(axis=1), inside.max(axis=1)
    refused = (probabilities[:, out] >= sure) | (sure < threshold)
    return np.where(refused, out, best), np.where(refused, 1.0 - sure, sure).astype(np.float32)
