"""What a manager that was killed left behind, put right at the start of the next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog

from demucs_server_worker import publication
from demucs_server_worker.errors import DemucsWorkerError
from demucs_server_worker.events import EventBus, EventKind
from demucs_server_worker.queue.task_queue import TaskQueue
from demucs_server_worker.task import TaskState

_log = structlog.get_logger("demucs_server_worker.recovery")


async def recover(
    queue: TaskQueue, on_queue_thread: Callable[..., Awaitable[Any]], journal: publication.StagingJournal,
    bus: EventBus, now: float,
) -> None:  # fmt: skip
    """Complete what was committed and not published, discard what was half written, requeue what was running.

    Args:
        queue: the truth.
        on_queue_thread: runs a verb of it.
        journal: of staging folders.
        bus: tells everyone.
        now: epoch seconds.
    """
    unpublished = set()
    for pending in await on_queue_thread(queue.pending_publications):
        try:
            await asyncio.to_thread(publication.publish, pending.staging, pending.output_dir, pending.files)
            await on_queue_thread(queue.published, pending.task_id)
            _log.warning("publication completed after a crash", task=pending.task_id)
        except DemucsWorkerError as error:
            # Kept for the next start: a disk may be full, or a volume not be there yet.
            unpublished.add(Path(pending.staging))
            _log.error("stems cannot be moved to their place", task=pending.task_id, reason=str(error))
    for staging in journal.sweep(keep=unpublished):
        _log.warning("half-written folder removed after a crash", folder=str(staging))
    for task in await on_queue_thread(queue.recover, now):
        kind = EventKind.FAILED if task.state is TaskState.FAILED else EventKind.RETRYING
        bus.publish(kind, task=task, error=task.error)
