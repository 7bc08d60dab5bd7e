"""A worker manager on real workers, as the benches use it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from bench.paths import CONVERTED
from demucs_server_worker.manager import WorkerManager
from demucs_server_worker.pool.base import WorkerState
from demucs_server_worker.settings import Settings, load_settings


def settings(data_dir: Path, *, model: str, repo: Path | None, workers: int | str, **more: Any) -> Settings:
    """Settings that stop nothing, with the conversions that all benches share."""
    return load_settings(
        data_dir=data_dir, model=model, model_repo=repo, max_workers=workers, cache_dir=CONVERTED,
        shutdown_grace=0, max_queued=10**6, max_file_size=2**40, max_duration=1e9, task_timeout=10**12,
        log_level="error", **more,
    )  # fmt: skip


async def all_idle(manager: WorkerManager) -> None:
    """Wait until each worker has its model and nothing to do.

    Raises:
        RuntimeError: one does not start.
    """
    while any(worker.state is not WorkerState.IDLE for worker in manager.workers()):
        problems = [worker.problem for worker in manager.workers() if worker.problem]
        if problems:
            raise RuntimeError(problems[0])
        await asyncio.sleep(0.05)


async def separate_all(manager: WorkerManager, songs: list[Path], out: Path, **options: Any) -> None:
    """Add all of them at once, and wait for the last."""
    tasks = [
        await manager.add_task(input_path=song, output_dir=out, project_name=str(number), **options)
        for number, song in enumerate(songs)
    ]
    for task in tasks:
        await manager.wait(task.id)
