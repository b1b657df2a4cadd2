"""Encoders as ONNX for a CPU: attention in one node, matrices in int8 whose inputs are evened out first."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from training.base_models import quiet_transformers

SMOOTHING: Final = 0.7
"""How much of the spread between channels moves from activations into weights (alpha of SmoothQuant, Xiao et al., ICML
2023); of .5, .7, .85 and 1 it lost the least on multilingual e5."""
TYPICAL: Final = 128
"""Texts, about, whose insides int8 is fitted to."""
_BIG: Final = 1_000_000
"""Weights from which on a table of vectors is kept as int8 rows."""

Feed = Mapping[str, NDArray[np.int64]]


def export(module: Any, bert: Any, example: Sequence[int], path: Path, *, output: str) -> Path:
    """`path`: (b, s) int64 ids and mask -> (b, d) float32 `output`, both sizes free.

    Args:
        module: what is exported; it calls `bert` with ids and mask.
        bert: the transformer in it.
        example: ids of one text, to trace with.
        path: the file to write.
        output: name of the result.
    """
    import torch

    ids = torch.tensor([list(example), list(example)])
    attention = bert.config._attn_implementation  # noqa: SLF001 - transformers has a setter only
    bert.set_attn_implementation("eager")  # the form that the fusion below knows
    try:
        with quiet_transformers():
            torch.onnx.export(
                module.eval(),
                (ids, torch.ones_like(ids)),
                str(path),
                input_names=["input_ids", "attention_mask"],
                output_names=[output],
                dynamic_axes={
                    "input_ids": {0: "batch", 1: "tokens"},
                    "attention_mask": {0: "batch", 1: "tokens"},
                    output: {0: "batch"},
                },
                dynamo=False,
            )
    finally:
        bert.set_attn_implementation(attention)
    _fuse(path, bert.config.num_attention_heads, bert.config.hidden_size)
    return path


def _fuse(path: Path, heads: int, hidden: int) -> None:
    """Attention, GELU and layer norms as one node each; tables of vectors are not carried through each step of it."""
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    options = FusionOptions("bert")
    options.enable_embed_layer_norm = False  # keeps the word vectors a table that int8 rows can replace
    model = onnx.load(str(path))
    constants = [each for each in model.graph.node if each.op_type == "Constant" and each.attribute[0].HasField("t")]
    for each in constants:
        each.attribute[0].t.name = each.output[0]
    held = {each.output[0] for each in constants}
    _replace(
        model.graph,
        [each for each in model.graph.node if each.output[0] not in held],
        [*model.graph.initializer, *(each.attribute[0].t for each in constants)],
    )
    tables = {name: numpy_helper.to_array(each) for name, each in _tables(model.graph).items()}
    for each in model.graph.initializer:
        if each.name in tables:
            each.CopyFrom(numpy_helper.from_array(tables[each.name][:2], each.name))
    onnx.save(model, str(path))
    with _quiet():
        fused = optimize_model(
            str(path), "bert", num_heads=heads, hidden_size=hidden, optimization_options=options, opt_level=0
        ).model
    for each in fused.graph.initializer:
        if each.name in tables:
            each.CopyFrom(numpy_helper.from_array(tables[each.name], each.name))
    fused.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(fused, str(path))


def _tables(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Name -> big table that vectors are looked up in."""
    looked_up = {each.input[0] for each in graph.node if each.op_type == "Gather"}
    return {
        each.name: each
        for each in graph.initializer
        if each.name in looked_up and len(each.dims) > 1 and np.prod(each.dims) > _BIG
    }


def with_int8_rows(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with every big table of vectors as int8 rows and a scale for each: a quarter of its size.

    A row is looked up, then scaled; the largest weight of a row is off by at most 1/254 of itself.
    """
    graph = model.graph
    big = _tables(graph)
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
        else:
            made.append(node)
    kept = [each for each in graph.initializer if each.name not in big]
    for name in sorted(big):
        weights = numpy_helper.to_array(big[name])
        scale = np.maximum(np.abs(weights).max(axis=1, keepdims=True), 1e-12).astype(np.float32) / 127
        kept += [numpy_helper.from_array(np.rint(weights / scale).astype(np.int8), f"{name}_int8"),
                 numpy_helper.from_array(scale, f"{name}_scale")]  # fmt: skip
    _replace(graph, made, kept)
    return model


def int8(source: Path, target: Path, texts: Sequence[Sequence[int]]) -> Path:
    """`target`: the encoder `source` with int8 matrices, a scale per column; activations are scaled as they come.

    Before that the channels of every matrix's input are evened out by TYPICAL of `texts`, each the ids of one: a
    few channels of e5 and MiniLM are twenty times the others, and one int8 range for all of them loses the others.
    A head over the means of tokens (Gemm) stays float32: it is small, and reads differences that int8 would round away.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    some = texts[:: max(1, len(texts) // TYPICAL)]
    feeds = [{"input_ids": np.array([ids], np.int64), "attention_mask": np.ones((1, len(ids)), np.int64)}
             for ids in some]  # fmt: skip
    smooth = target.with_suffix(".smooth.onnx")
    model = _smoothed(onnx.load(str(source)), feeds)
    # The quantiser turns a Gemm into a MatMul of this name before it looks at op types.
    heads = [f"{each.name}_MatMul" for each in model.graph.node if each.op_type == "Gemm"]
    onnx.save(model, str(smooth))
    with _quiet():
        quantize_dynamic(
            str(smooth),
            str(target),
            op_types_to_quantize=["MatMul", "Attention"],
            nodes_to_exclude=heads,
            per_channel=True,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True, "DefaultTensorType": TensorProto.FLOAT},
        )
    smooth.unlink()
    return target


def _smoothed(model: onnx.ModelProto, feeds: Sequence[Feed]) -> onnx.ModelProto:
    """The same function: the input of each matrix divided, and its rows multiplied, by a factor per channel."""
    graph = model.graph
    weights = {each.name: each for each in graph.initializer}
    nodes = [
        each
        for each in graph.node
        if each.op_type in {"MatMul", "Attention"} and each.input[1] in weights and weights[each.input[1]].dims
    ]
    reach = _reach(model, sorted({each.input[0] for each in nodes}), feeds)
    made, factors = [], []
    wanted = {id(each) for each in nodes}
    for node in graph.node:
        if id(node) in wanted:
            taken, name = node.input[0], node.input[1]
            matrix = numpy_helper.to_array(weights[name])
            largest = np.maximum(np.abs(matrix).max(axis=1), 1e-5)
            factor = np.maximum(reach[taken], 1e-5) ** SMOOTHING / largest ** (1 - SMOOTHING)
            weights[name].CopyFrom(numpy_helper.from_array((matrix * factor[:, None]).astype(np.float32), name))
            factors.append(numpy_helper.from_array((1 / factor).astype(np.float32), f"{name}_even"))
            made.append(helper.make_node("Mul", [taken, f"{name}_even"], [f"{name}_evened"]))
            node.input[0] = f"{name}_evened"
        made.append(node)
    _replace(graph, made, [*graph.initializer, *factors])
    return model


def _reach(model: onnx.ModelProto, names: Sequence[str], feeds: Sequence[Feed]) -> dict[str, NDArray[np.float32]]:
    """Name of a tensor -> (channels,) its largest absolute value over `feeds`."""
    import onnxruntime as ort

    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(helper.make_tensor_value_info(each, TensorProto.FLOAT, None) for each in names)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: dict[str, NDArray[np.float32]] = {}
    for feed in feeds:
        for name, value in zip(names, session.run(list(names), dict(feed)), strict=True):
            largest = np.abs(value).reshape(-1, value.shape[-1]).max(axis=0)
            found[name] = np.maximum(found[name], largest) if name in found else largest
    return found


def _replace(graph: onnx.GraphProto, nodes: Sequence[Any], initializers: Sequence[Any]) -> None:
    nodes, initializers = list(nodes), list(initializers)
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.initializer[:]
    graph.initializer.extend(initializers)


@contextmanager
def _quiet() -> Iterator[None]:
    """Time in which ONNX Runtime's tools, which write advice to the root logger, say nothing below an error."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
