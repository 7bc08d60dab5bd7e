"""A task as JSON shows it: the names of the contract, in camelCase."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import msgspec

from demucs_server_worker.errors import ErrorInfo
from demucs_server_worker.task import Task

_UNDERSCORE = re.compile(r"_([a-z0-9])")


def task_fields(task: Task, *, eta_seconds: float | None = None, queue_position: int | None = None) -> dict[str, Any]:
    """The task as a dict ready for JSON; times are ISO 8601 in UTC."""
    request = task.request
    return {
        "id": task.id,
        "fileId": request.file_id,
        "projectName": request.project_name,
        "priority": request.priority.value,
        "state": task.state.value,
        "attempt": task.attempt,
        "maxAttempts": task.max_attempts,
        "progress": round(float(task.progress), 4),
        "stage": task.stage.value,
        "queuePosition": queue_position,
        "etaSeconds": None if eta_seconds is None else round(eta_seconds, 1),
        "createdAt": _when(task.created_at),
        "startedAt": _when(task.started_at),
        "finishedAt": _when(task.finished_at),
        "inputName": request.input_name,
        "durationSeconds": task.duration_seconds,
        "options": camel(msgspec.to_builtins(request.options)),
        "stems": [camel(msgspec.to_builtins(stem)) for stem in task.stems],
        "error": error_fields(task.error),
    }


def error_fields(error: ErrorInfo | None) -> dict[str, Any] | None:
    """The error as a dict ready for JSON."""
    return None if error is None else {"code": error.code, "message": error.message, "retryable": error.retryable}


def camel(fields: dict[str, Any]) -> dict[str, Any]:
    """The same fields with names in camelCase."""
    return {_UNDERSCORE.sub(lambda match: match[1].upper(), name): value for name, value in fields.items()}


def _when(epoch_seconds: float | None) -> str | None:
    if epoch_seconds is None:
        return None
    return datetime.fromtimestamp(epoch_seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
