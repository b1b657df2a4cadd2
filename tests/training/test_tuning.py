"""Fine-tuning on a tiny random BERT: it learns, goes on where it was killed, and exports what it trained."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from serving.runtime.encoder import Encoder
from tests.training.tiny_bert import write_tiny_bert
from training.embeddings import EncoderConfig, encode_texts, export_onnx, quantise
from training.errors import BadConfig, NotEnoughData
from training.tuning import TuningConfig, tune, usable

ASKED = ["diya", "kursi", "ketli", "chamach", "kaleen", "sheesha", "takiya", "almari"]
KINDS = ["lamp", "chair", "kettle", "spoon", "carpet", "mirror", "pillow", "shelf"]
COLOURS = ["red", "blue", "green", "black"]
PAIRS = pd.DataFrame(
    [
        {
            "anchor": f"{colour} {word}",
            "positive": f"{kind} in {colour}, home",
            "negative": f"{other} in {colour}, home",
        }
        for colour in COLOURS
        for word, kind, other in zip(ASKED, KINDS, KINDS[1:] + KINDS[:1], strict=True)
    ]
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("tiny") / "bert", [*ASKED, *KINDS, *COLOURS, "in", "home"])


@pytest.fixture
def config(base: Path) -> TuningConfig:
    return TuningConfig(base_model=str(base), batch_size=8, learning_rate=5e-3, epochs=4, threads=1, save_steps=6)


def encoder(model: Path | str, folder: Path) -> Encoder:
    folder.mkdir()
    return Encoder.load(*export_onnx(EncoderConfig(base_model=str(model)), folder))


def rank_of_positive(encoder: Encoder) -> float:
    """Mean place of the right text among all of them."""
    queries, texts = encoder.encode(PAIRS["anchor"].tolist()), encoder.encode(PAIRS["positive"].tolist())
    cosines = queries @ texts.T
    return float((cosines > np.diag(cosines)[:, None]).sum(axis=1).mean())


def test_tuning_brings_queries_nearer_to_what_answers_them(config: TuningConfig, tmp_path: Path) -> None:
    """16 steps (32 pairs, batch 8, 4 epochs) move the right text up, in the exported model."""
    done = tune(config, PAIRS, tmp_path / "run")
    assert done.steps == 16
    before = rank_of_positive(encoder(config.base_model, tmp_path / "before"))
    assert rank_of_positive(encoder(done.folder, tmp_path / "after")) < 0.7 * before


def test_a_killed_run_goes_on_and_ends_the_same(config: TuningConfig, tmp_path: Path) -> None:
    """The weights after a resumption from the checkpoint of step 12 are those of a run that was never killed.

    The checkpoint of step 14 was cut short and counts for nothing.
    """
    whole = tune(config, PAIRS, tmp_path / "whole")
    weights = (whole.folder / "model.safetensors").read_bytes()
    shutil.copytree(tmp_path / "whole" / "checkpoint-12", tmp_path / "killed" / "checkpoint-12")
    half = tmp_path / "killed" / "checkpoint-14"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    again = tune(config, PAIRS, tmp_path / "killed")
    assert again.steps == 16
    assert (again.folder / "model.safetensors").read_bytes() == weights


def test_the_time_limit_keeps_what_was_learned(config: TuningConfig, tmp_path: Path) -> None:
    """With no time at all the first step is the last, and its weights are there."""
    done = tune(config.model_copy(update={"max_minutes": 1e-9}), PAIRS, tmp_path)
    assert done.steps == 1
    assert (done.folder / "model.safetensors").exists()


def test_less_than_a_batch_is_refused(config: TuningConfig, tmp_path: Path) -> None:
    """In-batch negatives need a batch; the message says how many pairs there are."""
    with pytest.raises(NotEnoughData, match=r"found 7 training pairs, need one batch of 8"):
        tune(config, PAIRS.head(7), tmp_path)
    with pytest.raises(BadConfig, match="at least 2"):
        TuningConfig(batch_size=1)


def test_the_base_model_is_one_setting() -> None:
    """What is tuned is what is served untuned."""
    assert TuningConfig.model_fields["base_model"].default == EncoderConfig().base_model


def test_no_more_pairs_are_prepared_than_the_steps_can_read(config: TuningConfig) -> None:
    """Two steps of 8 read 16 of the 32 pairs, always the same; without a limit all are used."""
    some = config.model_copy(update={"max_steps": 2})
    drawn = usable(some, PAIRS)
    assert len(drawn) == 16
    assert drawn.equals(usable(some, PAIRS))
    assert usable(config, PAIRS) is PAIRS


def test_int8_is_close(base: Path, tmp_path: Path) -> None:
    """The int8 encoder takes the same inputs, its vectors have length 1 and point nearly the same way."""
    config = EncoderConfig(base_model=str(base))
    model, tokenizer = export_onnx(config, tmp_path)
    small = quantise(model, tokenizer, tmp_path / "int8.onnx", PAIRS["positive"].tolist())
    one, other = (encode_texts(config, each, tokenizer, PAIRS["positive"].tolist()) for each in (model, small))
    assert np.allclose(np.linalg.norm(other, axis=1), 1, atol=1e-5)
    assert (one * other).sum(axis=1).min() > 0.98
    assert not np.array_equal(one, other)


def test_a_vector_depends_on_its_text_alone(base: Path, tmp_path: Path) -> None:
    """Neighbours change no bit of it, of int8 neither; a vector that is known is not made again."""
    config, texts = EncoderConfig(base_model=str(base)), PAIRS["positive"].tolist()
    model, tokenizer = export_onnx(config, tmp_path)
    for each in (model, quantise(model, tokenizer, tmp_path / "int8.onnx", texts)):
        together = encode_texts(config, each, tokenizer, texts)
        assert np.array_equal(together[3:4], encode_texts(config, each, tokenizer, texts[3:4]))
        known = {texts[0]: -together[0]}
        assert np.array_equal(encode_texts(config, each, tokenizer, texts[:2], known), [-together[0], together[1]])
