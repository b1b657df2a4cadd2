"""Fine-tuning of the encoder by sentence-transformers: pairs and hard negatives in, a folder of weights out."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pandas as pd
import structlog
from pydantic import BaseModel, PositiveFloat, PositiveInt, model_validator

from training.base_models import base_model_folder, quiet_transformers
from training.checkpoints import newest_checkpoint
from training.embeddings import EncoderConfig
from training.errors import BadConfig, NotEnoughData

log = structlog.get_logger()


class TuningConfig(BaseModel, frozen=True, extra="forbid"):
    """What a tuned encoder depends on beside its pairs."""

    base_model: str = EncoderConfig().base_model
    """As in `EncoderConfig`, whose default it is."""
    batch_size: PositiveInt = 64
    """Pairs a step; each is the others' negative."""
    learning_rate: PositiveFloat = 2e-5
    """Peak, after a linear warm-up; it falls to zero."""
    warmup_share: PositiveFloat = 0.1
    """Share of the steps that warm up."""
    epochs: PositiveInt = 2
    """Passes over the pairs."""
    max_steps: PositiveInt | None = None
    """Steps at most; None: as many as the epochs have. One thread of a CPU does one in 4 seconds at 32 tokens."""
    max_minutes: PositiveFloat | None = None
    """Wall time of the steps at most, after which what was learned is kept; such a run is not repeatable. A killed run
    that goes on counts anew."""
    max_tokens: PositiveInt = 64
    """Tokens of a text that are read while training; product texts are shorter."""
    save_steps: PositiveInt = 50
    """Steps between checkpoints, from which a killed run goes on."""
    seed: int = 0
    """Of dropout and of the order of the pairs."""
    threads: PositiveInt = 2
    """CPU threads."""

    @model_validator(mode="after")
    def _needs_others(self) -> Self:
        if self.batch_size == 1:
            raise BadConfig("found batch_size 1, need at least 2: the other pairs of a batch are the negatives")
        return self


@dataclass(frozen=True, slots=True)
class Tuned:
    """What a fine-tuning left."""

    folder: Path
    """Weights and tokenizer, as a base model is laid out."""
    steps: int
    """Steps done in all, before a resumption too."""
    seconds: float
    """Wall time of this call's steps."""
    device: str
    """cuda (with bf16 where it can) or cpu."""


def tune(config: TuningConfig, pairs: pd.DataFrame, folder: Path) -> Tuned:
    """Fine-tune on `pairs`; goes on from the newest checkpoint in `folder`, if there is one.

    Args:
        config: what to do.
        pairs: columns anchor, positive and, where hard negatives were mined, negative.
        folder: for checkpoints and the result; the same pairs and config on the same kind of machine leave the same
            weights, resumed or not.

    Raises:
        NotEnoughData: fewer pairs than one batch.
    """
    if len(pairs) < config.batch_size:
        raise NotEnoughData(f"found {len(pairs)} training pairs, need one batch of {config.batch_size} at least")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with quiet_transformers():
        import torch
        from sentence_transformers.losses import MultipleNegativesRankingLoss

        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        model = _model(config)
        trainer = _trainer_class()(
            model=model,
            args=_arguments(config, folder),
            train_dataset=_dataset(pairs),
            loss=MultipleNegativesRankingLoss(model),
            callbacks=[_watch(config)],
        )
        begun = time.monotonic()
        trainer.train(resume_from_checkpoint=newest_checkpoint(folder))
        seconds = time.monotonic() - begun
        out = folder / "tuned"
        model[0].auto_model.save_pretrained(out)
        model.tokenizer.save_pretrained(out)
    return Tuned(out, int(trainer.state.global_step), seconds, str(model.device.type))


def usable(config: TuningConfig, pairs: pd.DataFrame) -> pd.DataFrame:
    """The pairs that the steps can use: all, or a draw of as many as `max_steps` reads."""
    if config.max_steps is None or config.max_steps * config.batch_size >= len(pairs):
        return pairs
    return pairs.sample(config.max_steps * config.batch_size, random_state=config.seed).sort_index(ignore_index=True)


def _model(config: TuningConfig) -> Any:
    """The encoder as `training.embeddings` exports it: mean pooling, compared by cosine."""
    from sentence_transformers import SentenceTransformer, models

    words = models.Transformer(base_model_folder(config.base_model), max_seq_length=config.max_tokens)
    return SentenceTransformer(modules=[words, models.Pooling(words.get_word_embedding_dimension(), "mean")])


def _trainer_class() -> Any:
    from sentence_transformers import SentenceTransformerTrainer
    from transformers import PrinterCallback

    class Quiet(SentenceTransformerTrainer):  # type: ignore[misc]
        """Prints nothing: stdout is for results, and progress is logged."""

        def __init__(self, **given: Any) -> None:
            super().__init__(**given)
            self.remove_callback(PrinterCallback)

        def add_model_card_callback(self, *_: Any) -> None:
            """None: a card about a folder that is deleted helps nobody, and drawing its examples takes a bar."""

    return Quiet


def _arguments(config: TuningConfig, folder: Path) -> Any:
    import torch
    from sentence_transformers import SentenceTransformerTrainingArguments
    from sentence_transformers.training_args import BatchSamplers

    gpu = torch.cuda.is_available()
    return SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        warmup_steps=config.warmup_share,  # below 1: a share
        num_train_epochs=config.epochs,
        max_steps=config.max_steps or -1,
        batch_sampler=BatchSamplers.NO_DUPLICATES,
        bf16=gpu and torch.cuda.is_bf16_supported(),
        use_cpu=not gpu,
        seed=config.seed,
        data_seed=config.seed,
        save_strategy="steps",
        save_steps=config.save_steps,
        save_total_limit=2,
        logging_steps=10,
        logging_first_step=True,
        disable_tqdm=True,
        report_to="none",
        dataloader_pin_memory=gpu,
    )


def _dataset(pairs: pd.DataFrame) -> Any:
    from datasets import Dataset

    columns = [name for name in ("anchor", "positive", "negative") if name in pairs.columns]
    return Dataset.from_pandas(pairs[columns], preserve_index=False)


def _watch(config: TuningConfig) -> Any:
    """Logs progress, and stops when the time is up."""
    from transformers import TrainerCallback

    class Watch(TrainerCallback):  # type: ignore[misc]
        begun = 0.0

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.begun = time.monotonic()

        def on_log(self, _args: Any, state: Any, _control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" in (logs or {}):
                seconds = round(time.monotonic() - self.begun, 1)
                log.info("tuning.step", step=state.global_step, of=state.max_steps, loss=logs["loss"], seconds=seconds)

        def on_step_end(self, _args: Any, _state: Any, control: Any, **_: Any) -> None:
            if config.max_minutes and time.monotonic() - self.begun >= 60 * config.max_minutes:
                control.should_training_stop = True
                control.should_log = True

    return Watch()
