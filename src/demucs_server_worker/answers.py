"""Tasks that are answered at once, with the stems of earlier ones: beside the workers, and through the same queue."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog

from demucs_server_worker.events import EventBus, EventKind
from demucs_server_worker.publication import StagingJournal, staging_path
from demucs_server_worker.queue.task_queue import TaskQueue
from demucs_server_worker.reuse import Reuse
from demucs_server_worker.settlement import Settlement
from demucs_server_worker.task import Cancelled, Origin, Outcome, Task, TaskRequest

# Who has a task while it is answered so; no worker is called this.
ANSWERER = "reuse"
# Whoever submits waits this long for an answer at once. Linking stems takes milliseconds, encoding them seconds.
ANSWER_SECONDS = 2.0

_log = structlog.get_logger("demucs_server_worker.answers")


class Answers:
    """Answers tasks whose stems are there already. What goes wrong leaves the task to the workers."""

    def __init__(
        self, reuse: Reuse, *, queue: TaskQueue, on_queue_thread: Callable[..., Awaitable[Any]], bus: EventBus,
        clock: Callable[[], float], settlement: Settlement, journal: StagingJournal,
        running: dict[str, asyncio.Task[None]], unannounced: set[str], wake: Callable[[], None],
    ) -> None:  # fmt: skip
        """Args: reuse: finds and brings stems; queue: the truth; on_queue_thread: runs a verb of it; bus: tells
        everyone; clock: epoch seconds; settlement: of attempts; journal: of staging folders; running, unannounced: the
        manager's attempts, these among them; wake: tells the dispatcher of a task that is queued again."""
        self._reuse = reuse
        self._queue = queue
        self._on_queue_thread = on_queue_thread
        self._bus = bus
        self._clock = clock
        self._settlement = settlement
        self._journal = journal
        self._running = running
        self._unannounced = unannounced
        self._wake = wake
        self._assembling: dict[str, asyncio.Task[Outcome | None]] = {}
        self._beginning: set[asyncio.Future[tuple[Task, bool]]] = set()
        self._given_up: set[str] = set()
        self._stopped = asyncio.Event()

    async def submit(self, request: TaskRequest, *, max_attempts: int) -> tuple[Task, bool] | None:
        """Store a request and answer it, if stems for it are there; None, with nothing stored, if they are not.

        Returns:
            The task, completed unless that takes a while; and whether it is new.

        Raises:
            TaskConflict: the `file_id` is known with another request.
        """
        sources = await self._reuse.sources(request)
        if not sources or self._stopped.is_set():
            return None
        # Carried out whole: a caller that is cancelled must not leave a task that is claimed and nobody has.
        beginning = asyncio.ensure_future(self._begin(request, sources, max_attempts))
        self._beginning.add(beginning)
        beginning.add_done_callback(self._beginning.discard)
        task, is_new = await asyncio.shield(beginning)
        if is_new and task.id in self._running:
            await asyncio.wait({self._running[task.id]}, timeout=ANSWER_SECONDS)
        if self._stopped.is_set():
            return task, is_new
        return await self._on_queue_thread(self._queue.get, task.id) or task, is_new

    async def _begin(self, request: TaskRequest, sources: list[Task], max_attempts: int) -> tuple[Task, bool]:
        # Queued and claimed in one transaction: a free worker must not get it in between.
        before, task, is_new = await self._on_queue_thread(
            self._queue.put_claimed, request, worker_id=ANSWERER, now=self._clock(), max_attempts=max_attempts
        )
        if is_new:
            self._bus.publish(EventKind.QUEUED, task=before)
            self._unannounced.add(task.id)
            self._running[task.id] = asyncio.create_task(self._attempt(task, sources), name=f"task {task.id}")
        return task, is_new

    async def outcome(self, task: Task, staging: Path, sources: list[Task] | None = None) -> Outcome | None:
        """The outcome of a task that was claimed, from the stems of earlier ones; None if they are of no use.

        Args:
            task: as it was claimed.
            staging: the folder to make.
            sources: earlier tasks; None looks for them.
        """
        # A song that is not ours may be another since it was hashed: only an upload is looked up again.
        if task.request.input_sha256 is None or (sources is None and task.request.origin is not Origin.UPLOAD):
            return None
        if self._stopped.is_set():
            return Cancelled()
        assembling = asyncio.create_task(self._assemble(task, staging, sources), name=f"reuse {task.id}")
        self._assembling[task.id] = assembling
        try:
            await asyncio.wait({assembling})
        finally:
            assembling.cancel()
            del self._assembling[task.id]
        # A wish to cancel may have come when it was through already, and this had not been told yet.
        if assembling.cancelled() or task.id in self._given_up:
            self._given_up.discard(task.id)
            return Cancelled()
        return assembling.result()

    def cancel(self, task_id: str) -> None:
        """Give up a task that is being answered; its outcome will be that it was cancelled."""
        if task_id in self._assembling:
            self._given_up.add(task_id)
            self._assembling[task_id].cancel()

    def stop(self) -> None:
        """Give up all of them: the manager stops, and they return to the queue."""
        self._stopped.set()
        for task_id in self._assembling:
            self.cancel(task_id)

    async def _assemble(self, task: Task, staging: Path, sources: list[Task] | None) -> Outcome | None:
        try:
            if sources is None:
                sources = await self._reuse.sources(task.request)
            return await self._reuse.assemble(task, staging, sources)
        except Exception:
            # Were it to end here, the task would be nobody's until the next start, and its worker with it.
            _log.exception("a task could not be answered at once", task=task.id)
            return None

    async def _attempt(self, task: Task, sources: list[Task]) -> None:
        self._bus.publish(EventKind.STARTED, task=task)
        staging = staging_path(task.request.output_dir, task.id, task.claim)
        try:
            self._journal.open(task.id, task.claim, staging)
            outcome = await self.outcome(task, staging, sources)
            if outcome is None:
                await self._leave_to_workers(task)
            if outcome is None or await self._settlement.settle(task, outcome, staging):
                self._journal.close(task.id, task.claim)
        except OSError as error:
            _log.error("a task could not be answered at once", task=task.id, reason=str(error))
            await self._leave_to_workers(task)
        except Exception:
            # The database refused to the end: the task stays running there, and the next start requeues it.
            _log.exception("the outcome could not be stored", task=task.id)
        finally:
            del self._running[task.id]
            self._unannounced.discard(task.id)

    async def _leave_to_workers(self, task: Task) -> None:
        queued = await self._on_queue_thread(self._queue.requeue, task)
        if queued is not None:
            self._bus.publish(EventKind.QUEUED, task=queued)
            self._wake()
