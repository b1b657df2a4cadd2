"""What decides which messages are annotated, and when what annotators said is good enough."""

from collections.abc import Sequence
from typing import Final, Literal, Protocol, Self

from pydantic import BaseModel, Field, NonNegativeInt, PositiveInt, model_validator

from training.near_duplicates import SIMILARITY

Reason = Literal["random", "uncertain", "disagreement", "error", "adjudication"]
"""Why a task was chosen."""


class IntentModel(Protocol):
    """A model that says what messages want."""

    @property
    def name(self) -> str:
        """Names its version on a pre-annotation."""

    def classify(self, texts: Sequence[str]) -> Sequence[tuple[str, float]]:
        """(label, confidence in [0, 1]) of each text."""


class ExportConfig(BaseModel, frozen=True, extra="forbid"):
    """What goes into a batch."""

    tasks: PositiveInt = 200
    """Tasks of a batch, at most."""
    random_share: float = Field(0.5, ge=0, le=1)
    """Of the tasks: drawn at random, as many of each channel, language and predicted label as there are."""
    uncertain_share: float = Field(0.3, ge=0, le=1)
    """Of the tasks: those of which the live model is least sure."""
    disagreement_share: float = Field(0.2, ge=0, le=1)
    """Of the tasks: those that the live model and the other one label differently, the surest first."""
    seed: NonNegativeInt = 17
    """Of the random draw."""
    lookback_days: PositiveInt = 28
    """How old a message may be, in days before the run's end."""
    pool: PositiveInt = 20_000
    """Messages that are looked at, drawn at random when there are more."""
    open_batches: PositiveInt = 3
    """While so many batches are not imported, a run exports none."""
    similarity: float = Field(SIMILARITY, gt=0, le=1)
    """From which on two messages are near-duplicates; see `training.near_duplicates`."""

    @model_validator(mode="after")
    def _is_a_mix(self) -> Self:
        total = self.random_share + self.uncertain_share + self.disagreement_share
        if abs(total - 1) > 1e-9:  # noqa: PLR2004 - rounding
            raise ValueError(f"random_share, uncertain_share and disagreement_share add up to {total:g}, need 1")
        return self


class ImportConfig(BaseModel, frozen=True, extra="forbid"):
    """When a batch is taken."""

    min_kappa: float = Field(0.6, ge=-1, le=1)
    """Fleiss' kappa over all labels; below it the batch is refused (Landis & Koch 1977: substantial from 0.61)."""
    min_label_kappa: float = Field(0.4, ge=-1, le=1)
    """Fleiss' kappa of each label that has at least `label_votes`."""
    label_votes: PositiveInt = 20
    """Annotations that a label needs before it is judged alone."""
    min_shared: PositiveInt = 20
    """Tasks that two or more people must have labelled; of a batch with fewer than twice as many, half of its tasks."""
    majority: float = Field(0.6, gt=0.5, le=1)
    """Share of a task's annotators that decides; with less, or with a tie, an adjudicator does."""


EXPORT: Final = ExportConfig()
IMPORT: Final = ImportConfig()
"""What the jobs use."""
