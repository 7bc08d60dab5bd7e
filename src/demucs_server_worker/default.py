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


class _Default:
    """The default manager, and the lock that lets only one call start it."""

    manager: WorkerManager | None = None
    starting: asyncio.Lock | None = None


async def _started() -> WorkerManager:
    if _Default.starting is None:
        _Default.starting = asyncio.Lock()
    async with _Default.starting:
        if _Default.manager is None:
            manager = WorkerManager()
            await manager.start()
            _Default.manager = manager
        return _Default.manager


async def add_task(request: Mapping[str, Any] | None = None, /, **fields: Any) -> Task:
    """`WorkerManager.add_task` of the default manager, which this call starts if need be."""
    return await (await _started()).add_task(request, **fields)


def get_status() -> dict[str, Any]:
    """`WorkerManager.get_status` of the default manager.

    Raises:
        ShuttingDown: it is not running; the first `add_task` starts it.
    """
    return _running().get_status()


async def wait(task_id: str) -> Task:
    """`WorkerManager.wait` of the default manager."""
    return await _running(task_id).wait(task_id)


async def cancel(task_id: str) -> Task:
    """`WorkerManager.cancel` of the default manager."""
    return await _running(task_id).cancel(task_id)


def events(task_id: str | None = None) -> AsyncIterator[Event]:
    """`WorkerManager.events` of the default manager."""
    return _running(task_id).events(task_id)


async def shutdown(grace_seconds: float | None = None) -> None:
    """`WorkerManager.shutdown` of the default manager; the next `add_task` starts another."""
    manager, _Default.manager, _Default.starting = _Default.manager, None, None
    if manager is not None:
        await manager.shutdown(grace_seconds)


def _running(task_id: str | None = None) -> WorkerManager:
    if _Default.manager is None:
        if task_id is not None:
            raise TaskNotFound(task_id=task_id)
        raise ShuttingDown("The default worker manager is not running. Its first add_task starts it.")
    return _Default.manager


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
