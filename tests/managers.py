"""Managers for tests: the real one, over the real queue and pool, with scripted workers that are up in a moment."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from demucs_server_worker.events import Event, EventKind
from demucs_server_worker.manager import WorkerManager
from demucs_server_worker.pool.local import LocalPool, PoolConfig
from demucs_server_worker.settings import load_settings
from demucs_server_worker.task import Task
from tests.workers import scripted

T = TypeVar("T")

DEADLINE_SECONDS = 180.0


def run(scene: Coroutine[Any, Any, T]) -> T:
    """Play an asynchronous scene to its end, within a deadline."""

    async def limited() -> T:
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await scene

    return asyncio.run(limited())


def manager(
    folder: Path, *, workers: int = 1, start: str = "well", sample_seconds: float = 2.0, **settings: Any
) -> WorkerManager:
    """A manager with its data in `folder`, and scripted workers that start as `start` says: a task's `input_name` says
    what they do with it. It looks at the health every `sample_seconds`."""
    values: dict[str, Any] = {"data_dir": folder / "data", "max_workers": workers, "retry_delay": 0, **settings}
    pool_holder: list[WorkerManager] = []
    pool = LocalPool(
        PoolConfig(
            size=workers, command=scripted(start), first_delay_seconds=0.01, model_repo=settings.get("model_repo")
        ),
        lambda event: pool_holder[0]._on_worker_event(event),
    )
    made = WorkerManager(load_settings(**values), pool=pool)
    pool_holder.append(made)
    made._health._config = dataclasses.replace(made._health._config, sample_seconds=sample_seconds)
    return made


async def add(manager: WorkerManager, folder: Path, script: str, **fields: Any) -> Task:
    """A task that makes a worker do `script` (see tests/workers.py), with its stems below `folder`/out."""
    (folder / "out").mkdir(exist_ok=True)
    return await manager.add_task(
        input_path=folder / "song.wav", output_dir=folder / "out", input_name=script, **fields
    )


@asynccontextmanager
async def heard(manager: WorkerManager) -> AsyncIterator[list[Event]]:
    """All events but progress that are published while the block runs."""
    events: list[Event] = []

    async def listen() -> None:
        async for event in manager.events():
            if event.kind is not EventKind.PROGRESS:
                events.append(event)

    listening = asyncio.create_task(listen())
    await asyncio.sleep(0)  # let it begin to listen
    try:
        yield events
        await asyncio.sleep(0)  # let it hear what was published last
    finally:
        listening.cancel()


async def until(manager: WorkerManager, kind: EventKind, task: Task | None = None) -> Event:
    """The next event of a kind, of one task or of any."""
    async for event in manager.events():
        if event.kind is kind and (task is None or event.task_id == task.id):
            return event
    raise AssertionError(f"the manager ended before {kind}")


def left_behind(folder: Path) -> list[str]:
    """What no task should leave: staging folders and their notes."""
    staging = [str(path) for path in (folder / "out").glob(".demucs-server-worker-*")]
    notes = [str(path) for path in (folder / "data" / "staging").glob("*")]
    return staging + notes
