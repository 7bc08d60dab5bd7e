"""The messages between the pool and a worker: typed, one JSON object a line.

Down the worker's standard input go `Boot` (first and once), `Run`, `Cancel`, `Threads` and `Stop`; up its protocol
pipe come `Ready` or `BootFailed`, then `Heartbeat`, `Progress` and `Done`, and `Fetching` at any time. The end of
standard input means that the parent is gone: the worker ends at once.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from demucs_server_worker.errors import ErrorInfo
from demucs_server_worker.options import SeparationOptions
from demucs_server_worker.task import Outcome, Stage


class Boot(msgspec.Struct, frozen=True, kw_only=True, tag="boot"):
    """How the worker is to set itself up. First message of every worker's life.

    Attributes:
        worker_id: its name in logs and on the status.
        model: the model to load before it says `Ready`, or None to load at the first task.
        model_repo: folder of local models, or None for Demucs' own.
        device: `auto`, `cpu`, `mps`, `cuda`, `cuda:N`: for tasks whose options say `auto`.
        precision: likewise.
        threads: compute threads.
        backend: what runs models: `auto`, `torch` or `openvino`.
        cache_dir: folder of converted models, or None for the user's cache folder.
        heartbeat_seconds: how often it says that it lives.
    """

    worker_id: str
    model: str | None = None
    model_repo: str | None = None
    device: str = "auto"
    precision: str = "auto"
    threads: int = 1
    backend: Literal["auto", "torch", "openvino"] = "auto"
    cache_dir: str | None = None
    heartbeat_seconds: float = 1.0


class Run(msgspec.Struct, frozen=True, kw_only=True, tag="run"):
    """Separate one song. `task_id` and `claim` come back with everything said about it.

    Attributes:
        task_id, attempt, claim: as in `Task`.
        input_path: absolute path of the song.
        input_name: its name for people and for `{track}`.
        project_name: for `{project}`, or None.
        output_dir: absolute path of the folder below which the stems belong.
        staging: absolute path of the folder to write into; the worker creates it and, unless it completes, removes it.
        options: what was asked for.
        max_duration_seconds, max_file_bytes: limits, or None.
        conditions: part of the result's key, see `result_key`; None when no key is wanted.
    """

    task_id: str
    attempt: int
    claim: int
    input_path: str
    input_name: str
    project_name: str | None
    output_dir: str
    staging: str
    options: SeparationOptions
    max_duration_seconds: float | None = None
    max_file_bytes: int | None = None
    conditions: str | None = None


class Cancel(msgspec.Struct, frozen=True, kw_only=True, tag="cancel"):
    """Stop working on `task_id`, within a segment; answered by its `Done`. Ignored when it is not the current one."""

    task_id: str


class Threads(msgspec.Struct, frozen=True, kw_only=True, tag="threads"):
    """Use this many compute threads from the next segment on."""

    threads: int


class Stop(msgspec.Struct, frozen=True, kw_only=True, tag="stop"):
    """End: at once when idle, else after cancelling the current task."""


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag="ready"):
    """The worker can take a task. `boot_seconds` is what it took to get there, the model's loading included."""

    pid: int
    device: str
    model: str | None
    boot_seconds: float


class BootFailed(msgspec.Struct, frozen=True, kw_only=True, tag="boot_failed"):
    """The worker cannot work, and ends."""

    error: ErrorInfo


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, tag="heartbeat"):
    """The worker lives."""

    task_id: str | None = None


class Fetching(msgspec.Struct, frozen=True, kw_only=True, tag="fetching"):
    """A model's file is on its way: no deadline of booting and no stall while pieces arrive.

    It comes from the internet, or is being converted for a backend; then `bytes_done` is the seconds that has taken.
    """

    file: str
    bytes_done: int
    bytes_total: int | None = None


class Progress(msgspec.Struct, frozen=True, kw_only=True, tag="progress"):
    """How far the current task is: 0 to 1, never falling within a claim.

    `computing` turns true with the first forward pass; `duration_seconds` is known after the first decoding pass.
    """

    task_id: str
    claim: int
    progress: float
    stage: Stage
    duration_seconds: float | None = None
    computing: bool = False


class Done(msgspec.Struct, frozen=True, kw_only=True, tag="done"):
    """The current task ended; the worker is idle again.

    `compute_seconds` is the time the model's forward passes took, of `run_seconds` in all.
    """

    task_id: str
    claim: int
    outcome: Outcome
    run_seconds: float = 0.0
    compute_seconds: float = 0.0


ToWorker = Boot | Run | Cancel | Threads | Stop
FromWorker = Ready | BootFailed | Heartbeat | Fetching | Progress | Done

_encoder = msgspec.json.Encoder()
_to_worker: msgspec.json.Decoder[ToWorker] = msgspec.json.Decoder(ToWorker)
_from_worker: msgspec.json.Decoder[FromWorker] = msgspec.json.Decoder(FromWorker)


def encode(message: ToWorker | FromWorker) -> bytes:
    """One line, newline included."""
    return _encoder.encode(message) + b"\n"


def decode_to_worker(line: bytes) -> ToWorker:
    """Raises: msgspec.DecodeError for a line that is no message (ValidationError is one)."""
    return _to_worker.decode(line)


def decode_from_worker(line: bytes) -> FromWorker:
    """Raises: msgspec.DecodeError for a line that is no message (ValidationError is one)."""
    return _from_worker.decode(line)
