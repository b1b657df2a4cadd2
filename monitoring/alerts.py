"""Tell a person: one line in the log, and one POST to `MERCATO_ALERT_WEBHOOK` where it is set."""

from typing import Literal

import httpx
import structlog

from mercato.settings import Settings

TIMEOUT_SECONDS = 5.0
"""For each of connecting, sending and the answer."""
log = structlog.get_logger()


def alert(settings: Settings, event: str, *, level: Literal["error", "warning"] = "error", **said: str | None) -> None:
    """Log `event` and post it; a webhook that fails is logged and nothing more. Its address is a secret: never logged.

    Args:
        settings: where the webhook is.
        event: dotted name, e.g. `task.failed`.
        level: of the line in the log.
        said: what a person needs to go on. No rows of data: whoever reads a webhook's channel is not known here.
    """
    getattr(log, level)(event, **said)
    address = settings.alert_webhook.get_secret_value()
    if not address:
        return
    text = ", ".join([event, *(f"{name} {value}" for name, value in said.items() if value)])
    try:
        httpx.post(address, json={"event": event, "text": text, **said}, timeout=TIMEOUT_SECONDS).raise_for_status()
    except httpx.HTTPStatusError as error:
        log.warning("alert.not_sent", event_name=event, status=error.response.status_code)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        log.warning("alert.not_sent", event_name=event, reason=type(error).__name__)
