"""The pool of workers on this machine."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from demucs_server_worker.errors import DemucsWorkerError, ShuttingDown
from demucs_server_worker.pool.base import Limits, ProgressListener, WorkerEvent, WorkerInfo
from demucs_server_worker.pool.place import Place, PlaceConfig
from demucs_server_worker.pool.process import WORKER_COMMAND, Launch
from demucs_server_worker.task import Outcome
from demucs_server_worker.worker.messages import Boot, Run


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """How many workers, and how they are set up.

    Attributes:
        size: workers.
        devices: dealt round robin to the workers.
        model: loaded before a worker says that it is ready, or None to load at the first task.
        model_repo: folder of local models, or None for Demucs' own.
        precision: `auto`, `fp32`, `bf16`, `fp16`: for tasks whose options say `auto`.
        threads: compute threads a worker, until `set_threads`.
        backend: what runs models: `auto`, `torch`, `openvino`.
        cache_dir: folder of converted models, or None for the user's cache folder.
        ready_seconds: from a worker's start to its readiness, loading a model included; it begins anew with each piece
            of a model that is fetched.
        heartbeat_seconds: how often a worker says that it lives.
        silence_seconds: a worker that says nothing for as long is hung.
        first_delay_seconds: before the second start of a worker that could not boot; doubles up to a minute.
        nice: added to the workers' niceness, 0 to 19.
        environment: variables for the workers, as for their memory allocator.
        command: the worker's program; the number of the protocol pipe is appended.
    """

    size: int
    devices: tuple[str, ...] = ("auto",)
    model: str | None = None
    model_repo: Path | None = None
    precision: str = "auto"
    threads: int = 1
    backend: Literal["auto", "torch", "openvino"] = "auto"
    cache_dir: Path | None = None
    ready_seconds: float = 120.0
    heartbeat_seconds: float = 1.0
    silence_seconds: float = 30.0
    first_delay_seconds: float = 1.0
    nice: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = WORKER_COMMAND


class LocalPool:
    """Workers as child processes of this one. One event loop; see `Pool` for what each method promises."""

    def __init__(
        self,
        config: PoolConfig,
        on_event: Callable[[WorkerEvent], None] = lambda event: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args: config: see there; on_event: told of each worker's start and death; clock: monotonic seconds."""
        self._config = config
        self._on_event = on_event
        self._clock = clock
        self._threads = config.threads
        self._places: dict[str, Place] = {}
        self._keepers: set[asyncio.Task[None]] = set()
        self._waiters: deque[asyncio.Future[str]] = deque()
        self._stopped = False

    async def start(self) -> None:
        """Begin to start the workers; returns at once."""
        if self._stopped:
            raise ShuttingDown
        if self._places:
            return
        for index in range(self._config.size):
            place = Place(self._place_config(index), on_event=self._on_event, on_free=self._hand_out, clock=self._clock)
            self._places[place.id] = place
            self._keepers.add(asyncio.create_task(place.keep(), name=f"keeper of {place.id}"))

    def _place_config(self, index: int) -> PlaceConfig:
        config = self._config
        boot = Boot(
            worker_id=f"worker-{index + 1}",
            model=config.model,
            model_repo=str(config.model_repo) if config.model_repo else None,
            device=config.devices[index % len(config.devices)],
            precision=config.precision,
            threads=self._threads,
            backend=config.backend,
            cache_dir=str(config.cache_dir) if config.cache_dir else None,
            heartbeat_seconds=config.heartbeat_seconds,
        )
        return PlaceConfig(
            boot=boot,
            launch=Launch(config.command, config.environment, config.nice),
            ready_seconds=config.ready_seconds,
            silence_seconds=config.silence_seconds,
            first_delay_seconds=config.first_delay_seconds,
        )

    async def acquire(self) -> str:
        """Wait for an idle worker, reserve it, and give its id. First come, first served.

        Raises:
            ShuttingDown: when the pool is or gets stopped.
        """
        if self._stopped:
            raise ShuttingDown
        waiter: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._hand_out()
        try:
            return await waiter
        except asyncio.CancelledError:
            # The worker may have been granted in the same turn of the loop in which the waiter was cancelled.
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.release(waiter.result())
            with suppress(ValueError):
                self._waiters.remove(waiter)
            raise

    def release(self, worker_id: str) -> None:
        """Give back a worker that was acquired and not used."""
        self._places[worker_id].reserved = False
        self._hand_out()

    def _hand_out(self) -> None:
        """Give free workers to those who wait, in the order in which they came; the one that worked last first."""
        for place in sorted(self._places.values(), key=lambda place: place.worked_at, reverse=True):
            while self._waiters and self._waiters[0].done():
                self._waiters.popleft()
            if not self._waiters:
                return
            if place.is_free:
                place.reserved = True
                self._waiters.popleft().set_result(place.id)

    async def run(self, worker_id: str, job: Run, limits: Limits, on_progress: ProgressListener) -> Outcome:
        """Run `job` on an acquired worker, and give its outcome.

        Raises:
            ValueError: when the worker was not acquired before.
        """
        place = self._places[worker_id]
        if not place.reserved or place.task_id is not None:
            raise ValueError(f"{worker_id} must be acquired before it is given a job")
        return await place.run(job, limits, on_progress)

    async def cancel(self, task_id: str, reason: DemucsWorkerError | None = None) -> bool:
        """Stop the job of `task_id`, and wait until its `run` has its outcome. False when no worker has it."""
        for place in self._places.values():
            if place.task_id == task_id:
                await place.cancel(reason)
                return True
        return False

    def recycle(self, worker_id: str, reason: DemucsWorkerError) -> None:
        """Replace a worker: kill it at once, and start a new one. Its job, if it has one, fails with `reason`."""
        self._places[worker_id].recycle(reason)

    def set_threads(self, threads: int) -> None:
        """Tell every worker to compute with this many threads from now on."""
        self._threads = threads
        for place in self._places.values():
            place.set_threads(threads)

    def workers(self) -> list[WorkerInfo]:
        """All workers, by id."""
        return [place.info for place in self._places.values()]

    async def stop(self, grace_seconds: float) -> None:
        """End all workers; a second call with a shorter grace period shortens that of the first."""
        self._stopped = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(ShuttingDown())
        self._waiters.clear()
        for place in self._places.values():
            place.ask_to_stop()
        try:
            if self._keepers and grace_seconds > 0:
                await asyncio.wait(self._keepers, timeout=grace_seconds)
        finally:
            for place in self._places.values():
                place.kill()
        if self._keepers:
            await asyncio.wait(self._keepers)
