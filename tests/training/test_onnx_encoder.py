"""An exported encoder says what the trained one says, and its int8 form stays near it when some channels are huge."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from serving.runtime.encoder import Encoder
from tests.training.tiny_bert import write_tiny_bert
from training import onnx_encoder
from training.base_models import load_base
from training.embeddings import _pooled, quantise
from training.intent_encoder import Classifier

WORDS = [f"word{n}" for n in range(60)]
TEXTS = [" ".join(WORDS[at : at + 1 + at % 7]) for at in range(50)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """A tiny random BERT with one hidden channel that is a hundred times the others, as pretrained ones have."""
    torch.manual_seed(0)
    bert, tokenizer = load_base(str(write_tiny_bert(tmp_path_factory.mktemp("tiny") / "bert", WORDS)))
    with torch.no_grad():
        for layer in bert.encoder.layer:
            layer.intermediate.dense.bias[3] = 100.0
            layer.output.dense.weight[:, 3] *= 0.01
    return bert.eval(), tokenizer


@pytest.fixture(scope="module")
def exported(base: tuple[Any, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    bert, tokenizer = base
    folder = tmp_path_factory.mktemp("exported")
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    example = tokenizer(TEXTS[6])["input_ids"]
    model = onnx_encoder.export(_pooled(bert), bert, example, folder / "encoder.onnx", output="embedding")
    return model, folder / "tokenizer.json"


def test_fused_attention_says_the_same(base: tuple[Any, Any], exported: tuple[Path, Path]) -> None:
    """Texts of several lengths in one batch, padded: the vectors of the exported graph are torch's."""
    bert, tokenizer = base
    assert "Attention" in {each.op_type for each in onnx.load(str(exported[0])).graph.node}
    read = tokenizer(TEXTS[:9], padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = _pooled(bert)(read["input_ids"], read["attention_mask"]).numpy()
    np.testing.assert_allclose(Encoder.load(*exported).encode(TEXTS[:9]), expected, atol=1e-5)
    assert bert.config._attn_implementation == "sdpa", "training goes on with the fast form"


def test_a_huge_channel_does_not_cost_the_others(
    exported: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evened out first, int8 is off by less than a third of what it is without; files in between are gone."""
    whole = Encoder.load(*exported).encode(TEXTS)

    def error(name: str) -> float:
        model = quantise(*exported, tmp_path / name, TEXTS)
        return float(np.abs(Encoder.load(model, exported[1]).encode(TEXTS) - whole).mean())

    evened = error("evened.onnx")
    monkeypatch.setattr(onnx_encoder, "_smoothed", lambda model, _: model)
    assert evened < error("plain.onnx") / 3
    assert sorted(each.name for each in tmp_path.iterdir()) == ["evened.onnx", "plain.onnx"]


def test_tables_of_vectors_become_rows(exported: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The word vectors as int8 rows: nearly the same answers, and no float table is left."""
    monkeypatch.setattr(onnx_encoder, "_BIG", 100)
    small = onnx_encoder.with_int8_rows(onnx.load(str(exported[0])))
    tables = [each for each in small.graph.initializer if each.data_type == onnx.TensorProto.INT8]
    assert ["word" for each in tables if "word" in each.name]
    found = Encoder.of(small.SerializeToString(), exported[1].read_text()).encode(TEXTS)
    assert (found * Encoder.load(*exported).encode(TEXTS)).sum(axis=1).min() > 0.999


def test_a_head_is_not_rounded(base: tuple[Any, Any], tmp_path: Path) -> None:
    """The matrices of the transformer become int8; the head, whose rounding cost MiniLM a fifth of its answers, not."""
    bert, tokenizer = base
    model = Classifier(bert, 3)
    ids = [tokenizer(text)["input_ids"] for text in TEXTS]
    plain = onnx_encoder.export(model, bert, ids[6], tmp_path / "plain.onnx", output="logits")
    graph = onnx.load(str(onnx_encoder.int8(plain, tmp_path / "int8.onnx", ids))).graph
    rounded = [each.name for each in graph.initializer if each.name.endswith("_quantized")]
    assert any("MatMul" in each for each in rounded)
    assert not [each for each in rounded if "head" in each]
