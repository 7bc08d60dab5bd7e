"""The end of tasks and of their files: by a client's wish, and of uploads whose time is over."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import structlog

from demucs_server_worker.clock import SteadyClock
from demucs_server_worker.errors import DemucsWorkerError, IllegalTransition, TaskNotFound
from demucs_server_worker.manager import WorkerManager
from demucs_server_worker.queue.reader import TaskReader
from demucs_server_worker.server.derived import Derived
from demucs_server_worker.server.folders import folders_of
from demucs_server_worker.server.uploads import UploadStore
from demucs_server_worker.task import Task

SWEEP_SECONDS = 3_600.0
# Between two batches, everybody else has a turn at the queue.
BATCH = 50
# A clock that is so much further than the retention reaches from the last thing that is known is not believed at once:
# it may have come up years ahead, and be set right in a moment.
FAR_SECONDS = 90 * 86_400.0
DOUBT_SECONDS = 3_600.0

_log = structlog.get_logger("demucs_server_worker.retention")


class Retention:
    """Deletes tasks with the files that are the server's own, when asked to and when their time is over."""

    def __init__(
        self, manager: WorkerManager, uploads: UploadStore, derived: Derived, *, seconds: float,
        clock: Callable[[], float] | None = None,
    ) -> None:  # fmt: skip
        """Prepare; nothing is deleted yet.

        Args:
            manager: of the tasks.
            uploads: where uploaded songs and their stems lie.
            derived: what was made of stems.
            seconds: how long the files of finished uploads are kept.
            clock: epoch seconds; by default one that does not jump when the machine's is set.
        """
        self._manager = manager
        self._uploads = uploads
        self._derived = derived
        self._seconds = seconds
        self._read_clock: Callable[[], Callable[[], float]] = (lambda: clock) if clock else SteadyClock
        self._clock = self._read_clock()
        self._in_doubt_since: float | None = None
        self._sweeping: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Sweep now, and every hour from now on."""
        self._sweeping = asyncio.create_task(self._run(), name="retention")

    async def stop(self) -> None:
        """Sweep no more; a task that is being deleted is deleted whole."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait({self._sweeping})

    async def delete(self, task_id: str) -> Task:
        """Delete a task that has ended, with what the server keeps for it. Carried out even if the caller is cancelled.

        The song and the stems of an upload go with it; of other tasks they are their owner's, and stay. Downloads that
        are under way come to their end.

        Raises:
            TaskNotFound: there is no such task.
            IllegalTransition: it has not ended.
        """
        return await asyncio.shield(asyncio.ensure_future(self._delete(task_id)))

    async def _delete(self, task_id: str) -> Task:
        # The record first: should the rest be cut off, the next start finds files that no task has. The other way
        # round, a task would be left that claims stems it has no longer.
        task = await self._manager.delete(task_id)
        folders = folders_of(task, self._uploads.data_dir)
        if folders is not None:
            await self._uploads.discard(folders)
        await asyncio.to_thread(self._derived.forget, task.id)
        return task

    async def sweep(self) -> int:
        """Delete the uploads that finished longer ago than they are kept. Gives how many those were: none while the
        clock is in doubt."""
        if self._in_doubt_since is not None:
            self._clock = self._read_clock()
        now = self._clock()
        swept = 0
        while batch := await asyncio.to_thread(self._expired, now - self._seconds):
            if not await self._believes(now):
                return swept
            gone = [await self._gone(task_id) for task_id in batch]
            swept += sum(gone)
            if not any(gone):
                break  # what cannot be deleted now is tried again in an hour
        self._manager.report("clock", None)
        return swept

    async def _believes(self, now: float) -> bool:
        """Whether it can be `now`: near what is known, or so far off for `DOUBT_SECONDS`, as after a long rest."""
        newest = await asyncio.to_thread(self._newest_end)
        if newest is None or now - newest <= self._seconds + FAR_SECONDS:
            return True
        if self._in_doubt_since is None:
            self._in_doubt_since = time.monotonic()
            problem = (
                f"The clock says {_day(now)}, and the task that ended last did on {_day(newest)}: no results are "
                f"deleted for {DOUBT_SECONDS / 60:g} minutes. Set the clock if it is wrong."
            )
            _log.warning("results are not deleted", reason=problem)
            self._manager.report("clock", problem)
        return time.monotonic() - self._in_doubt_since >= DOUBT_SECONDS

    async def forget_strays(self) -> int:
        """Remove what was made of the stems of tasks that are no more. Gives of how many."""
        return await asyncio.to_thread(self._forget_strays)

    async def _run(self) -> None:
        while True:
            await _guarded(self.forget_strays)
            swept = await _guarded(self.sweep)
            if swept:
                _log.info("uploads deleted whose time was over", tasks=swept)
            await asyncio.sleep(SWEEP_SECONDS)

    async def _gone(self, task_id: str) -> bool:
        try:
            await self.delete(task_id)
        except (TaskNotFound, IllegalTransition):
            return False  # somebody else was quicker, or its stems are still on their way to their place
        return True

    # --- on a thread: long lists are read on a connection of their own -----------------------------------------------

    def _newest_end(self) -> float | None:
        with self._reader() as reader:
            return reader.newest_end()

    def _expired(self, before: float) -> list[str]:
        with self._reader() as reader:
            return reader.finished_uploads(before, limit=BATCH)

    def _forget_strays(self) -> int:
        with self._reader() as reader:
            strays = [folder for folder in self._derived.folders() if reader.get(folder.name) is None]
        for folder in strays:
            shutil.rmtree(folder, ignore_errors=True)
        return len(strays)

    def _reader(self) -> TaskReader:
        return TaskReader(Path(self._manager.settings.data_dir, "queue.db"))


def _day(epoch_seconds: float) -> str:
    return datetime.fromtimestamp(epoch_seconds, UTC).strftime("%Y-%m-%d")


async def _guarded(work: Callable[[], Awaitable[int]]) -> int:
    """Do it; what goes wrong (a full disk, a locked database) is logged, and tried again in an hour."""
    try:
        return await work()
    except (DemucsWorkerError, OSError) as error:
        _log.error("results could not be cleaned up", reason=str(error))
        return 0
