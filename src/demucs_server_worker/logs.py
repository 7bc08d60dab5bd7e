"""Log lines: structured, for people on a terminal and one JSON object a line elsewhere."""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

import structlog

from demucs_server_worker.events import Event, EventKind

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

_LEVEL_OF = {
    EventKind.PROGRESS: "debug",
    EventKind.RETRYING: "warning",
    EventKind.FAILED: "error",
    EventKind.WORKER_DIED: "warning",
    EventKind.HEALTH_CHANGED: "warning",
}


def configure_logging(level: str = "info", format: str = "auto", stream: TextIO | None = None) -> None:
    """Say how the log lines of this process look and where they go.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        format: `console`, `json`, or `auto`: console when `stream` is a terminal.
        stream: standard error by default.
    """
    stream = stream or sys.stderr
    on_terminal = stream.isatty()
    for_people = format == "console" or (format == "auto" and on_terminal)
    time_format = "%H:%M:%S" if for_people else "iso"
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt=time_format, utc=not for_people, key="time"),
    ]
    if for_people:
        processors += [structlog.processors.ExceptionPrettyPrinter(stream), _people(on_terminal)]
    else:
        processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )


def _people(colors: bool) -> structlog.dev.ConsoleRenderer:
    return structlog.dev.ConsoleRenderer(colors=colors, timestamp_key="time", pad_event_to=0, pad_level=False)


def log_event(event: Event) -> None:
    """Write the log line of an event of the bus: the same facts, for the operator."""
    log = structlog.get_logger("demucs_server_worker")
    facts: dict[str, Any] = {}
    if event.task is not None:
        facts["task"] = event.task.id
        facts["name"] = event.task.request.input_name
        facts["attempt"] = event.task.attempt
    if event.worker_id is not None:
        facts["worker"] = event.worker_id
    if event.kind is EventKind.PROGRESS and event.task is not None:
        facts["progress"] = round(event.task.progress, 3)
    if event.error is not None:
        facts |= {"code": event.error.code, "reason": event.error.message}
    if event.detail is not None:
        facts["detail"] = event.detail
    getattr(log, _LEVEL_OF.get(event.kind, "info"))(event.kind.value, **facts)
