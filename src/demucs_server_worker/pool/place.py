"""One place in the pool: keeps one worker alive in it, and carries out one job at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec
import structlog

from demucs_server_worker.errors import DemucsWorkerError, WorkerCrashed
from demucs_server_worker.pool.attempt import attend, remove_staging
from demucs_server_worker.pool.backoff import Backoff
from demucs_server_worker.pool.base import Limits, ProgressListener, WorkerEvent, WorkerInfo, WorkerState
from demucs_server_worker.pool.job import SECOND_LOOK_SECONDS, Job, guarded
from demucs_server_worker.pool.process import Launch, WorkerProcess, first_of
from demucs_server_worker.task import Completed, Failed, Outcome
from demucs_server_worker.worker.messages import (
    Boot,
    BootFailed,
    Done,
    Fetching,
    FromWorker,
    Heartbeat,
    Progress,
    Ready,
    Run,
    Stop,
    Threads,
)

# From a worker's word that it cannot boot to its end.
END_SECONDS = 2.0
# A worker that dies this soon after its start with no job in hand is as good as one that could not boot.
STEADY_SECONDS = 5.0

_log = structlog.get_logger("demucs_server_worker.pool")


@dataclass(frozen=True)
class PlaceConfig:
    """How a place starts its workers and when it gives them up.

    Attributes:
        boot: the first message of each worker.
        launch: how its process is started.
        ready_seconds: from the start of the process, or the last piece of a model that arrived, to its `Ready`.
        silence_seconds: without any message means hung.
        first_delay_seconds: before the second start of a worker that could not boot; doubles.
    """

    boot: Boot
    launch: Launch = field(default_factory=Launch)
    ready_seconds: float = 120.0
    silence_seconds: float = 30.0
    first_delay_seconds: float = 1.0


class Place:
    """One place. `keep` is its life; everything else talks to whatever worker sits in it."""

    def __init__(
        self,
        config: PlaceConfig,
        *,
        on_event: Callable[[WorkerEvent], None],
        on_free: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        """Args: config: see there; on_event: told of starts and deaths; on_free: called when a job can be had here;
        clock: monotonic seconds."""
        self.id = config.boot.worker_id
        self.reserved = False
        self.worked_at = 0.0  # when its last job ended, on `clock`
        self._config = config
        self._on_event = on_event
        self._on_free = on_free
        self._clock = clock
        self._threads = config.boot.threads
        self._backoff = Backoff(config.first_delay_seconds)
        self._stopping = asyncio.Event()
        self._process: WorkerProcess | None = None
        self._booted: asyncio.Future[Ready | str] = asyncio.get_running_loop().create_future()
        self._has_worked = False
        self._job: Job | None = None
        self._state = WorkerState.STARTING
        self._problem: str | None = None
        self._boot_until = 0.0
        self._starts = 0
        self._tasks_done = 0
        self._compute_seconds = 0.0

    # --- what the pool asks -------------------------------------------------------------------------------------------

    @property
    def is_free(self) -> bool:
        """Whether a job can be given to this place now."""
        return self._state is WorkerState.IDLE and not self.reserved and not self._stopping.is_set()

    @property
    def task_id(self) -> str | None:
        """The task it works on."""
        return self._job.run.task_id if self._job else None

    @property
    def info(self) -> WorkerInfo:
        """The place as the status shows it."""
        ready = self._booted.result() if self._booted.done() else None
        process = self._process
        return WorkerInfo(
            id=self.id,
            pid=process.pid if process else None,
            state=WorkerState.STOPPING if self._job and self._job.asked.done() else self._state,
            device=ready.device if isinstance(ready, Ready) else None,
            task_id=self.task_id,
            progress=self._job.progress if self._job else 0.0,
            tasks_done=self._tasks_done,
            restarts=max(self._starts - 1, 0),
            uptime_seconds=self._clock() - process.started_at if process else 0.0,
            compute_seconds=self._compute_seconds,
            problem=self._problem,
        )

    def set_threads(self, threads: int) -> None:
        """Tell the worker, and those that come after it."""
        self._threads = threads
        if self._process is not None:
            self._process.send(Threads(threads=threads))

    async def cancel(self, reason: DemucsWorkerError | None) -> None:
        """Stop the job, and wait until it has ended."""
        if (job := self._job) is not None:
            job.ask_to_stop(reason)
            await asyncio.wait({job.ended})

    def recycle(self, reason: DemucsWorkerError) -> None:
        """Kill the worker without asking, so that a new one takes its place; its job fails with `reason`."""
        if self._job is not None:
            self._job.ask_to_stop(reason)
        if self._process is not None:
            self._process.kill(f"it was replaced: {reason.message}")

    def ask_to_stop(self) -> None:
        """Start no worker any more, and ask the one that is there to end. One that is booting cannot hear it."""
        self._stopping.set()
        if self._job is not None:
            self._job.ask_to_stop(None)
        if self._process is not None:
            if self._state is WorkerState.STARTING:
                self._process.kill("it was stopped while it started")
            self._process.send(Stop())
        self._state = WorkerState.STOPPING

    def kill(self) -> None:
        """End the worker at once."""
        if self._process is not None:
            self._process.kill("the pool was stopped")

    # --- the worker's life --------------------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Keep a worker alive here until `ask_to_stop`."""
        while not self._stopping.is_set():
            try:
                self._problem = await self._one_life()
            except Exception as error:
                _log.exception("the keeper of a worker failed", worker=self.id)
                self._problem = f"it cannot be kept: {error}"
            if self._problem is None:
                self._backoff.reset()
            elif not self._stopping.is_set():
                self._state = WorkerState.DEAD
                await self._pause(self._backoff.delay())
        self._state = WorkerState.DEAD
        self._problem = None

    async def _one_life(self) -> str | None:
        """One worker from start to end. Gives what was wrong with it if it should not be started again at once."""
        self._state = WorkerState.STARTING
        self._has_worked = False
        if self._booted.done():
            self._booted = asyncio.get_running_loop().create_future()
        try:
            process = self._process = await WorkerProcess.spawn(
                self._config.launch, self._boot(), self._hear, self._clock
            )
        except OSError as error:
            problem = f"its process cannot be started: {error}"
            self._booted.set_result(problem)
            return problem
        self._starts += 1
        try:
            await self._come_up(process)
            await self._stay_up(process)
            return self._bury(process)
        finally:
            process.kill("the pool was stopped")
            self._process = None

    def _boot(self) -> Boot:
        return msgspec.structs.replace(self._config.boot, threads=self._threads)

    async def _come_up(self, process: WorkerProcess) -> None:
        if self._stopping.is_set():
            # The pool was stopped while the process was being made, when there was nothing to kill yet.
            process.kill("it was stopped while it started")
        self._boot_until = self._clock() + self._config.ready_seconds
        while not (self._booted.done() or process.exit.done()) and (left := self._boot_until - self._clock()) > 0:
            await first_of(self._booted, process.exit, within=left)
        if not self._booted.done():
            process.kill(f"it was not ready within {self._config.ready_seconds:g} seconds")
        elif isinstance(self._booted.result(), str):
            await first_of(process.exit, within=END_SECONDS)
            process.kill("it did not end by itself")

    async def _stay_up(self, process: WorkerProcess) -> None:
        """Wait until the worker ends. While it has no job, nobody else sees that it hangs."""
        silence = self._config.silence_seconds
        suspected = False
        while not process.exit.done():
            silent = self._clock() - process.last_heard > silence
            if silent and suspected and self._state is WorkerState.IDLE:
                process.kill(f"it gave no sign of life for {silence:g} seconds")
            if process.is_killed:
                await process.die()
                return
            suspected = silent
            await first_of(process.exit, within=SECOND_LOOK_SECONDS if silent else silence / 2)

    def _bury(self, process: WorkerProcess) -> str | None:
        """The worker has ended: tell, and decide whether the next one has to wait."""
        detail = process.ending.describe()
        ready = self._booted.result() if self._booted.done() else None
        if isinstance(ready, str):
            detail = ready
        elif ready is None:
            self._booted.set_result(detail)
        lived = self._clock() - process.started_at
        if not self._stopping.is_set():
            self._tell("worker_died", process.pid, detail)
        self._state = WorkerState.STARTING
        if not isinstance(ready, Ready):
            return detail
        self._booted = asyncio.get_running_loop().create_future()
        return None if self._has_worked or lived >= STEADY_SECONDS else detail

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    def _tell(self, kind: str, pid: int, detail: str) -> None:
        guarded(self._on_event, WorkerEvent(kind=kind, worker_id=self.id, pid=pid, detail=detail))

    # --- what the worker says -----------------------------------------------------------------------------------------

    def _hear(self, message: FromWorker) -> None:
        match message:
            case Ready():
                self._become_ready(message)
            case BootFailed(error=error):
                if not self._booted.done():
                    self._booted.set_result(error.message)
            case Progress():
                if self._job is not None:
                    self._job.take_progress(message, self._clock())
            case Done():
                if self._job is not None:
                    self._job.take_done(message)
            case Fetching():
                self._boot_until = self._clock() + self._config.ready_seconds
                if self._job is not None:
                    self._job.take_sign(self._clock())
            case Heartbeat():
                pass

    def _become_ready(self, ready: Ready) -> None:
        if self._booted.done() or self._stopping.is_set() or self._process is None:
            return
        self._booted.set_result(ready)
        self._problem = None
        self._process.send(Threads(threads=self._threads))
        self._tell("worker_started", ready.pid, f"ready on {ready.device} after {ready.boot_seconds:.1f} seconds")
        self._become_idle()

    def _become_idle(self) -> None:
        if self._stopping.is_set() or self._process is None or self._process.is_killed or self._process.exit.done():
            return
        self._state = WorkerState.IDLE
        self._on_free()

    # --- the job ------------------------------------------------------------------------------------------------------

    async def run(self, run: Run, limits: Limits, on_progress: ProgressListener) -> Outcome:
        """Carry out a job; as `Pool.run`."""
        job = self._job = Job(run, limits, on_progress, self._config.silence_seconds, self._clock())
        work = asyncio.create_task(self._carry_out(job))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            job.ask_to_stop(None)
            while not work.done():
                # A second cancellation changes nothing: the job is being stopped, and that takes a grace period.
                with suppress(asyncio.CancelledError):
                    await asyncio.wait({work})
            if not work.cancelled() and isinstance(work.result(), Completed):
                # Nobody is there to publish it any more.
                await remove_staging(run)
            raise

    async def _carry_out(self, job: Job) -> Outcome:
        try:
            process = await self._worker_for(job)
            if isinstance(process, WorkerProcess):
                self._state = WorkerState.BUSY
                self._has_worked = True
                outcome = await attend(process, job, self._clock)
                self._tasks_done += isinstance(outcome, Completed)
                if job.done.done():
                    self._compute_seconds += job.done.result().compute_seconds
                return outcome
            return process
        finally:
            self._job = None
            self.reserved = False
            self.worked_at = self._clock()
            job.ended.set_result(None)
            if self._state is WorkerState.BUSY:
                self._become_idle()

    async def _worker_for(self, job: Job) -> WorkerProcess | Outcome:
        """The worker of this place, or the outcome if there is none. One that died since it was acquired is waited for
        once: the job had not begun, so that need not cost an attempt."""
        if self._state is not WorkerState.IDLE:
            await first_of(self._booted, job.asked)
        if job.asked.done() or self._stopping.is_set():
            job.ask_to_stop(None)
            return job.outcome_of_asking()
        if self._process is None or self._state is not WorkerState.IDLE:
            detail = self._problem or "it ended before it began"
            return Failed(error=WorkerCrashed(detail=detail).info)
        return self._process
