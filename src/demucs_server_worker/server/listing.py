"""Lists of tasks. A page of hundreds takes longer to read and to write than others should wait: a thread does both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

from demucs_server_worker.errors import ShuttingDown, TaskNotFound
from demucs_server_worker.manager import WorkerManager
from demucs_server_worker.queue.reader import Page, TaskReader
from demucs_server_worker.task import Task, TaskState
from demucs_server_worker.wire.task import TaskPage, task_body

P = ParamSpec("P")
T = TypeVar("T")


class Listing:
    """Lists the tasks of a manager on one thread, a list after the other. It belongs to one event loop."""

    def __init__(self, manager: WorkerManager) -> None:
        """Args: manager: of the tasks; only what its running attempts have come to is asked of it."""
        self._manager = manager
        self._thread = ThreadPoolExecutor(1, "lists")

    def close(self) -> None:
        """Begin no more lists: the manager has ended, and its data folder may be another's."""
        self._thread.shutdown(wait=False)

    async def page(self, state: TaskState | None, *, limit: int, cursor: int | None) -> bytes:
        """A page of tasks, newest first, as the JSON of `TaskPage`.

        Args:
            state: only tasks in this state.
            limit: most tasks to give.
            cursor: of the page before.

        Raises:
            ShuttingDown: it was closed.
        """
        page, places = await self._aside(self._read, state, limit, cursor)
        tasks = [now for task in page.tasks if (now := self._as_it_is(task)) and state in (None, now.state)]
        etas = {task.id: self._manager.eta_seconds(task.id) for task in tasks if task.state is TaskState.RUNNING}
        return await self._aside(_written, tasks, places, etas, page.cursor)

    async def _aside(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            working = self._thread.submit(work, *args, **kwargs)
        except RuntimeError:
            raise ShuttingDown from None
        return await asyncio.wrap_future(working)

    def _as_it_is(self, task: Task) -> Task | None:
        """The task as clients may see it now; None when it was deleted since it was read."""
        if task.state is not TaskState.RUNNING:
            return self._manager.with_progress(task)
        # It may have ended since: without its attempt, it would seem to begin anew.
        with suppress(TaskNotFound):
            return self._manager.get_task(task.id)
        return None

    def _read(self, state: TaskState | None, limit: int, cursor: int | None) -> tuple[Page, dict[str, int]]:
        with TaskReader(Path(self._manager.settings.data_dir, "queue.db")) as reader:
            page = reader.page(state, limit=limit, cursor=cursor)
            return page, reader.positions(page.tasks)


def _written(
    tasks: Sequence[Task], places: Mapping[str, int], etas: Mapping[str, float | None], cursor: int | None
) -> bytes:
    bodies = tuple(
        task_body(task, eta_seconds=etas.get(task.id), queue_position=places.get(task.id), remote=True)
        for task in tasks
    )
    return TaskPage(tasks=bodies, cursor=cursor).model_dump_json().encode()
