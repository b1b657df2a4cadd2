"""Boosted trees as ONNX: LightGBM trains them, ONNX Runtime scores them.

Serving then needs neither LightGBM nor the parser of its text files, and scores the same rows in less time.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import lightgbm as lgb
import numpy as np
from onnx import TensorProto, helper

from serving.runtime.ranker import INPUT, META
from training.errors import BadConfig

_ML: Final = "ai.onnx.ml"
_OPSETS: Final = ((_ML, 3), ("", 17))
_IR: Final = 8
"""Versions that ONNX Runtime has read for years."""


def to_onnx(boosters: Sequence[lgb.Booster], meta: Mapping[str, Any]) -> bytes:
    """The boosters' mean as an ONNX model, (n, f) float32 -> (n, 1) float32, with `meta` as JSON in its properties.

    Scores are those of the boosters on float32 features, but for float32 sums: about 1e-6.

    Raises:
        BadConfig: a split is on categories, or treats zeros as missing.
    """
    each = [f"scores_{at}" for at in range(len(boosters))]
    nodes = [_ensemble(booster, name) for booster, name in zip(boosters, each, strict=True)]
    nodes.append(helper.make_node("Mean", each, ["scores"]))
    f = boosters[0].num_feature()
    graph = helper.make_graph(
        nodes,
        "ranker",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [None, f])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, 1])],
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in _OPSETS]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR)
    helper.set_model_props(model, {META: json.dumps(meta, sort_keys=True, separators=(",", ":"))})
    return bytes(model.SerializeToString(deterministic=True))


def _ensemble(booster: lgb.Booster, output: str) -> Any:
    """One booster as one node: a single node over all their trees takes twice the time."""
    nodes: dict[str, list[Any]] = defaultdict(list)
    for tree in booster.dump_model()["tree_info"]:
        _add(nodes, tree["tree_index"], tree["tree_structure"], [0])
    return helper.make_node("TreeEnsembleRegressor", [INPUT], [output], domain=_ML, n_targets=1, **nodes)


def _add(nodes: dict[str, list[Any]], tree: int, found: Mapping[str, Any], taken: list[int]) -> int:
    """Appends one node and all below it; returns its number in the tree."""
    number = taken[0]
    taken[0] += 1
    at = len(nodes["nodes_nodeids"])
    leaf = "leaf_value" in found
    own = {
        "treeids": tree,
        "nodeids": number,
        "modes": "LEAF" if leaf else "BRANCH_LEQ",
        "featureids": 0 if leaf else found["split_feature"],
        "values": 0.0 if leaf else _threshold(found["threshold"]),
        "missing_value_tracks_true": 0 if leaf else int(_missing_goes_left(found)),
        "truenodeids": 0,
        "falsenodeids": 0,
    }
    for name, value in own.items():
        nodes[f"nodes_{name}"].append(value)
    if leaf:
        target = {"treeids": tree, "nodeids": number, "ids": 0, "weights": found["leaf_value"]}
        for name, value in target.items():
            nodes[f"target_{name}"].append(value)
    else:
        nodes["nodes_truenodeids"][at] = _add(nodes, tree, found["left_child"], taken)
        nodes["nodes_falsenodeids"][at] = _add(nodes, tree, found["right_child"], taken)
    return number


def _threshold(value: float) -> float:
    """The greatest float32 not above `value`: float32 features fall on the same side of both."""
    limit = float(np.finfo(np.float32).max)
    value = min(max(value, -limit), limit)
    near = np.float32(value)
    return float(near if float(near) <= value else np.nextafter(near, np.float32(-np.inf)))


def _missing_goes_left(split: Mapping[str, Any]) -> bool:
    """Where LightGBM sends NaN: the learned side, or that of zero where training saw no NaN."""
    if split["decision_type"] != "<=" or split["missing_type"] not in ("NaN", "None"):
        raise BadConfig(
            f"found a split {split['decision_type']} with missing type {split['missing_type']}, needed <= with NaN or "
            "None: train on numbers, with zero_as_missing off"
        )
    return bool(split["default_left"]) if split["missing_type"] == "NaN" else split["threshold"] >= 0.0
