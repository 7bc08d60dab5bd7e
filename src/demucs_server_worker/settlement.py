"""How an attempt ends: its outcome is stored, its stems are published, and everyone is told. In that order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import structlog

from demucs_server_worker import publication, retry
from demucs_server_worker.errors import DemucsWorkerError, DiskFull, ErrorInfo, QueueLocked, WorkerCrashed
from demucs_server_worker.events import EventBus, EventKind
from demucs_server_worker.pool.backoff import Backoff
from demucs_server_worker.queue.task_queue import TaskQueue
from demucs_server_worker.task import Cancelled, Completed, Failed, Outcome, Task

T = TypeVar("T")

_log = structlog.get_logger("demucs_server_worker.settlement")


class Settlement:
    """Settles attempts. What a full or locked disk keeps it from is tried again until it works or the manager stops."""

    def __init__(
        self,
        *,
        queue: TaskQueue,
        on_queue_thread: Callable[..., Awaitable[Any]],
        bus: EventBus,
        clock: Callable[[], float],
        retry_delay: float,
        stopping: asyncio.Event,
        peak_memory: Callable[[str], int | None],
    ) -> None:
        """Args: queue: the truth; on_queue_thread: runs a verb of it; bus: tells everyone; clock: epoch seconds;
        retry_delay: seconds before a second attempt; stopping: set when the manager stops; peak_memory: bytes that the
        worker of a task took at most, if known."""
        self._queue = queue
        self._on_queue_thread = on_queue_thread
        self._bus = bus
        self._clock = clock
        self._retry_delay = retry_delay
        self._stopping = stopping
        self._peak_memory = peak_memory

    async def settle(self, task: Task, outcome: Outcome, staging: Path) -> bool:
        """Store the outcome, unless the task is no longer this attempt's; then tell everyone.

        Args:
            task: as it was claimed.
            outcome: of the attempt.
            staging: the folder that the attempt wrote into.

        Returns:
            Whether the staging folder is done with. It is not when the manager stops before its files could be moved;
            the next start moves them.
        """
        match outcome:
            case Completed():
                if not await self._complete(task, outcome):
                    return False
            case Failed(error=error):
                await self._fail(task, error)
            case Cancelled() if self._stopping.is_set():
                await self._store(self._queue.requeue, task)
            case Cancelled():
                # A caller's cancel stored it before it asked the worker to stop; anything else is a worker's whim.
                await self._fail(task, WorkerCrashed(detail="it gave the task up without being asked to").info)
        await asyncio.to_thread(publication.discard, staging)
        return True

    async def _complete(self, task: Task, outcome: Completed) -> bool:
        """Commit, then publish: a crash in between is put right by the next start, and nobody sees half a result."""
        try:
            await asyncio.to_thread(publication.prepare, outcome.output_dir, outcome.files)
        except DemucsWorkerError as error:
            await self._fail(task, error.info)
            return True
        done = await self._store(self._queue.complete, task, outcome, self._clock())
        if done is None:
            return True
        if not await self._publish(task, outcome):
            return False
        peak = self._peak_memory(task.id)
        self._bus.publish(EventKind.COMPLETED, task=done, worker_id=task.worker_id, peak_memory_bytes=peak)
        return True

    async def _publish(self, task: Task, outcome: Completed) -> bool:
        backoff = Backoff()
        while True:
            try:
                await asyncio.to_thread(publication.publish, outcome.staging, outcome.output_dir, outcome.files)
                await self._store(self._queue.published, task.id)
                return True
            except DemucsWorkerError as error:
                _log.error("stems cannot be moved to their place yet", task=task.id, code=error.code, reason=str(error))
            if not await self._pause(backoff):
                return False

    async def _fail(self, task: Task, error: ErrorInfo) -> None:
        now = self._clock()
        not_before = retry.next_attempt(task, error, now, base_seconds=self._retry_delay)
        if not_before is None:
            after = await self._store(self._queue.fail, task, error, now)
            kind = EventKind.FAILED
        else:
            after = await self._store(self._queue.retry_later, task, error, not_before, now)
            kind = EventKind.RETRYING
        if after is not None:
            self._bus.publish(kind, task=after, worker_id=task.worker_id, error=error)

    async def _store(self, verb: Callable[..., T], *args: Any) -> T:
        """Carry out a verb of the queue; a disk that is full or locked for a while must not lose an outcome.

        Raises:
            DiskFull, QueueLocked: it still was when the manager stopped. The next start takes the task back.
        """
        backoff = Backoff()
        while True:
            try:
                result: T = await self._on_queue_thread(verb, *args)
                return result
            except (DiskFull, QueueLocked) as error:
                _log.error("an outcome cannot be stored yet", code=error.code, reason=str(error))
                if not await self._pause(backoff):
                    raise

    async def _pause(self, backoff: Backoff) -> bool:
        """Wait before another try; False when the manager stops meanwhile."""
        try:
            async with asyncio.timeout(backoff.delay()):
                await self._stopping.wait()
        except TimeoutError:
            return True
        return False
