"""Log lines: structured, for people on a terminal and one JSON object a line elsewhere."""

from __future__ import annotations

import logging
import logging.config
import sys
import warnings
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from demucs_server_worker.events import Event, EventKind
from demucs_server_worker.task import Task

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
    people = for_people(format, stream)
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, *_facts(people), *_rendering(people, stream.isatty())],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )


def for_people(format: str, stream: TextIO) -> bool:
    """Whether log lines of this format on this stream are the readable ones."""
    return format == "console" or (format == "auto" and stream.isatty())


def adopt_library_logs(format: str = "auto", stream: TextIO | None = None) -> None:
    """Have what libraries log or warn of look like the process's own lines: warnings and worse, whatever the level.

    Only for a process that is ours alone; a program that embeds the manager decides for itself.

    Args:
        format, stream: as for `configure_logging`.
    """
    stream = stream or sys.stderr
    people = for_people(format, stream)
    logging.config.dictConfig({
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"ours": {
            "()": structlog.stdlib.ProcessorFormatter,
            "foreign_pre_chain": [structlog.stdlib.add_logger_name, *_facts(people)],
            "processors": [
                structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(people, stream.isatty())
            ],
        }},
        "handlers": {"ours": {"class": "logging.StreamHandler", "formatter": "ours", "stream": stream}},
        "root": {"handlers": ["ours"], "level": "WARNING"},
    })  # fmt: skip
    warnings.formatwarning = lambda message, category, *_: f"{category.__name__}: {message}"
    logging.captureWarnings(True)


def _facts(people: bool) -> list[Any]:
    time_format = "%H:%M:%S" if people else "iso"
    return [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt=time_format, utc=not people, key="time"),
    ]


def _rendering(people: bool, colors: bool) -> list[Any]:
    if not people:
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
    renderer = structlog.dev.ConsoleRenderer(
        colors=colors, timestamp_key="time", pad_event_to=0, pad_level=False,
        # The default one shows the variables of every frame, and a setting that is a secret among them.
        exception_formatter=structlog.dev.plain_traceback,
    )  # fmt: skip
    return [_on_one_line, renderer]


def _on_one_line(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Names of files come from strangers: what a terminal would act upon is shown as its escape."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[name] = "".join(char if char.isprintable() else _escaped(char) for char in value)
    return event


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def log_event(event: Event) -> None:
    """Write the log line of an event of the bus: the same facts, for the operator."""
    log = structlog.get_logger("demucs_server_worker")
    facts: dict[str, Any] = {}
    if event.task is not None:
        facts["task"] = event.task.id
        facts["name"] = event.task.request.input_name
        facts["attempt"] = _attempt(event.task, event.kind)
    if event.worker_id is not None:
        facts["worker"] = event.worker_id
    if event.kind is EventKind.PROGRESS and event.task is not None:
        facts["progress"] = round(event.task.progress, 3)
    if event.error is not None:
        facts |= {"code": event.error.code, "reason": event.error.message}
    if event.peak_memory_bytes is not None:
        facts["peak_memory_mb"] = round(event.peak_memory_bytes / 1e6)
    if event.detail is not None:
        facts["detail"] = event.detail
    getattr(log, _LEVEL_OF.get(event.kind, "info"))(event.kind.value, **facts)


def _attempt(task: Task, kind: EventKind) -> int:
    """The attempt that the line is about: for a retry the one that ended, which the task has left behind."""
    return task.history[-1].number if kind is EventKind.RETRYING and task.history else task.attempt
