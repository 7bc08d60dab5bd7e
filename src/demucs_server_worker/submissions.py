"""Tasks on their way into the queue: those that come while the disk is busy share the next wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context

from demucs_server_worker.errors import RequestError
from demucs_server_worker.task import Task, TaskRequest

Stored = tuple[Task, bool] | RequestError
PutAll = Callable[[Sequence[TaskRequest]], Awaitable[list[Stored]]]


class Submissions:
    """Stores requests in the order in which they come, in as few transactions as that takes.

    A caller who is cancelled while it waits does not know whether its task was stored; it was, or will be.
    """

    def __init__(self, put_all: PutAll) -> None:
        """Args: put_all: stores several requests durably, in one transaction."""
        self._put_all = put_all
        self._waiting: list[tuple[TaskRequest, asyncio.Future[Stored]]] = []
        self._storing: asyncio.Task[None] | None = None

    async def put(self, request: TaskRequest) -> tuple[Task, bool]:
        """Store `request`; when this returns, it is on disk.

        Returns:
            The task, and whether it is new.

        Raises:
            TaskConflict, QueueFull: as `TaskQueue.put`.
        """
        answer: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, answer))
        if self._storing is None:
            # In no request's context: what is logged there is about the tasks of several.
            self._storing = asyncio.create_task(self._store_all(), name="submissions", context=Context())
        stored = await answer
        if isinstance(stored, RequestError):
            raise stored
        return stored

    async def _store_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                await self._store(batch)
        finally:
            self._storing = None

    async def _store(self, batch: list[tuple[TaskRequest, asyncio.Future[Stored]]]) -> None:
        try:
            stored = await self._put_all([request for request, _ in batch])
        except Exception as error:  # the disk refused all of them, and each caller is to know
            for _, answer in batch:
                if not answer.done():
                    answer.set_exception(error)
            return
        for (_, answer), result in zip(batch, stored, strict=True):
            if not answer.done():
                answer.set_result(result)
