"""A task as a row of the database, and back."""

from __future__ import annotations

import sqlite3

import msgspec

from demucs_server_worker.errors import ErrorInfo
from demucs_server_worker.queue.database import Value
from demucs_server_worker.task import Attempt, Stage, Stem, Task, TaskRequest, TaskState

_encode = msgspec.json.Encoder().encode
# Decoding a request checks its options again. Whoever narrows what an option may be has to migrate the tasks stored
# with the wider range, or they can no longer be read.
_request = msgspec.json.Decoder(TaskRequest)
_stems = msgspec.json.Decoder(tuple[Stem, ...])
_error = msgspec.json.Decoder(ErrorInfo)
_history = msgspec.json.Decoder(tuple[Attempt, ...])
_files = msgspec.json.Decoder(tuple[str, ...])


def to_row(task: Task) -> dict[str, Value]:
    """The columns of `task`, all but its place in the queue."""
    return {
        "id": task.id,
        "file_id": task.request.file_id,
        "state": task.state.value,
        "rank": task.request.priority.rank,
        "attempt": task.attempt,
        "max_attempts": task.max_attempts,
        "claim": task.claim,
        "worker_id": task.worker_id,
        "waiting": int(task.state is TaskState.QUEUED and task.not_before > 0),
        "not_before": task.not_before,
        "created_at": task.created_at,
        "started_at": task.started_at,
        "finished_at": task.finished_at,
        "progress": task.progress,
        "stage": task.stage.value,
        "duration_seconds": task.duration_seconds,
        "request": _encode(task.request),
        "stems": _encode(task.stems) if task.stems else None,
        "error": _encode(task.error) if task.error else None,
        "history": _encode(task.history) if task.history else None,
        "cached": int(task.cached),
        "result_key": task.result_key,
    }


def from_row(row: sqlite3.Row) -> Task:
    """The task that `row` holds."""
    return Task(
        id=row["id"],
        request=_request.decode(row["request"]),
        state=TaskState(row["state"]),
        attempt=row["attempt"],
        max_attempts=row["max_attempts"],
        claim=row["claim"],
        progress=row["progress"],
        stage=Stage(row["stage"]),
        worker_id=row["worker_id"],
        not_before=row["not_before"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        duration_seconds=row["duration_seconds"],
        stems=_stems.decode(row["stems"]) if row["stems"] else (),
        error=_error.decode(row["error"]) if row["error"] else None,
        history=_history.decode(row["history"]) if row["history"] else (),
        cached=bool(row["cached"]),
        result_key=row["result_key"],
    )


def encode_files(files: tuple[str, ...]) -> bytes:
    """Relative paths, as the column that holds them."""
    return _encode(files)


def decode_files(column: bytes) -> tuple[str, ...]:
    """The relative paths that a column holds."""
    return _files.decode(column)
