"""Songs through a worker manager of their own, in a temporary data folder, until all are done or the user stops it."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, Self

from demucs_server_worker.cli import words
from demucs_server_worker.cli.exits import DONE, INTERRUPTED, SOME_FAILED
from demucs_server_worker.cli.songs import Song
from demucs_server_worker.errors import DemucsWorkerError, ErrorInfo, InputNotFound, ShuttingDown, WorkerFailure
from demucs_server_worker.events import Event, EventKind
from demucs_server_worker.manager import WorkerManager
from demucs_server_worker.options import SeparationOptions
from demucs_server_worker.settings import Settings
from demucs_server_worker.task import Priority, Stage, Task
from demucs_server_worker.wire.task import task_body

# With 0 seconds workers are killed. This gives songs no time to finish either, but workers the time to tidy up.
STOP_SECONDS = 0.001

# Workers that die this often in a row, each, without one song having moved, will not do better next time.
HOPELESS_STARTS = 3

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Standing(StrEnum):
    """Where a song is in the batch."""

    WAITING = "waiting"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass
class Entry:
    """A song of the batch and how far it is.

    Attributes:
        song: the file.
        standing: see `Standing`.
        task: as last heard of; None before it was queued.
        eta_seconds: until it is done, where that can be told.
        error: why it failed, or why its last attempt did.
        seconds: that its last attempt took, once it ended.
    """

    song: Song
    standing: Standing = Standing.WAITING
    task: Task | None = None
    eta_seconds: float | None = None
    error: ErrorInfo | None = None
    seconds: float | None = None
    began: float | None = field(default=None, repr=False)

    @property
    def is_settled(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.standing in (Standing.COMPLETED, Standing.FAILED)

    @property
    def stage(self) -> Stage:
        """What it is busy with."""
        return self.task.stage if self.task is not None and self.standing is Standing.RUNNING else Stage.QUEUED

    @property
    def busy_with(self) -> str:
        """The same in a word."""
        return words.STAGE_WORDS[self.stage]

    @property
    def progress(self) -> float:
        """0 to 1."""
        return self.task.progress if self.task is not None else 0.0

    @property
    def task_fields(self) -> dict[str, Any] | None:
        """Its task, ready for JSON; None before there is one."""
        if self.task is None:
            return None
        return task_body(self.task, eta_seconds=self.eta_seconds).model_dump(mode="json")

    @property
    def at_once(self) -> bool:
        """Whether it has the stems of an earlier task."""
        return self.task is not None and self.task.cached

    @property
    def audio_seconds(self) -> float | None:
        """The length of the song, once known."""
        return self.task.duration_seconds if self.task is not None else None

    @property
    def folder(self) -> Path | None:
        """The folder that holds all its stems, once they are there."""
        if self.task is None or self.standing is not Standing.COMPLETED:
            return None
        return Path(os.path.commonpath([Path(stem.path).parent for stem in self.task.stems]))


@dataclass(frozen=True)
class Result:
    """How a batch ended.

    Attributes:
        entries: every song.
        seconds: that all took.
        interrupted: whether the user stopped it.
        unfinished: what became of the songs that are neither done nor failed, in a word.
    """

    entries: Sequence[Entry]
    seconds: float
    interrupted: bool
    unfinished: str = "cancelled"

    def count(self, standing: Standing) -> int:
        """Songs that ended so."""
        return sum(entry.standing is standing for entry in self.entries)

    @property
    def audio_seconds(self) -> float:
        """Length of what was separated."""
        return sum(entry.audio_seconds or 0.0 for entry in self.entries if entry.standing is Standing.COMPLETED)

    @property
    def exit_code(self) -> int:
        """What the command ends with."""
        if self.interrupted:
            return INTERRUPTED
        return DONE if self.count(Standing.COMPLETED) == len(self.entries) else SOME_FAILED


class Report(Protocol):
    """Tells the user how a batch goes. It is a context that has the screen while its block runs."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def begin(self, entries: Sequence[Entry]) -> None:
        """These songs it will be."""

    def changed(self, entry: Entry, kind: EventKind) -> None:
        """This happened to a song."""

    def stopping(self) -> None:
        """The user asked to stop; songs are being cancelled."""

    def end(self, result: Result) -> None:
        """That was it."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be done.

    Attributes:
        songs: the files.
        options: for each of them.
        settings: of the manager; its data folder is not used.
        priority, project_name: for each task.
    """

    songs: Sequence[Song]
    options: SeparationOptions
    settings: Settings
    priority: Priority = Priority.NORMAL
    project_name: str | None = None


def separate_songs(order: Order, report: Report, clock: Callable[[], float] = time.monotonic) -> Result:
    """Separate the songs and tell the report; returns when all are settled or the user stopped it.

    SIGINT, SIGTERM or SIGHUP stops it: running songs are cancelled, and no half stem and no process stays. A second
    one kills the workers at once.

    Args:
        order: see there.
        report: is told of each change.
        clock: monotonic seconds.
    """
    batch = _Batch(order, report, clock)
    with report:
        result = asyncio.run(batch.run())
        report.end(result)
    return result


class _Batch:
    """One run of `separate_songs`."""

    def __init__(self, order: Order, report: Report, clock: Callable[[], float]) -> None:
        self._order = order
        self._report = report
        self._clock = clock
        self._entries = [Entry(song) for song in order.songs]
        self._by_task: dict[str, Entry] = {}
        self._finished = asyncio.Event()
        self._interrupted = False
        self._deaths_in_a_row = 0
        self._stops: list[asyncio.Task[None]] = []

    async def run(self) -> Result:
        began = self._clock()
        self._report.begin(self._entries)
        for entry in self._entries:
            if not entry.song.path.exists():
                self._settle(entry, Standing.FAILED, InputNotFound(path=entry.song.path).info)
        if not self._all_settled:
            with tempfile.TemporaryDirectory(prefix="demucs-server-worker-", ignore_cleanup_errors=True) as folder:
                await self._work(WorkerManager(self._order.settings, data_dir=Path(folder)))
        return Result(self._entries, self._clock() - began, self._interrupted)

    async def _work(self, manager: WorkerManager) -> None:
        with self._heeding_signals(manager):
            await manager.start()
            following = asyncio.create_task(self._follow(manager))
            try:
                await asyncio.sleep(0)  # one turn of the loop, after which it listens
                await self._add_tasks(manager)
                finished = asyncio.create_task(self._finished.wait())
                await asyncio.wait({finished, following}, return_when=asyncio.FIRST_COMPLETED)
                finished.cancel()
            finally:
                # Nothing is left to do, or the listening ended because the manager has been stopped.
                await manager.shutdown(0)
                await asyncio.gather(*self._stops)
                await following

    async def _add_tasks(self, manager: WorkerManager) -> None:
        options = {name: getattr(self._order.options, name) for name in self._order.options.__struct_fields__}
        for entry in self._entries:
            if entry.is_settled:
                continue
            try:
                entry.task = await manager.add_task(
                    input_path=entry.song.path, output_dir=entry.song.output_dir, input_name=entry.song.input_name,
                    project_name=self._order.project_name, priority=self._order.priority, **options,
                )  # fmt: skip
            except ShuttingDown:
                return
            except DemucsWorkerError as error:
                self._settle(entry, Standing.FAILED, error.info)
            else:
                self._by_task[entry.task.id] = entry
        self._finish_if_settled()

    async def _follow(self, manager: WorkerManager) -> None:
        events: AsyncIterator[Event] = manager.events()
        async for event in events:
            if event.kind is EventKind.WORKER_DIED:
                self._count_death(manager, event.detail)
            else:
                self._deaths_in_a_row = 0
            entry = self._by_task.get(event.task_id or "")
            if entry is not None and event.task is not None and not entry.is_settled:
                self._take(entry, event.kind, event)

    def _take(self, entry: Entry, kind: EventKind, event: Event) -> None:
        entry.task = event.task
        match kind:
            case EventKind.STARTED:
                entry.standing, entry.began, entry.eta_seconds = Standing.RUNNING, self._clock(), None
            case EventKind.PROGRESS:
                entry.eta_seconds = event.eta_seconds
            case EventKind.RETRYING:
                entry.standing, entry.error = Standing.WAITING, event.error
            case EventKind.COMPLETED:
                return self._settle(entry, Standing.COMPLETED, None)
            case EventKind.FAILED:
                return self._settle(entry, Standing.FAILED, event.error)
            case _:
                return None
        return self._report.changed(entry, kind)

    def _settle(self, entry: Entry, standing: Standing, error: ErrorInfo | None) -> None:
        entry.standing, entry.error, entry.eta_seconds = standing, error, None
        if entry.began is not None:
            entry.seconds = self._clock() - entry.began
        self._report.changed(entry, EventKind(standing.value))
        self._finish_if_settled()

    @property
    def _all_settled(self) -> bool:
        return all(entry.is_settled for entry in self._entries)

    def _finish_if_settled(self) -> None:
        if self._all_settled:
            self._finished.set()

    def _count_death(self, manager: WorkerManager, detail: str | None) -> None:
        """Where no worker comes up at all, tasks would wait for ever: they fail with the reason instead."""
        self._deaths_in_a_row += 1
        if self._deaths_in_a_row < HOPELESS_STARTS * len(manager.get_status()["workers"]):
            return
        reason = WorkerFailure(f"No worker starts: {detail}. `demucs-server-worker doctor` tells more.").info
        for entry in self._entries:
            if not entry.is_settled:
                self._settle(entry, Standing.FAILED, reason)

    @contextmanager
    def _heeding_signals(self, manager: WorkerManager) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._stop, manager)
        try:
            yield
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)
                signal.signal(number, before[number])

    def _stop(self, manager: WorkerManager) -> None:
        grace_seconds = 0.0 if self._interrupted else STOP_SECONDS
        if not self._interrupted:
            self._interrupted = True
            self._report.stopping()
        self._stops.append(asyncio.get_running_loop().create_task(manager.shutdown(grace_seconds)))
