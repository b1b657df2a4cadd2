"""What can be wrong with a training run. Imports nothing heavy: Airflow resolves these names at parse."""

from mercato.errors import MercatoError, TransientError


class TrainingError(MercatoError):
    """A training run that cannot give a usable model; another try on the same data will not help."""


class NotEnoughData(TrainingError):
    """Fewer rows than a model needs."""


class FittedPastLabel(TrainingError):
    """An artefact has seen the labels that the ranker is about to learn from."""


class BadConfig(TrainingError):
    """Settings that contradict each other."""


class BaseModelMissing(TrainingError):
    """The pretrained weights that a config names are not there."""


class ArtefactMissing(TrainingError):
    """A model that this step builds on was not trained yet."""


class SourceChanged(TrainingError):
    """A source has other rows now for a day that was extracted before; history is not rewritten unasked."""


class RowsLost(TrainingError):
    """A step would have left fewer or more rows than it took in; nothing was written."""


class RawLetGo(TrainingError):
    """Raw days were let go that an extraction must compare with, or whose lines are part of the totals to clean."""


class SourceDown(TransientError):
    """A database or API did not answer, however often it was asked."""


class SourceBusy(SourceDown):
    """A server asks for a long pause: asked again at once, it would only refuse again."""


class IndexNotGood(TrainingError):
    """An index that finds less than it must; the live one stays."""
