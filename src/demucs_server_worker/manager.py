"""WorkerManager: the public verbs, and what becomes of each attempt."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec
import structlog

from demucs_server_worker import __version__, publication
from demucs_server_worker.answers import Answers
from demucs_server_worker.assistant.assistant import Assistant
from demucs_server_worker.clock import SteadyClock
from demucs_server_worker.dispatch import Dispatcher
from demucs_server_worker.errors import (
    DiskFull,
    ErrorInfo,
    RequestError,
    ShuttingDown,
    TaskCancelled,
    TaskFailed,
    TaskNotFound,
    WorkerFailure,
)
from demucs_server_worker.events import FINAL_KINDS, Event, EventBus, EventKind, only
from demucs_server_worker.folder_lock import FolderLock
from demucs_server_worker.health.monitor import HealthMonitor
from demucs_server_worker.health.sampler import SystemSampler
from demucs_server_worker.live import Live
from demucs_server_worker.logs import configure_logging, log_event
from demucs_server_worker.machine import basics
from demucs_server_worker.machine.gpus import Gpus
from demucs_server_worker.pool.base import Pool, WorkerEvent, WorkerInfo
from demucs_server_worker.queue.deliveries import Deliveries
from demucs_server_worker.queue.reader import Page, TaskReader
from demucs_server_worker.queue.task_queue import TaskQueue
from demucs_server_worker.queue_thread import QueueThread
from demucs_server_worker.recovery import recover
from demucs_server_worker.reuse import Reuse
from demucs_server_worker.settings import Settings, load_settings
from demucs_server_worker.settlement import Settlement
from demucs_server_worker.sizing import threads_per_worker
from demucs_server_worker.status import status_of
from demucs_server_worker.submissions import Stored, Submissions
from demucs_server_worker.task import Completed, Failed, Outcome, Task, TaskRequest, TaskState
from demucs_server_worker.worker.messages import Progress
from demucs_server_worker.workforce import CANCEL_GRACE_SECONDS, health_config, limits_of, local_pool, run_of

T = TypeVar("T")

_log = structlog.get_logger("demucs_server_worker.manager")


class WorkerManager:
    """Owns a queue and a pool: takes tasks, hands them to free workers, follows their state, loses none.

    Use it as `async with WorkerManager() as manager`, or call `start` and `shutdown`. All methods belong to the event
    loop that started it.
    """

    def __init__(self, settings: Settings | None = None, *, pool: Pool | None = None, **arguments: Any) -> None:
        """Prepare a manager; nothing runs yet.

        Args:
            settings: all settings; None reads them from the environment, with `arguments` on top.
            pool: the workers; None makes a pool of processes on this machine from the settings.
            arguments: settings by their names, e.g. `max_workers=2`.

        Raises:
            InvalidSetting: one line with the setting, the value and what is allowed.
        """
        self.settings = settings if settings is not None and not arguments else _merged(settings, arguments)
        self._clock = SteadyClock()
        self._cores = basics.cores()
        self._gpus = Gpus()
        self._bus = EventBus(self._clock)
        self._bus.call(log_event)
        self._bus.call(self._on_event)
        self._pool = pool or local_pool(self.settings, self._gpus, self._on_worker_event)
        self._database_thread = QueueThread()
        self._on_database_thread = self._database_thread.run
        self._running: dict[str, asyncio.Task[None]] = {}
        # Between the commit of an outcome and its event, a task is final and its listeners have not heard so.
        self._unannounced: set[str] = set()
        self._live: dict[str, Live] = {}
        self._accepting = False
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._stopped: asyncio.Future[None] | None = None
        self._started_at = 0.0
        self._health = self._monitor()
        self._dispatcher: Dispatcher | None = None

    def _monitor(self) -> HealthMonitor:
        return HealthMonitor(
            health_config(self.settings),
            pool=self._pool,
            sampler=SystemSampler(self.settings.data_dir, self._gpus),
            queued=lambda: self._reader.counts().queued,
            on_change=self._on_health_change,
            on_look=self._on_look,
        )

    # --- life ---------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.shutdown()

    async def start(self) -> None:
        """Open the data folder, put right what a crash left, and begin to work off the queue.

        Raises:
            DataFolderInUse: another manager runs on the same folder.
            QueueCorrupt, OutputNotWritable, …: the data folder cannot be used.
        """
        if not structlog.is_configured():
            configure_logging(self.settings.log_level, self.settings.log_format)
        folder = self.settings.data_dir
        self._lock = FolderLock(folder)
        self._lock.acquire()
        try:
            self._started_at = time.monotonic()
            self._journal = publication.StagingJournal(folder / "staging")
            self._queue = await self._on_database_thread(TaskQueue, folder / "queue.db")
            self._reader = TaskReader(folder / "queue.db")
            self._submissions = Submissions(self._put_all)
            self._settlement = Settlement(
                queue=self._queue, on_queue_thread=self._on_database_thread, bus=self._bus, clock=self._clock,
                retry_delay=self.settings.retry_delay, stopping=self._stopping, peak_memory=self._health.peak,
            )  # fmt: skip
            self._reuse = Reuse(self.settings, self._reader)
            self._answers = Answers(
                self._reuse, queue=self._queue, on_queue_thread=self._on_database_thread, bus=self._bus,
                clock=self._clock, settlement=self._settlement, journal=self._journal, running=self._running,
                unannounced=self._unannounced, wake=self._wake,
            )  # fmt: skip
            await recover(self._queue, self._on_database_thread, self._journal, self._bus, self._clock())
            await self._pool.start()
            await self._health.start()
        except BaseException:
            self._lock.release()
            raise
        self._accepting = True
        self._dispatcher = Dispatcher(
            queue=self._queue, on_queue_thread=self._on_database_thread, pool=self._pool, health=self._health,
            clock=self._clock, begin=self._begin,
        )  # fmt: skip
        self._dispatcher.start()

    async def shutdown(self, grace_seconds: float | None = None) -> None:
        """Stop: no new tasks start, running ones get the grace period, the rest stay queued on disk.

        A second call waits for the first; with 0 seconds it ends the first one's grace period at once.

        Args:
            grace_seconds: for running tasks; None takes DEMUCS_WORKER_SHUTDOWN_GRACE.
        """
        self._accepting = False
        self._stopping.set()
        if grace_seconds == 0:
            self._hurry.set()
            if self._stopped is not None:
                # The first call may be past the grace period, and wait for workers that were asked to end.
                await self._pool.stop(0.0)
        if self._stopped is None:
            self._stopped = asyncio.ensure_future(self._shut_down(grace_seconds))
        await asyncio.shield(self._stopped)

    async def _shut_down(self, grace_seconds: float | None) -> None:
        if self._dispatcher is None:
            return
        await self._dispatcher.stop()
        await self._drain(self.settings.shutdown_grace if grace_seconds is None else grace_seconds)
        self._answers.stop()
        await self._stop_pool()
        if self._running:
            await asyncio.wait(self._running.values())
        self._reuse.close()
        await self._health.stop()
        self._bus.close()
        self._reader.close()
        await self._on_database_thread(self._queue.close)
        self._database_thread.shutdown()
        self._lock.release()

    async def _drain(self, grace_seconds: float) -> None:
        """Let running tasks finish, as long as the grace period lasts."""
        hurry = asyncio.ensure_future(self._hurry.wait())
        deadline = time.monotonic() + grace_seconds
        while self._running and not hurry.done() and (left := deadline - time.monotonic()) > 0:
            await asyncio.wait({hurry, *self._running.values()}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()

    async def _stop_pool(self) -> None:
        """Ask the workers to end; kill those that take too long, or all once there is a hurry."""
        hurry = asyncio.ensure_future(self._hurry.wait())
        asking = asyncio.ensure_future(self._pool.stop(CANCEL_GRACE_SECONDS))
        await asyncio.wait({hurry, asking}, return_when=asyncio.FIRST_COMPLETED)
        if not asking.done():
            await self._pool.stop(0.0)
        hurry.cancel()
        await asking

    # --- the public verbs ---------------------------------------------------------------------------------------------

    async def add_task(self, request: Mapping[str, Any] | None = None, /, **fields: Any) -> Task:
        """Put a task into the queue; when this returns, it is on disk.

        Args:
            request: the fields as a mapping, instead of or beside keyword arguments.
            fields: `input_path`, `output_dir`, and optionally `file_id`, `project_name`, `priority`, `input_name` and
                any separation option (`model`, `stems`, `format`, …).

        Returns:
            The new task; or, for a `file_id` that is known with the same request, the task that exists.

        Raises:
            InvalidOption: a name or a value does not fit.
            TaskConflict: the `file_id` is known with another request.
            QueueFull, ShuttingDown: no tasks are taken at the moment.
        """
        if not self._accepting:
            raise ShuttingDown
        values = {"model": self.settings.model, **(request or {}), **fields}
        task, _ = await self.submit(TaskRequest.parse(values))
        return task

    async def submit(self, request: TaskRequest) -> tuple[Task, bool]:
        """As `add_task`, for a request that the caller built. Returns the task, and whether it is new."""
        if not self._accepting:
            raise ShuttingDown
        answered = await self._answers.submit(request, max_attempts=self.settings.max_attempts)
        return answered or await self._submissions.put(request)

    async def _put_all(self, requests: Sequence[TaskRequest]) -> list[Stored]:
        """Store new tasks, and tell so at once: before the answer of a claim that the database carries out next."""
        results = await self._on_database_thread(
            self._queue.put_all, requests, now=self._clock(),
            max_attempts=self.settings.max_attempts, max_queued=self.settings.max_queued,
        )  # fmt: skip
        for task in [result[0] for result in results if not isinstance(result, RequestError) and result[1]]:
            self._bus.publish(EventKind.QUEUED, task=task)
            self._wake()
        return results

    def get_task(self, task_id: str) -> Task:
        """The task as it is now, with the progress of its running attempt.

        Raises:
            TaskNotFound: there is no such task.
        """
        task = self._reader.get(task_id)
        if task is None:
            raise TaskNotFound(task_id=task_id)
        return self.with_progress(task)

    def find_task(self, file_id: str) -> Task | None:
        """The task with this `file_id`, or None."""
        task = self._reader.by_file_id(file_id)
        return self.with_progress(task) if task is not None else None

    def list_tasks(self, state: TaskState | None = None, *, limit: int = 100, cursor: int | None = None) -> Page:
        """Tasks, newest first; `Page.cursor` asks for those that follow."""
        page = self._reader.page(state, limit=limit, cursor=cursor)
        return msgspec.structs.replace(page, tasks=tuple(self.with_progress(task) for task in page.tasks))

    def queue_position(self, task_id: str) -> int | None:
        """The place of a queued task, 1 being the next; None when it is not queued."""
        return self._reader.position(task_id)

    def eta_seconds(self, task_id: str) -> float | None:
        """Seconds until a running task is done; None when it does not run, or that cannot be told yet."""
        live = self._live.get(task_id)
        return live.eta_seconds if live is not None else None

    def get_status(self) -> dict[str, Any]:
        """The state of queue, workers and machine, as a plain dict ready for JSON."""
        return status_of(
            version=__version__,
            accepting=self._accepting,
            uptime_seconds=time.monotonic() - self._started_at if self._started_at else 0.0,
            counts=self._reader.counts(),
            workers=self._pool.workers(),
            sample=self._health.latest,
            problems=self._health.problems,
        )

    def report(self, key: str, problem: str | None) -> None:
        """Enter a problem that was found elsewhere into the status, or with None its end; `key` tells which."""
        self._health.report(key, problem)

    @property
    def accepting(self) -> bool:
        """Whether new tasks are taken: it has started, and was not told to stop."""
        return self._accepting

    def workers(self) -> list[WorkerInfo]:
        """The workers as the pool knows them, by id."""
        return self._pool.workers()

    async def wait(self, task_id: str) -> Task:
        """Wait until the task is completed and its stems are at their place.

        Raises:
            TaskFailed: it failed; `.error` says why.
            TaskCancelled: it was cancelled.
            TaskNotFound: there is no such task.
            ShuttingDown: the manager stopped before the task was done; it stays queued on disk.
        """
        task: Task | None = None
        async for event in self.events(task_id):
            task = event.task
        if task is None or not task.is_final:
            task = self.get_task(task_id) if not self._stopping.is_set() else task
        match task:
            case Task(state=TaskState.COMPLETED):
                return task
            case Task(state=TaskState.FAILED, error=ErrorInfo() as error):
                raise TaskFailed(task_id, error)
            case Task(state=TaskState.CANCELLED):
                raise TaskCancelled(task_id)
        raise ShuttingDown

    def events(self, task_id: str | None = None) -> AsyncIterator[Event]:
        """What happens from this call on: to one task, ending after its final event, or to all tasks and workers.

        A task that is final already gives that one event. A listener that does not read is never waited for.

        Raises:
            TaskNotFound: there is no such task.
        """
        listener = self._bus.listen(task_id)
        if task_id is None:
            return aiter(listener)
        task = self.get_task(task_id)
        if task.is_final and task_id not in self._unannounced:
            kind = EventKind(task.state.value)
            return only(Event(kind=kind, seq=0, at=self._clock(), task_id=task_id, task=task))
        return listener.until_final()

    def follow(self, callback: Callable[[Event], None], at_end: Callable[[], None] | None = None) -> None:
        """Call `callback` for every event from now on, on the publisher's time, and `at_end` when the manager has ended
        and before its queue is closed: they must be quick and not raise."""
        self._bus.call(callback, at_end)

    async def with_deliveries(self, verb: Callable[[Deliveries], T]) -> T:
        """What `verb` gives for the deliveries of webhooks, on the thread that owns the queue's database."""
        return await self._on_database_thread(lambda: verb(self._queue.deliveries))

    async def cancel(self, task_id: str) -> Task:
        """Cancel a queued or running task; returns when its worker is free of it.

        Raises:
            TaskNotFound: there is no such task.
            IllegalTransition: it ended already.
        """
        task = await self._on_database_thread(self._queue.cancel, task_id, self._clock())
        running = self._running.get(task_id)
        if running is not None:
            # One that was begun in this very turn of the loop has to come to its worker first.
            await asyncio.sleep(0)
            self._answers.cancel(task_id)
            await self._pool.cancel(task_id)
            await asyncio.wait({running})
        self._bus.publish(EventKind.CANCELLED, task=task)
        return task

    def encode_with(self, assistant: Assistant) -> None:
        """Let `assistant` encode the stems of earlier tasks, where the same is asked for in another format."""
        self._reuse.assistant = assistant

    async def retry(self, task_id: str) -> Task:
        """Queue a failed or cancelled task again, with a fresh count of attempts.

        Raises:
            TaskNotFound: there is no such task.
            IllegalTransition: it is neither failed nor cancelled.
        """
        if not self._accepting:
            raise ShuttingDown
        task = await self._on_database_thread(self._queue.revive, task_id)
        self._bus.publish(EventKind.QUEUED, task=task)
        self._wake()
        return task

    async def delete(self, task_id: str) -> Task:
        """Forget a task that has ended, and give it as it was. Its `file_id` is free again; its files stay.

        Raises:
            TaskNotFound: there is no such task.
            IllegalTransition: it has not ended.
        """
        task = await self._on_database_thread(self._queue.delete, task_id)
        self._bus.publish(EventKind.DELETED, task=task)
        return task

    # --- an attempt ---------------------------------------------------------------------------------------------------

    def _begin(self, task: Task, worker_id: str) -> None:
        """A worker gets the task that was claimed for it. Counted at once, so that the next task finds it counted."""
        self._health.begin(task, worker_id)
        self._unannounced.add(task.id)
        self._running[task.id] = asyncio.create_task(self._attempt(task, worker_id), name=f"task {task.id}")

    async def _attempt(self, task: Task, worker_id: str) -> None:
        """One attempt of a task on one worker, from its first event to its last."""
        self._live[task.id] = Live(task, started_at=time.monotonic())
        self._share_cores()
        self._bus.publish(EventKind.STARTED, task=task, worker_id=worker_id)
        staging = publication.staging_path(task.request.output_dir, task.id, task.claim)
        outcome: Outcome | None = None
        try:
            outcome = await self._work(task, worker_id, staging)
            if await self._settlement.settle(task, outcome, staging):
                self._journal.close(task.id, task.claim)
        except asyncio.CancelledError:
            # The event loop ends with no shutdown before it. This is carried out even so, and costs no attempt.
            self._database_thread.submit(self._queue.requeue, task)
            raise
        except Exception:
            # The database refused to the end: the task stays running there, and the next start requeues it.
            _log.exception("the outcome could not be stored", task=task.id, attempt=task.attempt, worker=worker_id)
        finally:
            self._health.end(task.id, completed=isinstance(outcome, Completed) and not outcome.cached)
            del self._live[task.id], self._running[task.id]
            self._unannounced.discard(task.id)
            self._share_cores()
            self._wake()

    async def _work(self, task: Task, worker_id: str, staging: Path) -> Outcome:
        try:
            self._journal.open(task.id, task.claim, staging)
        except OSError as error:
            self._pool.release(worker_id)
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            return Failed(error=(DiskFull(path=error.filename) if full else WorkerFailure(detail=f"{error}.")).info)
        # The same may have been asked before and be done by now.
        if (known := await self._answers.outcome(task, staging)) is not None:
            self._pool.release(worker_id)
            return known
        run, limits = run_of(task, staging, self.settings), limits_of(self.settings)
        return await self._pool.run(worker_id, run, limits, self._on_progress)

    # --- what the pool tells ------------------------------------------------------------------------------------------

    def _on_progress(self, progress: Progress) -> None:
        live = self._live.get(progress.task_id)
        if live is not None and live.task.claim == progress.claim:
            live.take(progress)
            self._bus.publish(EventKind.PROGRESS, task=live.task, eta_seconds=live.eta_seconds)

    def _on_worker_event(self, event: WorkerEvent) -> None:
        self._bus.publish(EventKind(event.kind), worker_id=event.worker_id, detail=event.detail)
        self._health.nudge()

    def _on_event(self, event: Event) -> None:
        if event.kind in FINAL_KINDS and event.task_id is not None:
            self._unannounced.discard(event.task_id)

    def _on_health_change(self, problems: str) -> None:
        self._bus.publish(EventKind.HEALTH_CHANGED, detail=problems)

    def _on_look(self) -> None:
        if self._dispatcher is not None:
            self._dispatcher.consider_memory()

    def _wake(self) -> None:
        if self._dispatcher is not None:
            self._dispatcher.wake()

    def _share_cores(self) -> None:
        """Give every worker its share of the cores: all to one that works alone."""
        self._pool.set_threads(threads_per_worker(self._cores, len(self._live)))

    def with_progress(self, task: Task) -> Task:
        """A task that was read from the database, with what its running attempt has come to."""
        live = self._live.get(task.id)
        # An outcome that is stored and not told yet is nobody's to see: its stems may not be at their place.
        hidden = task.state is TaskState.RUNNING or (task.is_final and task.id in self._unannounced)
        return live.task if live is not None and hidden else task


def _merged(settings: Settings | None, arguments: Mapping[str, Any]) -> Settings:
    given = settings.model_dump(include=settings.model_fields_set) if settings is not None else {}
    return load_settings(**{**given, **arguments})
