"""The root of every error that Mercato raises on purpose. Imports nothing: Airflow resolves these names at parse."""


class MercatoError(Exception):
    """A failure that says what was found, what was needed and the next step.

    `retryable` is the one flag behind the Airflow retry policy, the HTTP status
    and the exit code (65 bad data, 75 try again).
    """

    retryable = False


class TransientError(MercatoError):
    """A dependency did not answer: the same call may succeed later."""

    retryable = True


class BadSetting(MercatoError):
    """A setting holds a value that cannot be used."""


class StoreUnavailable(TransientError):
    """A store (event log, routing document, identity map) could not be reached or is locked."""


class StoreTooNew(MercatoError):
    """A store was written by newer code than this."""


class StaleGeneration(MercatoError):
    """Somebody else wrote the routing document first; read it again and decide anew."""
