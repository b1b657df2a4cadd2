"""Structured logs on stderr: console on a terminal, JSON elsewhere."""

import logging
import sys

import structlog


def configure(*, level: int = logging.INFO) -> None:
    """Send every structlog event to stderr; call once where a process starts."""
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # Whatever stderr is when a line is written: a caller may have replaced, and closed, the one of now.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )
