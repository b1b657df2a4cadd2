"""Around every request: its id, the size limit, one log line, the metrics, and no answer that is not ours."""

import json
import re
import secrets
import time
from typing import Any, Final

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving import metrics
from serving.errors import (
    ApiError,
    BodyTooLarge,
    NoRelease,
    Overloaded,
    RuleBroken,
    Unexpected,
    UnknownRoute,
    WrongMethod,
)

log = structlog.get_logger()
MAX_BODY: Final = 1_000_000
"""Bytes of a request's body."""
INSIDE: Final = 256
"""Requests at once in one process; more are told to come back, while the others are still answered in time."""
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_QUIET: Final = frozenset({"/livez", "/healthz", "/readyz", "/metrics"})
_NATIVE: Final = frozenset({"/recommend", "/search"})
OWN: Final = "mercato_own_error"
"""Key in the scope's state: the error body is already ours."""


class Door:
    """Plain ASGI middleware; the request id is in `scope["state"]["request_id"]`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        visit = _Visit(scope, send)
        if self._inside >= INSIDE and scope["path"] not in _QUIET:
            visit.replace = Overloaded(
                f"{self._inside} requests are being answered, this process takes {INSIDE}", "slow down, or add workers"
            )
        self._inside += 1
        try:
            await visit.pass_through(self.app, receive)
        finally:
            self._inside -= 1


class _Visit:
    """One request on its way through."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope = scope
        self.send = send
        self.state: dict[str, Any] = scope.setdefault("state", {})
        self.state["request_id"] = self.request_id = secrets.token_hex(12)
        self.started = time.perf_counter()
        self.status = 0
        self.read = 0
        self.replace: ApiError | None = None
        self.headers = Headers(scope=scope)

    async def pass_through(self, app: ASGIApp, receive: Receive) -> None:
        trace = _TRACEPARENT.fullmatch(self.headers.get("traceparent", ""))
        with structlog.contextvars.bound_contextvars(
            request_id=self.request_id, **({"trace_id": trace.group(1)} if trace else {})
        ):
            try:
                if self._announced() > MAX_BODY:
                    self.replace = _too_large(f"{self._announced()} bytes")
                if self.replace is None:
                    await app(self.scope, self._counted(receive), self._out)
                if self.replace is not None:
                    await self._refuse(self.replace)
            except ApiError as error:
                await self._refuse(error)
            except Exception:
                # The last line before a client would see a 500.
                log.exception("request.failed", path=self.scope["path"])
                metrics.UNEXPECTED.labels(self._route()).inc()
                await self._refuse(unexpected())
            self._record()

    def _announced(self) -> int:
        length = self.headers.get("content-length", "")
        return int(length) if length.isdigit() and len(length) < 19 else (MAX_BODY + 1 if length else 0)  # noqa: PLR2004

    def _counted(self, receive: Receive) -> Receive:
        async def counted() -> Message:
            message = await receive()
            self.read += len(message.get("body", b""))
            if self.read > MAX_BODY:
                self.replace = _too_large(f"more than {MAX_BODY} bytes")
                raise self.replace
            return message

        return counted

    async def _out(self, message: Message) -> None:
        starts = message["type"] == "http.response.start"
        if starts and self.replace is None and message["status"] >= 400 and not self.state.get(OWN):  # noqa: PLR2004
            self.replace = _foreign(message["status"], self.scope)
        if self.replace is not None:
            return
        if starts:
            self.status = message["status"]
            MutableHeaders(scope=message)["x-request-id"] = self.request_id
        await self.send(message)

    async def _refuse(self, error: ApiError) -> None:
        """Answer with an error, unless an answer already began."""
        if self.status:
            return
        self.status = error.status
        self.state["served"] = {"code": error.code}
        body = json.dumps(error_body(error, self.request_id)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        headers.append((b"x-request-id", self.request_id.encode()))
        if error.retry_after is not None:
            headers.append((b"retry-after", str(error.retry_after).encode()))
        await self.send({"type": "http.response.start", "status": error.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    def _route(self) -> str:
        """The route's template, a closed set."""
        found = getattr(self.scope.get("route"), "path", None) or self.state.get("route")
        if found:
            return str(found)
        path = self.scope["path"]
        return str(path) if path in _NATIVE | _QUIET else "other"

    def _record(self) -> None:
        route, seconds = self._route(), time.perf_counter() - self.started
        metrics.REQUESTS.labels(route, str(self.status)).inc()
        metrics.LATENCY.labels(route).observe(seconds)
        if route not in _QUIET:
            log.info(
                "request.served", method=self.scope["method"], route=route, status=self.status,
                seconds=round(seconds, 5), **self.state.get("served", {}),
            )  # fmt: skip


def error_body(error: ApiError, request_id: str) -> dict[str, dict[str, str]]:
    """The one shape of every error."""
    return {"error": {"code": error.code, "message": str(error), "hint": error.hint, "request_id": request_id}}


def unexpected() -> Unexpected:
    """What a client hears of a fault of ours."""
    return Unexpected("the request could not be answered", "send it again; if it fails again, report the request_id")


def _too_large(found: str) -> BodyTooLarge:
    return BodyTooLarge(f"the body has {found}, need at most {MAX_BODY}", "send less, or several requests")


def _foreign(status: int, scope: Scope) -> ApiError:
    """Our error for one that a framework made."""
    if scope["path"] == "/readyz":
        return NoRelease("no release is loaded and warmed yet", "ask again; `mercato release live` says what is live")
    if status == 404:  # noqa: PLR2004
        return UnknownRoute("no such route", "see /v1/openapi.json")
    if status == 405:  # noqa: PLR2004
        return WrongMethod(f"this route has no {scope['method']}", "see /v1/openapi.json")
    if status < 500:  # noqa: PLR2004
        return RuleBroken("the request does not fit the contract", "see /v1/openapi.json")
    return unexpected()
