"""The functions of the module itself: one default manager, started when first needed, and `separate` for scripts."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

from demucs_server_worker.errors import ShuttingDown, TaskNotFound
from demucs_server_worker.events import Event
from demucs_server_worker.manager import WorkerManager
from demucs_server_worker.settings import Settings, load_settings
from demucs_server_worker.task import Task


class _Life:
    """The default manager from its start to its end, on the event loop that started it."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.manager = WorkerManager()
        self.ready: asyncio.Future[None] = self.loop.create_future()
        self.over = asyncio.Event()
        self.task = self.loop.create_task(self._live(), name="default manager")

    @property
    def is_running(self) -> bool:
        """Whether the manager can be used: it has started, and its shutdown is not over."""
        return self.ready.done() and not self.task.done() and not self.over.is_set()

    async def _live(self) -> None:
        """Start the manager and wait for its end. `asyncio.run` cancels what is left when its main coroutine is done:
        then a program that forgot `shutdown` does not hang, leaves no worker, and what was running is queued again."""
        try:
            await self.manager.start()
        except Exception as error:
            self.ready.set_exception(error)
            return
        self.ready.set_result(None)
        try:
            await self.over.wait()
        except asyncio.CancelledError:
            await self.manager.shutdown(0)
            raise


class _Default:
    life: _Life | None = None


async def _started() -> WorkerManager:
    """The default manager; calls that come while it starts wait for it."""
    life = _Default.life
    if life is None or life.task.done():
        life = _Default.life = _Life()
    elif life.loop is not asyncio.get_running_loop():
        raise RuntimeError(
            "The default worker manager belongs to another event loop. Await its shutdown() there before that loop "
            "ends, or use a WorkerManager with a data_dir of its own."
        )
    await asyncio.shield(life.ready)
    return life.manager


async def add_task(request: Mapping[str, Any] | None = None, /, **fields: Any) -> Task:
    """Put a task into the queue of the default manager, which the first call starts with settings from the environment.

    Args:
        request: the fields as a mapping, instead of or beside keyword arguments.
        fields: see `WorkerManager.add_task`.

    Returns:
        The task, which is on disk now.

    Raises:
        InvalidOption, TaskConflict, QueueFull: see `WorkerManager.add_task`.
        InvalidSetting, DataFolderInUse, …: the manager cannot start; see `WorkerManager.start`.
        RuntimeError: it belongs to another event loop.
    """
    return await (await _started()).add_task(request, **fields)


def get_status() -> dict[str, Any]:
    """The state of queue, workers and machine, as `WorkerManager.get_status` gives it.

    Raises:
        ShuttingDown: the default manager is not running; the first `add_task` starts it.
    """
    return _running().get_status()


async def wait(task_id: str) -> Task:
    """Wait until a task of the default manager is completed and its stems are at their place.

    Raises:
        TaskFailed, TaskCancelled: it ended otherwise.
        TaskNotFound: there is no such task.
        ShuttingDown: the manager was stopped before.
    """
    return await _running(task_id).wait(task_id)


async def cancel(task_id: str) -> Task:
    """Cancel a queued or running task of the default manager; returns when its worker is free of it.

    Raises:
        TaskNotFound: there is no such task.
        IllegalTransition: it ended already.
    """
    return await _running(task_id).cancel(task_id)


def events(task_id: str | None = None) -> AsyncIterator[Event]:
    """What happens from now on: to one task, up to its final event, or to all tasks and workers.

    Raises:
        TaskNotFound: there is no such task.
        ShuttingDown: the default manager is not running; the first `add_task` starts it.
    """
    return _running(task_id).events(task_id)


async def shutdown(grace_seconds: float | None = None) -> None:
    """Stop the default manager, if it runs: running tasks get the grace period, the rest stays queued on disk.

    The next `add_task` starts it again.

    Args:
        grace_seconds: for running tasks; None takes DEMUCS_WORKER_SHUTDOWN_GRACE.
    """
    life = _Default.life
    if life is not None and not life.task.done():
        await asyncio.wait({life.ready})
        if life.is_running:
            await life.manager.shutdown(grace_seconds)
        life.over.set()
        await asyncio.wait({life.task})


def _running(task_id: str | None = None) -> WorkerManager:
    life = _Default.life
    if life is not None and life.is_running:
        return life.manager
    if task_id is not None:
        raise TaskNotFound(task_id=task_id)
    raise ShuttingDown("The default worker manager is not running. Its first add_task starts it.")


def separate(
    files: str | Path | Iterable[str | Path],
    output_dir: str | Path,
    *,
    settings: Settings | None = None,
    **options: Any,
) -> list[Task]:
    """Separate files and wait for them: the one-line call for scripts. Needs no server and leaves no process.

    Args:
        files: one song or several.
        output_dir: folder below which the stems are written.
        settings: None reads them from the environment; the queue lives in a temporary folder either way.
        options: any separation option, e.g. `model="htdemucs_ft"`, `stems=["vocals"]`, `format="flac"`.

    Returns:
        The finished tasks in the order of `files`; each is completed, or failed with its `error`.

    Raises:
        InvalidOption: an option does not fit.
        RuntimeError: called from a running event loop; use `WorkerManager` there.
    """
    songs = [files] if isinstance(files, str | Path) else list(files)
    return asyncio.run(_separate(songs, Path(output_dir), settings or load_settings(), options))


async def _separate(
    songs: list[str | Path], output_dir: Path, settings: Settings, options: dict[str, Any]
) -> list[Task]:  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="demucs-server-worker-") as folder:
        async with WorkerManager(settings, data_dir=Path(folder)) as manager:
            tasks = [await manager.add_task(input_path=song, output_dir=output_dir, **options) for song in songs]
            for task in tasks:
                async for _ in manager.events(task.id):
                    pass
            return [manager.get_task(task.id) for task in tasks]
