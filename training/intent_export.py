"""The encoder as it is served: ONNX, its word vectors as int8 rows, its matrices int8 where that costs little."""

import logging
import re
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from serving.runtime.intent import EncoderModel

LOSS_LIMIT: Final = 0.005
"""Accuracy on validation that int8 may cost."""
_BIG: Final = 1_000_000
"""Weights from which on a table of vectors is kept as int8 rows."""


@dataclass(frozen=True, slots=True)
class Exported:
    """The variant that ships, and what each variant that was tried scored."""

    encoder: EncoderModel
    variant: str
    tried: dict[str, float]
    """Variant -> accuracy on validation, one message at a time, by ONNX Runtime."""


def export(
    model: torch.nn.Module,
    tokenizer: Any,
    prefix: str,
    *,
    accuracy: Callable[[EncoderModel], float],
    example: list[int],
) -> Exported:
    """The smallest variant whose accuracy is at most LOSS_LIMIT below float32's.

    Args:
        model: `Classifier`, trained.
        tokenizer: its fast tokenizer.
        prefix: of every text.
        accuracy: of an exported encoder on validation.
        example: ids of one message, to trace the model with.
    """
    tokens = tokenizer.backend_tokenizer.to_str().encode()
    tried: dict[str, float] = {}

    def scored(name: str, data: bytes) -> EncoderModel:
        encoder = EncoderModel.of(data, tokens, prefix)
        tried[name] = round(accuracy(encoder), 4)
        return encoder

    with tempfile.TemporaryDirectory(prefix="mercato-") as scratch:
        plain = Path(scratch) / "float32.onnx"
        to_onnx(model.eval(), example, plain)
        whole = scored("float32", plain.read_bytes())
        rows = Path(scratch) / "rows.onnx"
        onnx.save(with_int8_rows(onnx.load(str(plain))), str(rows))
        for name, spared in _VARIANTS.items():
            target = rows if spared is None else quantised(rows, Path(scratch) / "variant.onnx", spared)
            encoder = scored(name, target.read_bytes())
            if tried[name] >= tried["float32"] - LOSS_LIMIT:
                return Exported(encoder, name, tried)
    return Exported(whole, "float32", tried)


def to_onnx(model: torch.nn.Module, example: list[int], path: Path) -> None:
    """(b, s) int64 ids and mask -> (b, labels) float32 logits, both sizes free."""
    ids = torch.tensor([example, example])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (ids, torch.ones_like(ids)),
            str(path),
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamic_axes={
                "input_ids": {0: "batch", 1: "tokens"},
                "attention_mask": {0: "batch", 1: "tokens"},
                "logits": {0: "batch"},
            },
            dynamo=False,
        )


def with_int8_rows(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with every big table of vectors as int8 rows and a scale for each: a quarter of its size.

    A row is looked up, then scaled; the largest weight of a row is off by at most 1/254 of itself.
    """
    graph = model.graph
    tables = {each.name: each for each in graph.initializer}
    tables |= {each.output[0]: each.attribute[0].t for each in graph.node if each.op_type == "Constant"}
    looked_up = {each.input[0] for each in graph.node if each.op_type == "Gather"}
    big = {
        name for name in looked_up & tables.keys() if len(tables[name].dims) > 1 and np.prod(tables[name].dims) > _BIG
    }
    made = []
    for node in graph.node:
        if node.op_type == "Gather" and node.input[0] in big:
            name, out = node.input[0], node.output[0]
            made += [
                helper.make_node("Gather", [f"{name}_int8", node.input[1]], [f"{out}_int8"], axis=0),
                helper.make_node("Cast", [f"{out}_int8"], [f"{out}_float"], to=TensorProto.FLOAT),
                helper.make_node("Gather", [f"{name}_scale", node.input[1]], [f"{out}_scale"], axis=0),
                helper.make_node("Mul", [f"{out}_float", f"{out}_scale"], [out]),
            ]
        elif not big & set(node.output):
            made.append(node)
    kept = [each for each in graph.initializer if each.name not in big]
    for name in sorted(big):
        weights = numpy_helper.to_array(tables[name])
        scale = np.maximum(np.abs(weights).max(axis=1, keepdims=True), 1e-12).astype(np.float32) / 127
        kept += [numpy_helper.from_array(np.rint(weights / scale).astype(np.int8), f"{name}_int8"),
                 numpy_helper.from_array(scale, f"{name}_scale")]  # fmt: skip
    del graph.initializer[:]
    graph.initializer.extend(kept)
    del graph.node[:]
    graph.node.extend(made)
    return model


def quantised(source: Path, target: Path, spared: str) -> Path:
    """`target`: matrices of `source` as int8, a scale for each column; those of nodes named like `spared` float32."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    nodes = onnx.load(str(source), load_external_data=False).graph.node
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # the quantizer writes advice to the root logger
    try:
        quantize_dynamic(
            str(source),
            str(target),
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[each.name for each in nodes if spared and re.search(spared, each.name)],
            extra_options={"MatMulConstBOnly": True},
        )
    finally:
        logging.disable(before)
    return target


_VARIANTS: Final[dict[str, str | None]] = {
    "int8": "",
    "int8 but feed-forward outputs": r"layer\.\d+/output/dense",
    "int8 word vectors": None,
}
"""Name -> the matrices that stay float32 (None: all), from the smallest on.

What goes out of a feed-forward block has a few huge activations, which take the range of a whole int8 tensor.
"""
