"""The encoder of the intent model: a pretrained transformer, the means of some of its layers, and a linear head."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import nn
from transformers import (
    DataCollatorWithPadding,
    EarlyStoppingCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from feature_repo.message_text import tidy
from serving.runtime.intent import softmax
from training.base_models import quiet_transformers
from training.checkpoints import newest_checkpoint
from training.intent_config import IntentConfig

Floats = NDArray[np.float32]
DEPTHS: Final = (0.5, 0.75, 1.0)
"""How far up the layers are whose means the head reads, as shares of the encoder's depth."""
log = structlog.get_logger()


class WordVectors(nn.Module):
    """Word vectors of which only those of the tokens in training messages train, in a table of their own.

    The others (most of e5's 96 M weights) have no gradient, no optimiser state, and are in no checkpoint.
    """

    weight: torch.Tensor
    slot: torch.Tensor

    def __init__(self, weight: torch.Tensor, padding_idx: int | None) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach(), persistent=False)
        self.padding_idx = padding_idx
        self.register_buffer("slot", torch.full((len(weight),), -1), persistent=False)
        self.own: nn.Parameter | None = None

    def train_those_of(self, ids: Sequence[list[int]]) -> None:
        """From now on the vectors of the tokens in `ids` have gradients."""
        seen = torch.tensor(sorted({token for row in ids for token in row}), device=self.weight.device)
        self.slot[seen] = torch.arange(len(seen), device=seen.device)
        self.own = nn.Parameter(self.weight[seen].clone())

    def settle(self) -> None:
        """Put what was trained into the whole table, which is all that is exported."""
        if self.own is not None:
            seen = self.slot >= 0
            self.weight[seen] = self.own.detach()[self.slot[seen]]
            self.own = None
            self.slot.fill_(-1)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """(b, s, d) of (b, s) ids."""
        as_it_came = nn.functional.embedding(ids, self.weight)
        if self.own is None:
            return as_it_came
        slot = self.slot[ids]
        trained = nn.functional.embedding(slot.clamp(min=0), self.own)
        return torch.where((slot >= 0).unsqueeze(-1), trained, as_it_came)


class Classifier(nn.Module):
    """Logits of messages: the head over the token means of layers at DEPTHS, side by side.

    With labels it returns the weighted cross-entropy too, as Trainer wants it. There is no dropout of features: the
    head comes fitted to clean ones, and its weights would blow the noise up. In training `token_dropout` of the tokens
    are not read instead.
    """

    def __init__(self, bert: Any, n_labels: int, *, token_dropout: float = 0.0) -> None:
        super().__init__()
        self.token_dropout = token_dropout
        words = bert.embeddings.word_embeddings
        bert.embeddings.word_embeddings = WordVectors(words.weight, words.padding_idx)
        for part in bert.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0
        self.bert = bert
        depth = bert.config.num_hidden_layers
        self.layers = sorted({max(1, round(depth * share)) for share in DEPTHS})
        self.head = nn.Linear(len(self.layers) * bert.config.hidden_size, n_labels)

    @property
    def words(self) -> WordVectors:
        """Its word vectors."""
        found: WordVectors = self.bert.embeddings.word_embeddings
        return found

    def features(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """(b, layers * d) means over tokens."""
        hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True).hidden_states
        weight = attention_mask.unsqueeze(-1).to(hidden[-1].dtype)
        total = weight.sum(1).clamp(min=1e-9)
        return torch.cat([(hidden[layer] * weight).sum(1) / total for layer in self.layers], dim=1)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        labels: torch.Tensor | None = None,
        weights: torch.Tensor | None = None,
    ) -> Any:
        """(b, labels) logits; with labels a mapping of loss and logits."""
        if self.training and self.token_dropout:
            read = torch.rand(attention_mask.shape, device=attention_mask.device) >= self.token_dropout
            read[:, 0] = True  # the first token stands for the whole message, so that something is left of it
            attention_mask = attention_mask * read
        logits = self.head(self.features(input_ids, attention_mask))
        if labels is None:
            return logits
        losses = nn.functional.cross_entropy(logits.float(), labels, reduction="none")
        if weights is not None:
            losses = losses * weights
        return {"loss": losses.mean(), "logits": logits}

    def set_head(self, weights: NDArray[Any], bias: NDArray[Any]) -> None:
        """Take the head of a linear model over `features`: (layers * d, labels) and (labels,)."""
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(np.ascontiguousarray(weights.T, dtype=np.float32)))
            self.head.bias.copy_(torch.from_numpy(np.asarray(bias, dtype=np.float32)))


def encoded(tokenizer: Any, texts: Sequence[str], max_length: int) -> list[list[int]]:
    """The ids of each text as it is served: tidied, cut at max_length tokens.

    Without the prefix that e5 was trained with: that is a seventh of a message's tokens, and a head reads as well
    without it (docs/intent.md).
    """
    read = tokenizer([tidy(text) for text in texts], truncation=True, max_length=max_length)
    return list(read["input_ids"])


def features_of(model: Classifier, tokenizer: Any, ids: Sequence[list[int]], *, batch: int = 32) -> Floats:
    """(n, layers * d) float32 features in the order of `ids`, batched by length."""
    device = next(model.parameters()).device
    collate = DataCollatorWithPadding(tokenizer)
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    found = np.empty((len(ids), model.head.in_features), np.float32)
    model.eval()
    with torch.no_grad():
        for at in range(0, len(order), batch):
            rows = order[at : at + batch]
            padded = collate([{"input_ids": ids[i]} for i in rows]).to(device)
            found[rows] = model.features(padded["input_ids"], padded["attention_mask"]).float().cpu().numpy()
    return found


def logits_of(model: Classifier, tokenizer: Any, ids: Sequence[list[int]]) -> Floats:
    """(n, labels) float32 of the model as it is trained."""
    features = torch.from_numpy(features_of(model, tokenizer, ids)).to(next(model.parameters()).device)
    with torch.no_grad():
        found: Floats = model.head(features).float().cpu().numpy()
    return found


class _Progress(TrainerCallback):  # type: ignore[misc]
    """Says how far training is."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        del args, control
        log.info("intent.step", step=state.global_step, of=state.max_steps, loss=(logs or {}).get("loss"))

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
        del args, control
        said = {name: float(metrics[f"eval_{name}"]) for name in ("calibrated_loss", "accuracy")}
        log.info("intent.evaluated", step=state.global_step, of=state.max_steps, **said)


class _Rows(torch.utils.data.Dataset[dict[str, Any]]):
    def __init__(self, ids: Sequence[list[int]], labels: NDArray[np.int64], weights: Floats) -> None:
        self.ids, self.labels, self.weights = ids, labels, weights

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, at: int) -> dict[str, Any]:
        return {"input_ids": self.ids[at], "labels": int(self.labels[at]), "weights": float(self.weights[at])}


def fine_tune(  # noqa: PLR0913 - named
    model: Classifier,
    tokenizer: Any,
    config: IntentConfig,
    *,
    train: tuple[Sequence[list[int]], NDArray[np.int64], Floats],
    validation: tuple[Sequence[list[int]], NDArray[np.int64], Floats],
    checkpoints: Path,
) -> list[dict[str, float]]:
    """Trains `model` in place, goes on from the last checkpoint in `checkpoints`; the curve on validation.

    The weights with the lowest validation loss stay, at the temperature that suits them: overconfidence, which is put
    right afterwards, would end training early.
    """
    gpu = torch.cuda.is_available()
    per_device = config.batch_size if gpu else min(config.batch_size, config.micro_batch)
    accumulate = max(1, config.batch_size // per_device)
    steps = math.ceil(len(train[0]) / (per_device * accumulate))
    every = max(1, math.ceil(steps / config.evaluations_per_epoch))
    model.words.train_those_of(train[0])
    with quiet_transformers():
        arguments = TrainingArguments(
            output_dir=str(checkpoints),
            num_train_epochs=config.epochs,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            warmup_steps=int(config.warmup_share * steps * config.epochs),
            lr_scheduler_type="linear",
            optim="adamw_torch",
            per_device_train_batch_size=per_device,
            gradient_accumulation_steps=accumulate,
            per_device_eval_batch_size=32,
            train_sampling_strategy="random" if gpu else "group_by_length",
            bf16=gpu and torch.cuda.is_bf16_supported(),
            use_cpu=not gpu,
            eval_strategy="steps",
            save_strategy="steps",
            eval_steps=every,
            save_steps=every,
            save_total_limit=2,
            logging_steps=max(1, every // 4),
            load_best_model_at_end=True,
            metric_for_best_model="eval_calibrated_loss",
            greater_is_better=False,
            seed=config.seed,
            data_seed=config.seed,
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            label_names=["labels"],
            dataloader_pin_memory=gpu,
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=_Rows(*train),
            eval_dataset=_Rows(*validation),
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_metrics=_metrics,
            callbacks=[_Progress(), EarlyStoppingCallback(config.patience)],
        )
        trainer.remove_callback(_printer())
        last = newest_checkpoint(checkpoints)
        log.info("intent.training", rows=len(train[0]), steps=steps * config.epochs, resumed=bool(last), gpu=gpu)
        trainer.train(resume_from_checkpoint=last)
    model.cpu()  # where it is exported
    model.words.settle()
    done = [each for each in trainer.state.log_history if "eval_loss" in each]
    return [
        {"epoch": round(each["epoch"], 3), "loss": each["eval_calibrated_loss"], "accuracy": each["eval_accuracy"]}
        for each in done
    ]


def _metrics(found: Any) -> dict[str, float]:
    logits, labels = found.predictions, found.label_ids
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        return -float(np.log(softmax(logits / math.exp(log_temperature))[rows, labels] + 1e-9).mean())

    best = minimize_scalar(loss, bounds=(-3, 3), method="bounded")
    return {"accuracy": float((logits.argmax(1) == labels).mean()), "calibrated_loss": float(best.fun)}


def _printer() -> Any:
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback
