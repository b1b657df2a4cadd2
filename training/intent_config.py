"""What an intent run depends on beside its messages."""

from enum import StrEnum

from pydantic import BaseModel, NonNegativeFloat, PositiveFloat, PositiveInt

from training.base_models import E5


class Encoder(StrEnum):
    """How far a run goes with the pretrained encoder."""

    NONE = "none"
    """Pieces of words alone: under a minute of one core."""
    FROZEN = "frozen"
    """As it came, with a head of its own beside the words: about five minutes."""
    FINE_TUNED = "fine-tuned"
    """Trained too: minutes on a GPU, an hour or more on one core."""


class IntentConfig(BaseModel, frozen=True, extra="forbid"):
    """The prescribed recipe: 128 tokens, batches of 32, AdamW at 2e-5, 3 epochs, early stopping on validation loss."""

    base_model: str = E5
    """`package:NAME`, `hf:NAME` or a folder (`training.base_models`)."""
    encoder: Encoder = Encoder.FINE_TUNED
    words: bool = True
    """Fit the model over pieces of words too; its time grows with the number of labels."""
    max_length: PositiveInt = 128
    """Tokens of a message that are read."""
    batch_size: PositiveInt = 32
    """Messages of one step of AdamW."""
    micro_batch: PositiveInt = 16
    """Messages at once on a CPU; gradients of several add up to a batch. Messages of a length go together."""
    learning_rate: PositiveFloat = 2e-5
    """The highest; it falls linearly to 0."""
    warmup_share: NonNegativeFloat = 0.06
    """Of all steps, while it rises."""
    weight_decay: NonNegativeFloat = 0.01
    epochs: PositiveInt = 3
    """At most; early stopping may end before."""
    patience: PositiveInt = 2
    """Evaluations in a row without a lower validation loss before training stops."""
    evaluations_per_epoch: PositiveInt = 1
    """How often an epoch is judged on validation and kept as a checkpoint."""
    token_dropout: NonNegativeFloat = 0.0
    """Share of a message's tokens that a step of training does not read."""
    public_weight: NonNegativeFloat = 0.3
    """Weight of a row of a public set; rows of the shop weigh 1."""
    romanise: bool = True
    """Each Hindi message also trains in Latin letters, as Hinglish."""
    validation_share: PositiveFloat = 0.1
    """Of the shop-intents training rows, held out by the hash of the text."""
    regularisation: PositiveFloat = 10.0
    """Inverse strength (C) of the linear model over pieces of words."""
    head_regularisation: PositiveFloat = 0.01
    """Inverse strength (C) of the head over standardised encoder features."""
    seed: int = 0


SHOP = IntentConfig(learning_rate=5e-5, epochs=5, token_dropout=0.1)
"""Of the shop's own model; early stopping decides how many epochs it takes.
At 1e-4 the fitted head is lost within half an epoch: the training loss doubles (docs/intent.md)."""
