"""A task: one song to separate, its states, and the table of legal transitions. Pure: no I/O, no clock.

Every change of state is one function here that takes a task and gives the next one; the database repeats the
table as CHECK constraints and fences each change by the attempt and the claim that it belongs to.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from demucs_server_worker.errors import ErrorInfo, IllegalTransition, InvalidOption
from demucs_server_worker.options import SeparationOptions

__all__ = [
    "FINAL",
    "TRANSITIONS",
    "Attempt",
    "Cancelled",
    "Completed",
    "Failed",
    "Origin",
    "Outcome",
    "Priority",
    "SeparationOptions",
    "Stage",
    "Stem",
    "Task",
    "TaskRequest",
    "TaskState",
    "Webhook",
    "cancel",
    "claim",
    "complete",
    "fail",
    "requeue",
    "retry_later",
    "revive",
]


class TaskState(StrEnum):
    """Where a task is. The comment of each state says who moves a task out of it and what a crash leaves behind."""

    # Waiting on disk. The dispatcher claims it when a worker is free; a caller may cancel it. A crash changes nothing.
    QUEUED = "queued"
    # A worker has it. Its outcome moves it on; a crash of the manager leaves it so, and the next start requeues it.
    RUNNING = "running"
    # Its stems are published (after a crash between commit and rename, the next start publishes them). Final.
    COMPLETED = "completed"
    # Its last attempt failed, or its error cannot be helped by another. Final until a caller retries it.
    FAILED = "failed"
    # A caller cancelled it. Final until a caller retries it.
    CANCELLED = "cancelled"


TRANSITIONS: dict[TaskState, frozenset[TaskState]] = {
    TaskState.QUEUED: frozenset({TaskState.RUNNING, TaskState.CANCELLED}),
    TaskState.RUNNING: frozenset({TaskState.QUEUED, TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED}),
    TaskState.COMPLETED: frozenset(),
    TaskState.FAILED: frozenset({TaskState.QUEUED}),
    TaskState.CANCELLED: frozenset({TaskState.QUEUED}),
}
FINAL = frozenset({TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED})


class Priority(StrEnum):
    """How urgent a task is. Higher ones are always started first; first in, first out within each."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"

    @property
    def rank(self) -> int:
        """0 for high, 1 for normal, 2 for low: the order in which the queue hands tasks out."""
        return list(Priority).index(self)


class Origin(StrEnum):
    """Who brought the song, which says whose its files are."""

    # The caller's files: they are read and written where the caller said, and never deleted.
    PATH = "path"
    # Uploaded: song and stems lie in the data folder, and go with the task.
    UPLOAD = "upload"
    # Found in a watched folder; the files are the user's.
    WATCH = "watch"


class Stage(StrEnum):
    """What a task is busy with."""

    QUEUED = "queued"
    DECODING = "decoding"
    SEPARATING = "separating"
    ENCODING = "encoding"
    DONE = "done"


class Stem(msgspec.Struct, frozen=True, kw_only=True):
    """One separated signal on disk.

    Attributes:
        name: `drums`, `bass`, `other`, `vocals`, `no_vocals`, …
        path: absolute path of the published file.
        format: `wav`, `flac`, …
        sample_rate: Hz.
        channels: channels.
        duration_seconds: seconds.
        bytes: size of the file.
        sha256: hash of the file, hexadecimal.
        peak: largest absolute sample, after the common gain (1.0 is full scale).
    """

    name: str
    path: str
    format: str
    sample_rate: int
    channels: int
    duration_seconds: float
    bytes: int
    sha256: str
    peak: float


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt in a task's history: when (epoch seconds), on which worker, and why it ended without a result."""

    number: int
    worker_id: str | None
    started_at: float
    ended_at: float
    error: ErrorInfo | None


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """Where the events of a task are told to.

    Attributes:
        url: `http://…` or `https://…`, of a host that the administrator allowed.
        events: names of `EventKind` to tell.
    """

    url: str
    events: tuple[str, ...] = ("completed", "failed", "cancelled")


class TaskRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller asks for. Two requests with the same `file_id` are the same task when `asks_the_same` says so.

    Attributes:
        input_path: absolute path of the song.
        output_dir: absolute path of the folder below which the stems are written.
        input_name: the song's name for people and for `{track}`; by default the name in `input_path`.
        file_id: the caller's own id, the idempotency key.
        project_name: display text, and `{project}` in the path of a stem.
        priority: see `Priority`.
        options: see `SeparationOptions`.
        origin: see `Origin`.
        input_sha256: hash of the song's bytes, hexadecimal, where it was taken at submission.
        duration_seconds: length of the song, where it was measured at submission.
        webhook: see `Webhook`.
    """

    input_path: str
    output_dir: str
    input_name: str
    file_id: str | None = None
    project_name: str | None = None
    priority: Priority = Priority.NORMAL
    options: SeparationOptions = SeparationOptions()
    origin: Origin = Origin.PATH
    input_sha256: str | None = None
    duration_seconds: float | None = None
    webhook: Webhook | None = None

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> TaskRequest:
        """Build a request from the flat mapping that `add_task` takes: the fields above and any separation option.

        Raises:
            InvalidOption: for an unknown name, a missing `input_path` or `output_dir`, or a value that does not fit.
        """
        own = {name: value for name, value in values.items() if name in _GIVEN_BY_CALLERS}
        options = {name: value for name, value in values.items() if name not in own}
        for name in ("input_path", "output_dir"):
            own[name] = _absolute(name, own.get(name))
        own["input_name"] = _text("input_name", own.get("input_name")) or Path(own["input_path"]).name
        own["file_id"] = _text("file_id", own.get("file_id"))
        own["project_name"] = _text("project_name", own.get("project_name"))
        try:
            own["priority"] = Priority(own.get("priority") or Priority.NORMAL)
        except ValueError:
            allowed = "one of " + ", ".join(Priority)
            raise InvalidOption(option="priority", value=own["priority"], allowed=allowed) from None
        return cls(**own, options=SeparationOptions.parse(options))

    def asks_the_same(self, other: TaskRequest) -> bool:
        """Whether `other` asks for the same work. Each upload has a folder of its own: there the song's hash counts."""
        return self._identity() == other._identity()

    def _identity(self) -> TaskRequest:
        if self.origin is Origin.UPLOAD and self.input_sha256 is not None:
            return msgspec.structs.replace(self, input_path="", output_dir="", duration_seconds=None)
        return msgspec.structs.replace(self, input_sha256=None, duration_seconds=None)


# What `add_task` takes by name; the rest is found out by who brings the song.
_GIVEN_BY_CALLERS = ("input_path", "output_dir", "input_name", "file_id", "project_name", "priority")


def _absolute(name: str, value: object) -> str:
    if not isinstance(value, str | Path) or not str(value) or not _storable(str(value)):
        raise InvalidOption(option=name, value=_shown(value), allowed="a path is needed, in UTF-8")
    try:
        return str(Path(value).expanduser().absolute())
    except RuntimeError:
        raise InvalidOption(option=name, value=value, allowed="there is no such user's home folder") from None


def _text(name: str, value: object) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > 512 or not _storable(value):
        raise InvalidOption(option=name, value=_shown(value), allowed="text of at most 512 characters, in UTF-8")
    return value


def _storable(text: str) -> bool:
    """Whether `text` is Unicode without NUL. A file name that is not UTF-8 reaches Python as lone surrogates, which
    neither JSON nor the database can hold."""
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def _shown(value: object) -> str:
    """`value` for a message that can itself be stored and sent."""
    return str(value).encode("utf-8", "backslashreplace").decode()


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A task as the queue knows it. Times are epoch seconds; durations elsewhere are measured on a monotonic clock.

    Attributes:
        id: generated; unique for ever.
        request: what was asked for.
        state: see `TaskState`.
        attempt: the number of the attempt that runs or would run next, from 1.
        max_attempts: attempts before the task is failed.
        claim: how often the task was handed to a worker; with `attempt`, the fence around its outcome.
        progress: 0 to 1 within the attempt; never falls.
        stage: what it is busy with.
        worker_id: who has it, while it runs.
        not_before: not to be started before this time (a retry waits).
        created_at, started_at, finished_at: when; None where it has not happened.
        duration_seconds: length of the song, once known.
        stems: the result of a completed task.
        error: why its last attempt failed; None once a task is completed.
        history: the attempts that ended without a result.
        cached: whether its stems are those of an earlier task, and no worker computed them.
        result_key: what they were computed from and how (song, model, options), hashed; None where that is not known.
    """

    id: str
    request: TaskRequest
    state: TaskState = TaskState.QUEUED
    attempt: int = 1
    max_attempts: int = 3
    claim: int = 0
    progress: float = 0.0
    stage: Stage = Stage.QUEUED
    worker_id: str | None = None
    not_before: float = 0.0
    created_at: float = 0.0
    started_at: float | None = None
    finished_at: float | None = None
    duration_seconds: float | None = None
    stems: tuple[Stem, ...] = ()
    error: ErrorInfo | None = None
    history: tuple[Attempt, ...] = ()
    cached: bool = False
    result_key: str | None = None

    @property
    def is_final(self) -> bool:
        """Whether nothing moves this task any more by itself."""
        return self.state in FINAL


# --- outcomes of one attempt, as values ------------------------------------------------------------------------------


class Completed(msgspec.Struct, frozen=True, kw_only=True, tag="completed"):
    """The attempt wrote all its stems into `staging`; they are not published yet.

    Attributes:
        staging: absolute path of the temporary folder beside the destination.
        output_dir: absolute path below which the files belong.
        files: paths relative to both; the manifest stands last, so that its presence says that all are there.
        stems: as they will be once published.
        duration_seconds: length of the song.
        cached: whether they are those of an earlier task.
        result_key: as in `Task`.
    """

    staging: str
    output_dir: str
    files: tuple[str, ...]
    stems: tuple[Stem, ...]
    duration_seconds: float
    cached: bool = False
    result_key: str | None = None


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """The attempt failed."""

    error: ErrorInfo


class Cancelled(msgspec.Struct, frozen=True, kw_only=True, tag="cancelled"):
    """The attempt was stopped because it was asked to: by a caller, or by a shutdown."""


Outcome = Completed | Failed | Cancelled


# --- transitions -----------------------------------------------------------------------------------------------------


# The states from which a verb leads. The table alone cannot tell a retry from a revival: both lead to `queued`.
_RUNNING = frozenset({TaskState.RUNNING})
_WAITING = frozenset({TaskState.QUEUED})
_UNFINISHED = _RUNNING | _WAITING
_GIVEN_UP = frozenset({TaskState.FAILED, TaskState.CANCELLED})


def _move(task: Task, origins: frozenset[TaskState], state: TaskState, verb: str, **changes: Any) -> Task:
    if task.state not in origins or state not in TRANSITIONS[task.state]:
        raise IllegalTransition(task_id=task.id, state=task.state.value, verb=verb)
    return msgspec.structs.replace(task, state=state, **changes)


def _ended(task: Task, now: float, error: ErrorInfo | None) -> tuple[Attempt, ...]:
    """The history with the attempt that ends now."""
    started = task.started_at if task.started_at is not None else now
    last = Attempt(number=task.attempt, worker_id=task.worker_id, started_at=started, ended_at=now, error=error)
    return (*task.history, last)


def claim(task: Task, worker_id: str, now: float) -> Task:
    """queued → running: `worker_id` takes it."""
    return _move(
        task, _WAITING, TaskState.RUNNING, "started", claim=task.claim + 1, worker_id=worker_id, started_at=now,
        progress=0.0, stage=Stage.DECODING,
    )  # fmt: skip


def complete(task: Task, outcome: Completed, now: float) -> Task:
    """running → completed."""
    return _move(
        task, _RUNNING, TaskState.COMPLETED, "completed", stems=outcome.stems,
        duration_seconds=outcome.duration_seconds, progress=1.0, stage=Stage.DONE, finished_at=now,
        worker_id=None, error=None, cached=outcome.cached, result_key=outcome.result_key,
    )  # fmt: skip


def fail(task: Task, error: ErrorInfo, now: float) -> Task:
    """running → failed: no further attempt."""
    return _move(
        task, _RUNNING, TaskState.FAILED, "failed", error=error, finished_at=now, worker_id=None,
        history=_ended(task, now, error),
    )  # fmt: skip


def retry_later(task: Task, error: ErrorInfo, not_before: float, now: float) -> Task:
    """running → queued, for the next attempt, not before `not_before`."""
    return _move(
        task, _RUNNING, TaskState.QUEUED, "retried", attempt=task.attempt + 1, not_before=not_before, worker_id=None,
        started_at=None, progress=0.0, stage=Stage.QUEUED, error=error, history=_ended(task, now, error),
    )  # fmt: skip


def requeue(task: Task) -> Task:
    """running → queued, no attempt counted: a shutdown took the worker from it."""
    return _move(
        task, _RUNNING, TaskState.QUEUED, "requeued", worker_id=None, started_at=None, progress=0.0, stage=Stage.QUEUED
    )


def cancel(task: Task, now: float) -> Task:
    """queued or running → cancelled. The attempt that it ends, if one runs, stands in the history without an error."""
    history = _ended(task, now, None) if task.state is TaskState.RUNNING else task.history
    return _move(task, _UNFINISHED, TaskState.CANCELLED, "cancelled", finished_at=now, worker_id=None, history=history)


def revive(task: Task) -> Task:
    """failed or cancelled → queued, with a fresh count of attempts; the history stays."""
    return _move(
        task, _GIVEN_UP, TaskState.QUEUED, "retried", attempt=1, not_before=0.0, started_at=None, finished_at=None,
        progress=0.0, stage=Stage.QUEUED, error=None,
    )  # fmt: skip
