"""What a client can be told: a status, a code that does not change, and what to do."""

from mercato.errors import MercatoError, TransientError


class ApiError(MercatoError):
    """An answer other than the one asked for. The message says what was found and needed, `hint` what to do."""

    status = 400
    code = "bad_request"
    retry_after: int | None = None
    """Seconds after which the same request may succeed."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class Unparsable(ApiError):
    """The body is not JSON."""

    status = 400
    code = "unparsable"


class UnknownProduct(ApiError):
    """No product carries this id."""

    status = 404
    code = "unknown_product"


class UnknownCategory(ApiError):
    """No category carries this name."""

    status = 404
    code = "unknown_category"


class UnknownRoute(ApiError):
    """No route has this path."""

    status = 404
    code = "unknown_route"


class WrongMethod(ApiError):
    """The route does not have this verb."""

    status = 405
    code = "wrong_method"


class BodyTooLarge(ApiError):
    """The body is larger than we read."""

    status = 413
    code = "body_too_large"


class RuleBroken(ApiError):
    """A bound or rule of the contract does not hold."""

    status = 422
    code = "rule_broken"


class Unavailable(ApiError, TransientError):
    """Something that the answer needs is not there right now."""

    status = 503
    code = "unavailable"
    retry_after = 1


class NoRelease(Unavailable):
    """Nothing is live yet."""

    code = "no_release"
    retry_after = 2


class Overloaded(Unavailable):
    """More requests wait than can be answered in time."""

    code = "overloaded"


class EventLogDown(Unavailable):
    """Events cannot be made durable; none was acknowledged."""

    code = "event_log_unavailable"
    retry_after = 2


class NotKept(Unavailable):
    """A change of a product cannot be made durable; nothing was changed."""

    code = "change_not_kept"
    retry_after = 2


class Unexpected(Unavailable):
    """A fault of ours; the log has the details under the request id."""

    code = "unexpected"
