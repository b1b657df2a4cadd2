"""What monitoring cannot judge. Imports nothing heavy: Airflow resolves these names at parse."""

from mercato.errors import MercatoError


class MonitoringError(MercatoError):
    """A report that cannot be made from what was given."""


class BadWindows(MonitoringError):
    """Two windows that cannot be compared."""
