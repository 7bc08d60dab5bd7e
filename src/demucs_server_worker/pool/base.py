"""What any pool must do, whether its workers are on this machine or elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

import msgspec

from demucs_server_worker.errors import DemucsWorkerError
from demucs_server_worker.task import Outcome
from demucs_server_worker.worker.messages import Progress, Run

ProgressListener = Callable[[Progress], None]


class WorkerState(StrEnum):
    """Where a worker's process is in its life."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    STOPPING = "stopping"
    DEAD = "dead"


class WorkerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A worker as the status shows it.

    `compute_seconds` is the time that forward passes of its completed tasks took; `problem` says in words why it does
    not start, where it does not.
    """

    id: str
    pid: int | None
    state: WorkerState
    device: str | None
    task_id: str | None
    progress: float
    tasks_done: int
    restarts: int
    uptime_seconds: float
    compute_seconds: float = 0.0
    problem: str | None = None


class WorkerEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something happened to a worker: `kind` is `worker_started` or `worker_died`."""

    kind: str
    worker_id: str
    pid: int | None
    detail: str


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """When a running job is taken from its worker.

    Attributes:
        timeout_seconds: for the whole attempt.
        stall_seconds: without progress.
        grace_seconds: between asking a worker to stop and killing its process group.
    """

    timeout_seconds: float = 900.0
    stall_seconds: float = 300.0
    grace_seconds: float = 5.0


class Pool(Protocol):
    """Keeps workers alive. The dispatcher acquires one, claims a task for it, and runs the task on it."""

    async def start(self) -> None:
        """Begin to start the workers; returns at once. `acquire` waits for the first that is ready."""

    async def acquire(self) -> str:
        """Wait for an idle worker, reserve it, and give its id. Fair among waiters; safe to cancel.

        Of several it is the one that worked last: its memory is warm, and the others' stays small."""

    def release(self, worker_id: str) -> None:
        """Give back a worker that was acquired and not used."""

    async def run(self, worker_id: str, job: Run, limits: Limits, on_progress: ProgressListener) -> Outcome:
        """Run `job` on an acquired worker, and give its outcome; never raises for what happens to the worker.

        A worker that dies gives `Failed` (`worker_crashed`, or `out_of_memory`), one that hangs `worker_hung`, one
        that exceeds the limit `timed_out`. Afterwards the worker is idle again, or being replaced. When the caller's
        own asyncio task is cancelled, the job is stopped as by `cancel` before CancelledError is passed on.
        """

    async def cancel(self, task_id: str, reason: DemucsWorkerError | None = None) -> bool:
        """Stop the job of `task_id`: ask, wait the grace period, kill the process group, start a new worker.

        Its `run` then gives `Cancelled`, or `Failed` with `reason`. Returns False when no worker has it.
        """

    def recycle(self, worker_id: str, reason: DemucsWorkerError) -> None:
        """Replace a worker: kill it at once, without asking, and start a new one. Its job, if it has one, gives
        `Failed` with `reason`. For one that must not go on for another moment; it says nothing of the job's wish."""

    def set_threads(self, threads: int) -> None:
        """Tell every worker to compute with this many threads from now on."""

    def workers(self) -> list[WorkerInfo]:
        """All workers, by id."""

    async def stop(self, grace_seconds: float) -> None:
        """End all workers: those that are busy are cancelled, and killed after the grace period. No orphan stays."""
