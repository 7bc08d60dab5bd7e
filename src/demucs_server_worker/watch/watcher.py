"""Watcher: makes tasks of the songs in a watched folder, each once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from demucs_server_worker.errors import DemucsWorkerError, ShuttingDown
from demucs_server_worker.song_files import sha256_of
from demucs_server_worker.task import Task, TaskRequest
from demucs_server_worker.watch.folder import Sighting, is_being_written, look
from demucs_server_worker.watch.plan import Plan, file_id_of
from demucs_server_worker.watch.settling import Settling

LOOK_SECONDS = 2.0
# Unchanged for so long, and open for writing to nobody: complete.
SETTLE_SECONDS = 3.0
# Where nobody can tell who writes, as on network folders: longer than a copy usually pauses.
UNTOLD_SETTLE_SECONDS = 15.0

_log = structlog.get_logger("demucs_server_worker.watch")


class Queue(Protocol):
    """What the watcher needs of the manager."""

    def find_task(self, file_id: str) -> Task | None: ...

    async def submit(self, request: TaskRequest) -> tuple[Task, bool]: ...


Measure = Callable[[Path, str], Awaitable[float | None]]
"""Of a path and a name for errors: gives the length of the song in seconds, or None. Raises an InputError for what is
no song."""


@asynccontextmanager
async def watching(plan: Plan | None, queue: Queue, measure: Measure) -> AsyncIterator[None]:
    """Watch as `plan` says while the block runs; without a plan, do nothing."""
    if plan is None:
        yield
        return
    task = asyncio.create_task(Watcher(plan, queue, measure).run(), name="watch folder")
    task.add_done_callback(_tell_of_a_fault)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


def _tell_of_a_fault(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("watching ended by a fault; restart the server", exc_info=error)


class Watcher:
    """Looks into one folder again and again. What it has done is remembered by the queue, across restarts; what it
    refused is told once, and remembered as long as it lives."""

    def __init__(
        self,
        plan: Plan,
        queue: Queue,
        measure: Measure,
        *,
        look_seconds: float = LOOK_SECONDS,
        settle_seconds: float = SETTLE_SECONDS,
        untold_settle_seconds: float = UNTOLD_SETTLE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args: plan: what to watch; queue: the manager; measure: looks into a song; clock: monotonic seconds; the
        others: see the constants."""
        self._plan = plan
        self._queue = queue
        self._measure = measure
        self._look_seconds = look_seconds
        self._settle_seconds = settle_seconds
        self._untold_settle_seconds = untold_settle_seconds
        self._clock = clock
        self._settling = Settling()
        self._dealt_with: set[Sighting] = set()
        self._trouble = ""

    async def run(self) -> None:
        """Watch until cancelled, or until the manager takes no more tasks."""
        _log.info("watching", folder=str(self._plan.watched), output=str(self._plan.output))
        while True:
            try:
                await self.look_once()
            except ShuttingDown:
                return
            except (OSError, DemucsWorkerError) as error:
                # The folder is not there (a network comes and goes), the queue is full, or its disk is.
                self._tell(str(error))
            else:
                self._tell("")
            await asyncio.sleep(self._look_seconds)

    async def look_once(self) -> None:
        """Take what is complete and new.

        Raises:
            OSError: the folder cannot be read.
            QueueFull, ShuttingDown, …: no task is taken at the moment; what was not taken will be found again.
        """
        seen = await asyncio.to_thread(look, self._plan.watched, self._plan.output)
        ages = self._settling.look(seen, self._clock())
        self._dealt_with &= ages.keys()
        for song in await asyncio.to_thread(self._complete, ages):
            await self._take(song)
            self._dealt_with.add(song)

    def _complete(self, ages: Mapping[Sighting, float]) -> list[Sighting]:
        return [song for song, age in ages.items() if song not in self._dealt_with and self._is_complete(song, age)]

    def _is_complete(self, song: Sighting, age: float) -> bool:
        if age < self._settle_seconds:
            return False
        try:
            written = is_being_written(song.path)
        except OSError:
            return age >= self._untold_settle_seconds  # not to be opened: the probe says why
        return not written if written is not None else age >= self._untold_settle_seconds

    async def _take(self, song: Sighting) -> None:
        """Make a task of the song, unless there is one. What is wrong with the song itself is told, and settles it."""
        if self._queue.find_task(file_id_of(song)) is not None:
            return
        try:
            request = self._plan.request_for(song)
            seconds = await self._measure(Path(song.path), song.name)
            sha256 = await asyncio.to_thread(_hash_of, Path(song.path))
            found_out = msgspec.structs.replace(request, duration_seconds=seconds, input_sha256=sha256)
            task, _ = await self._queue.submit(found_out)
        except DemucsWorkerError as error:
            if error.retryable:
                raise
            _log.warning("not taken", file=_shown(song), code=error.code, reason=error.message)
        else:
            _log.info("taken", file=_shown(song), task=task.id)

    def _tell(self, trouble: str) -> None:
        """Log what keeps it from its work once, and that it is over."""
        if trouble != self._trouble:
            if trouble:
                _log.warning("waiting", reason=trouble)
            else:
                _log.info("watching again")
        self._trouble = trouble


def _hash_of(path: Path) -> str | None:
    """The song's hash; None where it cannot be read to its end. A worker will say so, and the other songs go on."""
    try:
        return sha256_of(path)
    except OSError:
        return None


def _shown(song: Sighting) -> str:
    return "/".join((*song.folders, song.name)).encode("utf-8", "backslashreplace").decode()
