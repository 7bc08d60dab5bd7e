"""The dispatch loop: joins the queue, the pool and what the machine has memory for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from demucs_server_worker.errors import ShuttingDown
from demucs_server_worker.health.monitor import HealthMonitor
from demucs_server_worker.pool.backoff import Backoff
from demucs_server_worker.pool.base import Pool
from demucs_server_worker.queue.task_queue import TaskQueue
from demucs_server_worker.task import Task

_log = structlog.get_logger("demucs_server_worker.dispatch")


class Dispatcher:
    """Whenever a task is due, a worker is free and there is memory for it: claims the task for the worker.

    The next task by priority is never overtaken: while there is too little memory for it, those behind it wait too.
    """

    def __init__(
        self,
        *,
        queue: TaskQueue,
        on_queue_thread: Callable[..., Awaitable[Any]],
        pool: Pool,
        health: HealthMonitor,
        clock: Callable[[], float],
        begin: Callable[[Task, str], None],
    ) -> None:
        """Args: queue: tasks come from there; on_queue_thread: runs a verb of it; pool: workers; health: knows the
        memory; clock: epoch seconds; begin: takes each task that was claimed, and the id of its worker."""
        self._queue = queue
        self._on_queue_thread = on_queue_thread
        self._pool = pool
        self._health = health
        self._clock = clock
        self._begin = begin
        self._wake = asyncio.Event()
        self._lacks_memory = False
        self._stopping = False
        self._loop: asyncio.Task[None] | None = None
        self._claiming: asyncio.Task[bool] | None = None

    def start(self) -> None:
        """Begin to hand out tasks."""
        self._loop = asyncio.create_task(self._run(), name="dispatcher")

    async def stop(self) -> None:
        """Claim no more tasks. One whose claim is under way is begun or queued again before this returns."""
        self._stopping = True
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait({self._loop})
        if self._claiming is not None:
            await asyncio.wait({self._claiming})

    def wake(self) -> None:
        """There is a new task, or one has ended."""
        self._wake.set()

    def consider_memory(self) -> None:
        """There are new figures of the memory: a task that waits for it may be let through."""
        if self._lacks_memory:
            self._wake.set()

    async def _run(self) -> None:
        """Hand out tasks until stopped. What goes wrong (no memory, no descriptor, a locked database) passes."""
        backoff = Backoff()
        while not self._stopping:
            try:
                await self._hand_out_next()
                self._health.report("dispatch", None)
                backoff.reset()
            except ShuttingDown:
                return
            except Exception as error:
                _log.exception("no task can be started")
                self._health.report("dispatch", f"No task can be started: {error}")
                await asyncio.sleep(backoff.delay())

    async def _hand_out_next(self) -> None:
        await self._until_due()
        worker_id = await self._pool.acquire()
        self._wake.clear()
        # A shutdown cancels this loop, and must not lose a task between its claim and its attempt.
        self._claiming = asyncio.create_task(self._claim(worker_id), name="claim")
        self._lacks_memory = not await asyncio.shield(self._claiming)
        if self._lacks_memory:
            await self._wake.wait()

    async def _claim(self, worker_id: str) -> bool:
        """Claim the next task for the worker; False when there is too little memory to start it.

        A task of a higher priority that comes between the look and the claim goes first, unweighed: the order counts
        for more than the estimate.
        """
        try:
            task: Task | None = await self._on_queue_thread(self._queue.peek, self._clock())
            admitted = self._health.admits(task, worker_id)
            task = await self._on_queue_thread(self._queue.claim, worker_id, self._clock()) if admitted else None
        except BaseException:
            self._pool.release(worker_id)
            raise
        if task is None:
            self._pool.release(worker_id)
        elif self._stopping:
            await self._on_queue_thread(self._queue.requeue, task)
        else:
            self._begin(task, worker_id)
        return admitted

    async def _until_due(self) -> None:
        while True:
            self._wake.clear()
            now = self._clock()
            if await self._on_queue_thread(self._queue.peek, now) is not None:
                return
            if self._lacks_memory:
                # What waited was cancelled.
                self._lacks_memory = False
                self._health.no_task_waits()
            due: float | None = await self._on_queue_thread(self._queue.next_due, now)
            try:
                async with asyncio.timeout(None if due is None else max(0.0, due - now)):
                    await self._wake.wait()
            except TimeoutError:
                continue
