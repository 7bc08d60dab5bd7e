"""HealthMonitor: looks at workers and machine every few seconds, says what is wrong, and acts."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import structlog

from demucs_server_worker.errors import OutOfMemory
from demucs_server_worker.health.memory_book import MemoryBook
from demucs_server_worker.health.problems import Announcer, Facts, Judge, Problems
from demucs_server_worker.health.readings import MachineReading, Sample, size_in_words
from demucs_server_worker.health.sampler import Sampler
from demucs_server_worker.pool.base import Pool, WorkerInfo, WorkerState
from demucs_server_worker.task import Task

SAMPLE_SECONDS = 2.0
HISTORY_SECONDS = 300.0

_log = structlog.get_logger("demucs_server_worker.health")


@dataclass(frozen=True, kw_only=True)
class HealthConfig:
    """What the monitor goes by.

    Attributes:
        worker_memory: a worker's limit in bytes, or `auto`: see `memory_book`.
        max_queued: tasks that may wait.
        openvino: whether workers may compute with it.
        preloaded: the model that workers have ready before they take tasks, or None.
        sample_seconds: between two looks.
        history_seconds: how far back the history goes.
    """

    worker_memory: int | Literal["auto"] = "auto"
    max_queued: int = 10_000
    openvino: bool = False
    preloaded: str | None = None
    sample_seconds: float = SAMPLE_SECONDS
    history_seconds: float = HISTORY_SECONDS


class HealthMonitor:
    """Watches one pool and its machine. All methods belong to the event loop; only the readings are taken elsewhere."""

    def __init__(
        self,
        config: HealthConfig,
        *,
        pool: Pool,
        sampler: Sampler,
        queued: Callable[[], int],
        on_change: Callable[[str], None],
        on_look: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare a monitor; nothing is read yet.

        Args:
            config: see there.
            pool: its workers are watched, and replaced where need be.
            sampler: takes the readings, on a thread of the monitor.
            queued: how many tasks wait.
            on_change: told in a sentence when the problems are others than before.
            on_look: called after each look: a task that waited may be let through now.
            clock: monotonic seconds.
        """
        self._config = config
        self._pool = pool
        self._sampler = sampler
        self._queued = queued
        self._on_change = on_change
        self._on_look = on_look
        self._clock = clock
        self._book = MemoryBook(config.worker_memory, openvino=config.openvino, preloaded=config.preloaded)
        self._judge = Judge()
        self._announcer = Announcer()
        self._history: deque[Sample] = deque(maxlen=max(1, round(config.history_seconds / config.sample_seconds)))
        self._problems: Problems = {}
        self._reported: Problems = {}
        self._used: set[int] = set()  # processes of workers that have had a task
        self._warned: set[str] = set()
        self._thread = ThreadPoolExecutor(1, "health")
        self._nudged = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    # --- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take the first readings, and begin to watch."""
        await self.look()
        self._watching = asyncio.create_task(self._watch(), name="health")

    async def stop(self) -> None:
        """Watch no longer. A reading that hangs, on a disk or a network that does not answer, is not waited for."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})
        self._thread.shutdown(wait=False, cancel_futures=True)

    def nudge(self) -> None:
        """Look again now: something has happened."""
        self._nudged.set()

    async def _watch(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._config.sample_seconds):
                    await self._nudged.wait()
            self._nudged.clear()
            try:
                await self.look()
            except Exception:
                _log.exception("the health of workers and machine could not be looked at")

    # --- what it knows ------------------------------------------------------------------------------------------------

    @property
    def latest(self) -> Sample:
        """The latest readings; without any figures before the first."""
        return self._history[-1] if self._history else Sample(self._clock(), {}, MachineReading())

    @property
    def history(self) -> Sequence[Sample]:
        """The readings of the last minutes, oldest first."""
        return tuple(self._history)

    @property
    def problems(self) -> list[str]:
        """What is wrong, in sentences, the gravest first."""
        return list(self._problems.values())

    # --- what it is told ----------------------------------------------------------------------------------------------

    def begin(self, task: Task, worker_id: str) -> None:
        """A worker gets this task now."""
        worker = self._worker(worker_id)
        if worker is not None and worker.pid is not None:
            self._used.add(worker.pid)
        self._book.begin(task, worker_id, worker.device if worker else None)

    def end(self, task_id: str, *, completed: bool) -> None:
        """The attempt of this task has ended, with a result or without."""
        self._book.end(task_id, completed=completed)

    def peak(self, task_id: str) -> int | None:
        """The most memory that the worker of a running task was seen with, in bytes; None if nobody looked."""
        return self._book.peak(task_id)

    def report(self, key: str, problem: str | None) -> None:
        """Enter a problem that was found elsewhere, or with None its end. `key` tells it from others."""
        if problem is None:
            if self._reported.pop(key, None) is None:
                return
        else:
            self._reported[key] = problem
        self._judge_again()

    def no_task_waits(self) -> None:
        """No task waits for memory any more."""
        self.report("waiting", None)

    def admits(self, task: Task | None, worker_id: str) -> bool:
        """Whether there is memory enough to start `task`, the next in the queue, on a worker. None: there is none.

        One that should take more than there ever was is let through once nothing else runs: waiting cannot help it.
        """
        worker = self._worker(worker_id)
        device = worker.device if worker else None
        lack = self._book.lack(task, worker_id, device) if task is not None else None
        if task is None or lack is None:
            self.no_task_waits()
            return True
        if self._book.is_idle and self._book.can_never_fit(task, device):
            self._warn_of(task, lack.needed_bytes)
            self.no_task_waits()
            return True
        need = f"about {size_in_words(lack.needed_bytes)} more than its worker has"
        have = f"{size_in_words(lack.free_bytes)} are to be had beside what running tasks will take"
        name = task.request.input_name
        self.report("waiting", f"Task {task.id} ({name}) waits for memory: it needs {need}, and {have}.")
        if self._book.is_idle:
            self._free_idle_memory(but=worker_id)
        return False

    def _warn_of(self, task: Task, needed_bytes: int) -> None:
        if task.request.options.model not in self._warned:
            self._warned.add(task.request.options.model)
            _log.warning(
                "task started although the machine has too little memory for it",
                task=task.id, model=task.request.options.model, needed=size_in_words(needed_bytes),
            )  # fmt: skip

    def _free_idle_memory(self, but: str) -> None:
        """Nothing runs, and still there is too little: what idle workers keep from their last tasks is ours to free."""
        for worker in self._pool.workers():
            if worker.id != but and worker.state is WorkerState.IDLE and worker.pid in self._used:
                self._pool.recycle(worker.id, OutOfMemory(detail="its memory is wanted for another task"))

    def _worker(self, worker_id: str) -> WorkerInfo | None:
        return next((worker for worker in self._pool.workers() if worker.id == worker_id), None)

    # --- a look -------------------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Take the readings, replace workers that are past their limit, and judge."""
        pids = {worker.id: worker.pid for worker in self._pool.workers() if worker.pid is not None}
        self._used &= set(pids.values())
        await self._read(pids)
        self._enforce_limits()
        self._judge_again()
        self._on_look()

    async def _read(self, pids: Mapping[str, int]) -> None:
        try:
            reading = self._thread.submit(self._sampler, pids, self._book.output_dirs)
        except RuntimeError:
            # The one thing that keeps a pool of one thread from taking work.
            self._reported["threads"] = "No thread can be started any more. Raise `ulimit -u`, or end other programs."
            return
        self._reported.pop("threads", None)
        readings, machine = await asyncio.wrap_future(reading)
        self._history.append(Sample(self._clock(), readings, machine))
        self._book.take(readings, machine, workers=len(self._pool.workers()))

    def _enforce_limits(self) -> None:
        self._reported = {key: words for key, words in self._reported.items() if not key.startswith("size of ")}
        for worker in self._pool.workers():
            reading = self.latest.workers.get(worker.id)
            limit = self._book.limit(worker.task_id)
            if reading is None or limit is None or reading.pid != worker.pid:
                continue
            weighed = self._book.weighed(reading)
            if weighed <= limit:
                continue
            has, may_have = size_in_words(weighed), size_in_words(limit)
            figures = f"it had {has}, past the {may_have} that a worker may have"
            if worker.task_id is not None or worker.pid in self._used:
                self._pool.recycle(worker.id, OutOfMemory(detail=f"{figures}, see DEMUCS_WORKER_WORKER_MEMORY"))
            else:
                # A new one would be no smaller.
                self._reported[f"size of {worker.id}"] = (
                    f"{worker.id} is past its limit before it has a task: {figures}. Raise DEMUCS_WORKER_WORKER_MEMORY."
                )

    def _judge_again(self) -> None:
        now = self._clock()
        self._problems = self._judge(
            Facts(
                now=now, machine=self.latest.machine, workers=self._pool.workers(), queued=self._queued(),
                max_queued=self._config.max_queued, reported=self._reported,
            )
        )  # fmt: skip
        if self._announcer.has_changed(self._problems, now):
            self._on_change("; ".join(self._problems.values()) or "All is well again.")
