"""What can be wrong with features. Imports nothing heavy: Airflow resolves these names at parse."""

from mercato.errors import MercatoError


class FeatureError(MercatoError):
    """Features that cannot be computed, joined or read as they were defined."""


class UnknownFeatureService(FeatureError):
    """No feature service carries this name."""


class NoSnapshot(FeatureError):
    """No snapshot was written for the time that was asked for."""


class SnapshotMismatch(FeatureError):
    """A table or snapshot has other columns, types or rows than its view declares."""
