"""Songs through a running server: sent, and if the user waits, followed to their end and fetched."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demucs_server_worker.cli.batch import Entry, Report, Result, Standing
from demucs_server_worker.cli.exits import DONE, INTERRUPTED, SOME_FAILED
from demucs_server_worker.cli.songs import Song
from demucs_server_worker.client import AsyncClient, Patience
from demucs_server_worker.errors import DemucsWorkerError, ErrorInfo, TaskFailed
from demucs_server_worker.events import EventKind
from demucs_server_worker.separation.naming import stem_path, track_name
from demucs_server_worker.task import Stage
from demucs_server_worker.wire.event import EventBody
from demucs_server_worker.wire.task import StemBody, TaskBody

SENT_AT_ONCE = 3
FETCHED_AT_ONCE = 3
# A connection each. The server takes what was sent first first, so that these are those at work.
FOLLOWED_AT_ONCE = 32

# A batch may be larger than the room in the server's queue: the rest waits here until there is some.
_PATIENT = Patience(busy_seconds=24 * 3600.0)
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class RemoteEntry(Entry):
    """A song on its way through the server.

    Attributes:
        body: its task as the server told it last.
        sent: the part of the file that has been sent, while it is being sent.
        files: where its stems are on this machine, by name.
    """

    body: TaskBody | None = None
    sent: float | None = None
    fetching: bool = False
    files: Mapping[str, Path] | None = None

    @property
    def stage(self) -> Stage:
        """What the server does with it."""
        return self.body.stage if self.body is not None and self.standing is Standing.RUNNING else Stage.QUEUED

    @property
    def busy_with(self) -> str:
        """The same in a word, or what happens on the way there and back."""
        return "sending" if self.sent is not None else "fetching" if self.fetching else super().busy_with

    @property
    def progress(self) -> float:
        """0 to 1, of sending or of the task."""
        return self.sent if self.sent is not None else self.body.progress if self.body is not None else 0.0

    @property
    def at_once(self) -> bool:
        """Whether it has the stems of an earlier task."""
        return self.body is not None and self.body.cached

    @property
    def audio_seconds(self) -> float | None:
        """The length of the song, once known."""
        return self.body.duration_seconds if self.body is not None else None

    @property
    def folder(self) -> Path | None:
        """The folder that holds all its stems here, once they are."""
        if not self.files:
            return None
        return Path(os.path.commonpath([path.parent for path in self.files.values()]))

    @property
    def task_fields(self) -> dict[str, Any] | None:
        """Its task, with the paths of its stems on this machine where they have been fetched."""
        if self.body is None:
            return None
        fields = self.body.model_dump(mode="json")
        for stem in fields["stems"]:
            stem["path"] = str(self.files[stem["name"]]) if self.files else None
        return fields


@dataclass(frozen=True, kw_only=True)
class RemoteOrder:
    """What is to be done.

    Attributes:
        url: the server's address; None takes the environment's.
        songs: the files.
        fields: of each task: options, project, priority.
        filename: template of a stem's path below the song's output folder.
        in_place: whether the songs and their output folders are the server's, and only their paths are sent.
        wait: whether to follow them to their end.
        fetch: whether to fetch the stems.
    """

    url: str | None
    songs: Sequence[Song]
    fields: Mapping[str, Any]
    filename: str
    in_place: bool
    wait: bool
    fetch: bool


def submit_songs(order: RemoteOrder, report: Report, clock: Callable[[], float] = time.monotonic) -> int:
    """Send the songs, and wait for them and fetch their stems if that is wanted. A signal ends it: what the server has
    taken goes on there.

    Args:
        order: see there.
        report: is told of each change.
        clock: monotonic seconds.

    Returns:
        The exit code.

    Raises:
        ServerUnreachable, Unauthorized, InvalidSetting: no song can be sent at all.
    """
    return asyncio.run(_Run(order, report, clock).run())


class _Run:
    """One run of `submit_songs`."""

    def __init__(self, order: RemoteOrder, report: Report, clock: Callable[[], float]) -> None:
        self._order = order
        self._report = report
        self._clock = clock
        self._entries = [RemoteEntry(song) for song in order.songs]
        self._sending = asyncio.Semaphore(SENT_AT_ONCE)
        self._following = asyncio.Semaphore(FOLLOWED_AT_ONCE)
        self._fetching = asyncio.Semaphore(FETCHED_AT_ONCE)

    async def run(self) -> int:
        began = self._clock()
        async with AsyncClient(self._order.url, patience=_PATIENT) as client:
            await client.status()  # before anything is shown: a server that is not there is told once, not for each
            with self._report:
                self._report.begin(self._entries)
                interrupted = await self._all(client)
                result = Result(self._entries, self._clock() - began, interrupted, unfinished=self._unfinished)
                self._report.end(result)
        return self._exit_code(interrupted)

    @property
    def _unfinished(self) -> str:
        return "left to the server" if self._order.wait else "queued"

    def _exit_code(self, interrupted: bool) -> int:
        if interrupted:
            return INTERRUPTED
        return SOME_FAILED if any(entry.standing is Standing.FAILED for entry in self._entries) else DONE

    async def _all(self, client: AsyncClient) -> bool:
        """Each song's way; whether a signal ended them before they were at their end."""
        ways = asyncio.gather(*(self._way(client, entry) for entry in self._entries))
        with _heeding(ways.cancel):
            try:
                await ways
            except asyncio.CancelledError:
                return True
        return False

    async def _way(self, client: AsyncClient, entry: RemoteEntry) -> None:
        try:
            async with self._sending:
                await self._send(client, entry)
            if self._order.wait:
                async with self._following:
                    await self._follow(client, entry)
                await self._fetch(client, entry)
        except TaskFailed as failure:
            self._settle(entry, Standing.FAILED, failure.error)
        except DemucsWorkerError as error:
            self._settle(entry, Standing.FAILED, error.info)

    async def _send(self, client: AsyncClient, entry: RemoteEntry) -> None:
        def sent(done: int, total: int | None) -> None:
            entry.sent = done / total if total else 0.0

        entry.standing, entry.sent = Standing.RUNNING, 0.0
        try:
            fields = {**self._order.fields, "input_name": _storable(entry.song.input_name)}
            if self._order.in_place:
                path, output_dir = Path.cwd() / entry.song.path, entry.song.output_dir
                entry.body = await client.submit(input_path=path, output_dir=output_dir, **fields)
            else:
                entry.body = await client.submit(entry.song.path, on_progress=sent, **fields)
        finally:
            entry.standing, entry.sent = Standing.WAITING, None
        self._report.changed(entry, EventKind.QUEUED)

    async def _follow(self, client: AsyncClient, entry: RemoteEntry) -> None:
        assert entry.body is not None  # noqa: S101 - it has been sent
        entry.body = await client.wait(entry.body.id, on_event=lambda event: self._take(entry, event))

    def _take(self, entry: RemoteEntry, event: EventBody) -> None:
        entry.body = event.task or entry.body
        entry.eta_seconds = event.task.eta_seconds if event.task is not None else None
        started = entry.standing is not Standing.RUNNING
        match event.event:
            case EventKind.STARTED | EventKind.PROGRESS:
                entry.standing = Standing.RUNNING
                entry.began = self._clock() if started else entry.began
            case EventKind.RETRYING:
                error = event.error
                entry.standing = Standing.WAITING
                entry.error = None if error is None else ErrorInfo(error.code, error.message, error.retryable)
            case _:
                return
        # A stream that was joined late, or broke off, does not tell of the start.
        self._report.changed(entry, EventKind.STARTED if started and entry.began else event.event)

    async def _fetch(self, client: AsyncClient, entry: RemoteEntry) -> None:
        body = entry.body
        assert body is not None  # noqa: S101 - it has been followed to its end
        seconds = None if entry.began is None else self._clock() - entry.began
        if self._order.fetch:
            entry.standing, entry.fetching = Standing.RUNNING, True
            async with self._fetching:
                files = {stem.name: self._place(entry, body, stem) for stem in body.stems}
                for name, path in files.items():
                    await client.download_stem(body, name, path)
            entry.fetching, entry.files = False, files
        elif self._order.in_place:
            entry.files = {stem.name: Path(stem.path) for stem in body.stems if stem.path is not None}
        self._settle(entry, Standing.COMPLETED, None)
        entry.seconds = seconds

    def _place(self, entry: RemoteEntry, body: TaskBody, stem: StemBody) -> Path:
        track, trackext = track_name(entry.song.input_name)
        path = stem_path(
            self._order.filename, project=self._order.fields.get("project_name"), track=track, trackext=trackext,
            stem=stem.name, ext=stem.format, model=body.options.model,
        )  # fmt: skip
        return entry.song.output_dir / path

    def _settle(self, entry: RemoteEntry, standing: Standing, error: ErrorInfo | None) -> None:
        entry.standing, entry.error, entry.eta_seconds, entry.fetching = standing, error, None, False
        if entry.began is not None:
            entry.seconds = self._clock() - entry.began
        self._report.changed(entry, EventKind(standing.value))


def _storable(name: str) -> str:
    """A name that is not UTF-8 on this disk, as far as it is."""
    return os.fsencode(name).decode("utf-8", "replace")


@contextmanager
def _heeding(stop: Callable[[], object]) -> Iterator[None]:
    """Signals end the batch, and not the program in the middle of it."""
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in _SIGNALS:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, before[number])
