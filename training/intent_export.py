"""The encoder as it is served: ONNX, its word vectors as int8 rows, its matrices int8 where that costs little."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray

from serving.runtime.intent import EncoderModel
from training import onnx_encoder

LOSS_LIMIT: Final = 0.005
"""Accuracy on validation that int8 may cost."""
VARIANTS: Final = ("int8", "int8 word vectors", "float32")
"""What is tried, the smallest first."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Exported:
    """The variant that ships, and what each variant that was tried scored."""

    encoder: EncoderModel
    logits: Floats
    """(n, labels) of the validation messages."""
    variant: str
    tried: dict[str, float]
    """Variant -> accuracy on validation, one message at a time, by ONNX Runtime; `trained`: of the model itself."""


def export(  # noqa: PLR0913 - named
    model: Any,
    tokenizer: Any,
    *,
    logits: Callable[[EncoderModel], Floats],
    trained: Floats,
    truth: NDArray[np.int64],
    typical: Sequence[list[int]],
) -> Exported:
    """The smallest variant whose accuracy is at most LOSS_LIMIT below that of the trained model.

    Args:
        model: `Classifier`, trained.
        tokenizer: its fast tokenizer.
        logits: (n, labels) of the validation messages by an exported encoder.
        trained: (n, labels) of the same by `model` itself.
        truth: (n,) their labels.
        typical: ids of training messages; int8 is fitted to what they look like inside.
    """
    tokens = tokenizer.backend_tokenizer.to_str().encode()
    tried: dict[str, float] = {"trained": _accuracy(trained, truth)}
    with tempfile.TemporaryDirectory(prefix="mercato-") as scratch:
        folder = Path(scratch)
        plain = onnx_encoder.export(model, model.bert, typical[0], folder / "float32.onnx", output="logits")
        rows = folder / "rows.onnx"
        onnx.save(onnx_encoder.with_int8_rows(onnx.load(str(plain))), str(rows))
        for name in VARIANTS:
            path = {"int8 word vectors": rows, "float32": plain}.get(name)
            path = path or onnx_encoder.int8(rows, folder / "int8.onnx", typical)
            encoder = EncoderModel.of(path.read_bytes(), tokens)
            found = logits(encoder)
            tried[name] = _accuracy(found, truth)
            if tried[name] >= tried["trained"] - LOSS_LIMIT:
                break
    return Exported(encoder, found, name, tried)


def _accuracy(logits: Floats, truth: NDArray[np.int64]) -> float:
    return round(float((logits.argmax(axis=1) == truth).mean()), 4)
