"""One HTTP question, asked again while that can help: 429 (after Retry-After), 5xx, timeouts, broken connections."""

import logging
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from data_contracts.errors import SourceMissing
from training.errors import SourceBusy, SourceDown

_TOO_MANY = 429
_SERVER = 500
_CLIENT = 400
_DENIED = (401, 403)
# At INFO it prints every address with its query, and a key may stand there.
logging.getLogger("httpx").setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True)
class Asking:
    """How patient we are."""

    attempts: int = 6
    pause: float = 0.5
    """Seconds before the second attempt; doubled for each further one."""
    throttled: float = 5.0
    """The same where a server says that we ask too often (429) and not when it will answer again."""
    longest: float = 900.0
    """Seconds; a server that wants us to wait longer is left to a later run."""
    timeout: float = 30.0
    """Seconds without a byte."""

    def get(self, client: httpx.Client, url: httpx.URL, where: str) -> httpx.Response:
        """The whole answer, status 2xx; errors say `where`, since a credential may stand in the address or a header.

        Raises:
            SourceMissing: the server refuses the question (4xx, redirects).
            SourceDown: no attempt brought an answer.
            SourceBusy: the server wants us to wait longer than `longest`.
        """
        retrying = Retrying(
            stop=stop_after_attempt(self.attempts), retry=retry_if_exception(_may_help), wait=self._wait, reraise=True
        )
        try:
            return retrying(self._once, client, url, where)
        except httpx.HTTPStatusError as error:
            raise _refused(where, error.response, self.attempts) from None
        except httpx.HTTPError as error:
            kind = type(error).__name__
            if _may_help(error):
                raise SourceDown(
                    f"{where} gave no whole answer in {self.attempts} attempts ({kind}); it is asked again later"
                ) from None
            raise SourceMissing(f"{where} cannot be asked ({kind}); check `source.url` and `source.auth`") from None

    def _once(self, client: httpx.Client, url: httpx.URL, where: str) -> httpx.Response:
        answer = client.get(url)
        asked = _retry_after(answer) if _passes(answer.status_code) else None
        if asked is not None and asked > self.longest:
            raise SourceBusy(
                f"{where} answered {answer.status_code} and asks us to wait {asked:,.0f} s, more than "
                f"{self.longest:,.0f} s; it is asked again later"
            )
        answer.raise_for_status()
        return answer

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        answer = error.response if isinstance(error, httpx.HTTPStatusError) else None
        asked = _retry_after(answer) if answer is not None else None
        if asked is not None:
            return asked
        pause = self.throttled if answer is not None and answer.status_code == _TOO_MANY else self.pause
        return min(pause * 2.0 ** (state.attempt_number - 1), self.longest)


def _may_help(error: BaseException) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return _passes(error.response.status_code)
    return isinstance(error, httpx.TransportError) and not isinstance(error, httpx.LocalProtocolError)


def _passes(status: int) -> bool:
    return status == _TOO_MANY or status >= _SERVER


def _retry_after(answer: httpx.Response) -> float | None:
    """Seconds that the server wants us to wait: a number, or a date against the answer's own Date."""
    said = answer.headers.get("retry-after", "")
    if said.isdigit():
        return float(said)
    try:
        pause = parsedate_to_datetime(said) - parsedate_to_datetime(answer.headers["date"])
    except (ValueError, KeyError, TypeError):
        return None
    return max(pause.total_seconds(), 0.0)


def _refused(where: str, answer: httpx.Response, attempts: int) -> SourceMissing | SourceDown:
    status = answer.status_code
    if _passes(status):
        return SourceDown(f"{where} answered {status} to each of {attempts} attempts; it is asked again later")
    if status in _DENIED:
        return SourceMissing(
            f"{where} answered {status}: it refuses our credential; check `source.auth` and its variable"
        )
    if status < _CLIENT:
        target = answer.url.join(answer.headers.get("location", ""))
        return SourceMissing(
            f"{where} answered {status}: it sends us on to {target.scheme}://{target.host}; correct `source.url`"
        )
    return SourceMissing(f"{where} answered {status} ({answer.text[:80]!r}); check `source.url` and `source.params`")
