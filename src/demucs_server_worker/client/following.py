"""What happens on the server, as it happens: over Server-Sent Events that are taken up again where they broke off, and
by asking from time to time where those do not get through.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from demucs_server_worker.client import calls
from demucs_server_worker.client.answers import event_of, refuse, unreachable
from demucs_server_worker.client.effects import (
    Close,
    Emit,
    Flow,
    Reply,
    Silent,
    Sleep,
    Stream,
    Tell,
    Unanswered,
    opened,
    read,
    rest_of,
)
from demucs_server_worker.client.requests import Request, get
from demucs_server_worker.client.server import Server, pause_before
from demucs_server_worker.client.sse import SseParser
from demucs_server_worker.errors import (
    DemucsWorkerError,
    ErrorInfo,
    ServerUnreachable,
    TaskCancelled,
    TaskFailed,
    TaskNotFound,
)
from demucs_server_worker.events import FINAL_KINDS, EventKind
from demucs_server_worker.task import FINAL, TaskState
from demucs_server_worker.wire.event import EventBody
from demucs_server_worker.wire.task import TaskBody

# Three of the server's heartbeats: past that, nobody is at the other end.
SILENCE_SECONDS = 45.0
# A deadline nearer than a heartbeat is kept by asking, since a stream may stay silent past it.
NEAR_DEADLINE_SECONDS = 20.0
POLL_SECONDS = 0.5

_PROBLEM_BYTES = 64_000
# A server that is being stopped or started, or a proxy in front of one.
_AWAY = frozenset({502, 503, 504})

OnEvent = Callable[[EventBody], object]


class Feed:
    """The events of one task or of all, over as many connections as that takes."""

    def __init__(self, server: Server, task_id: str | None) -> None:
        """Args: server: whose; task_id: of which task, or None."""
        self._server = server
        path = ("tasks", task_id, "events") if task_id is not None else ("events",)
        self._request = get(*path).with_headers(Accept="text/event-stream", Cache_Control="no-store")
        self._parser = SseParser()
        self._stream: Stream | None = None
        self._heard = False
        self.is_useless = False

    def is_open(self) -> bool:
        """Whether it is connected."""
        return self._stream is not None

    def open(self, silence_seconds: float = SILENCE_SECONDS) -> Flow[None]:
        """Connect, after the last event that was heard. Where the server can be reached, but gives no stream that
        anything comes out of, `is_useless` is true then.

        Args:
            silence_seconds: after which a connection that says nothing counts as broken.

        Raises:
            ServerUnreachable: it was gone for longer than `Patience.away_seconds`.
            TaskNotFound, Unauthorized, …: what it answered.
        """
        began, attempt = self._server.clock(), 0
        while True:
            attempt += 1
            try:
                stream = yield from opened(self._resumed(), silence_seconds)
            except Silent:
                self.is_useless = True
                return
            except Unanswered as lost:
                trouble: DemucsWorkerError = unreachable(lost, self._server)
            else:
                if (found := (yield from self._judge(stream))) is None:
                    return
                trouble = found
            if self._server.clock() - began > self._server.patience.away_seconds:
                raise trouble
            yield Sleep(pause_before(attempt))

    def _resumed(self) -> Request:
        last_id = self._parser.last_id
        return self._request.with_headers(Last_Event_ID=last_id) if last_id else self._request

    def _judge(self, stream: Stream) -> Flow[DemucsWorkerError | None]:
        """Take the stream if it is one; give the trouble if it will pass; raise it otherwise."""
        if stream.status == 200 and stream.headers.get("content-type", "").startswith("text/event-stream"):
            # What was heard in part went down with the old connection.
            self._parser = SseParser(self._parser.last_id)
            self._stream = stream
            return None
        if stream.status == 204:
            # The task's last event is among those that were heard.
            yield Close(stream)
            return None
        if stream.status == 200:
            yield Close(stream)
            self.is_useless = True
            return None
        reply = Reply(stream.status, stream.headers, (yield from rest_of(stream, _PROBLEM_BYTES)))
        try:
            refuse(reply, self._server)
        except DemucsWorkerError as error:
            if stream.status in _AWAY:
                return error
            raise

    def news(self) -> Flow[list[EventBody]]:
        """What comes next: events, or none at a sign of life. The connection may have ended then."""
        stream = self._stream
        assert stream is not None  # noqa: S101 - its callers open it first
        try:
            chunk = yield from read(stream)
        except Silent:
            # A proxy that keeps everything back until the end; but one silence of a stream that spoke is a dead peer.
            self.is_useless = not self._heard
            chunk = None
        except Unanswered:
            chunk = None
        if chunk is None:
            yield from self.close()
            return []
        self._heard = True
        events = [event_of(message.data) for message in self._parser.feed(chunk)]
        return [event for event in events if event is not None]

    def close(self) -> Flow[None]:
        """Disconnect."""
        if self._stream is not None:
            stream, self._stream = self._stream, None
            yield Close(stream)


def events(server: Server, task_id: str | None) -> Flow[None]:
    """Emit what happens, of one task up to its last event, or of all for as long as the caller listens."""
    feed = Feed(server, task_id)
    vain = 0
    while True:
        yield from feed.open()
        if feed.is_useless:
            raise ServerUnreachable(url=server.url, detail="no events get through; a proxy may hold them back")
        heard = 0
        while feed.is_open():
            for event in (yield from feed.news()):
                heard += 1
                yield Emit(event)
                if task_id is not None and event.event in FINAL_KINDS:
                    yield from feed.close()
                    return
        if task_id is not None:
            # A stream may end because all has been said.
            now = yield from calls.task(server, task_id)
            if now.state in FINAL:
                yield Emit(seen(now))
                return
        vain = 0 if heard else vain + 1
        yield Sleep(pause_before(vain or 1))


def wait(server: Server, task_id: str, timeout: float | None, on_event: OnEvent | None) -> Flow[TaskBody]:
    """Wait until a task is finished. See `Client.wait`."""
    deadline = _Deadline(server, timeout)
    feed = Feed(server, task_id)
    watcher = _Watcher(on_event)
    while True:
        if deadline.is_near or feed.is_useless:
            yield from feed.close()
            return (yield from _poll(server, task_id, deadline, watcher))
        if not feed.is_open():
            try:
                yield from feed.open(min(SILENCE_SECONDS, deadline.left_seconds))
            except TaskNotFound:
                # There is no such task, or no such stream: asking for the task tells which.
                feed.is_useless = True
            # What happened while nobody listened; and a task that is finished has no more events.
            yield from watcher.see((yield from _now(server, task_id)), quietly=feed.is_open())
        else:
            for event in (yield from feed.news()):
                yield from watcher.hear(event)
            if not feed.is_open():
                yield Sleep(pause_before(1))
        if watcher.finished is not None:
            yield from feed.close()
            return conclude(watcher.finished)


def _poll(server: Server, task_id: str, deadline: _Deadline, watcher: _Watcher) -> Flow[TaskBody]:
    while True:
        yield from watcher.see((yield from _now(server, task_id)), quietly=False)
        if watcher.finished is not None:
            return conclude(watcher.finished)
        deadline.check(task_id)
        yield Sleep(min(POLL_SECONDS, deadline.left_seconds))


def _now(server: Server, task_id: str) -> Flow[TaskBody]:
    """The task, from a server that may be away for a while."""
    began, attempt = server.clock(), 0
    while True:
        attempt += 1
        try:
            return (yield from calls.task(server, task_id))
        except DemucsWorkerError as error:
            if not error.retryable or server.clock() - began > server.patience.away_seconds:
                raise
        yield Sleep(pause_before(attempt))


@dataclass
class _Deadline:
    """When a wait ends at the latest."""

    server: Server
    timeout: float | None

    def __post_init__(self) -> None:
        self._began = self.server.clock()

    @property
    def left_seconds(self) -> float:
        if self.timeout is None:
            return float("inf")
        return max(0.0, self._began + self.timeout - self.server.clock())

    @property
    def is_near(self) -> bool:
        return self.left_seconds < NEAR_DEADLINE_SECONDS

    def check(self, task_id: str) -> None:
        if self.left_seconds <= 0:
            raise TimeoutError(f"Task {task_id} is not finished after {self.timeout:g} seconds; it goes on.")


class _Watcher:
    """Tells a caller each event once, and knows when the task is finished."""

    def __init__(self, on_event: OnEvent | None) -> None:
        self._on_event = on_event
        self._last: tuple[object, ...] | None = None
        self.finished: TaskBody | None = None

    def hear(self, event: EventBody) -> Flow[None]:
        """An event of the stream."""
        if event.task is None:
            return
        self._last = _essence(event.task)
        if event.event in FINAL_KINDS:
            self.finished = event.task
        if self._on_event is not None:
            yield Tell(self._on_event, event)

    def see(self, task: TaskBody, *, quietly: bool) -> Flow[None]:
        """The task as it is. Unless `quietly`, because the stream will tell, a change is told as an event."""
        if task.state in FINAL:
            self.finished = task
        elif quietly:
            return
        if _essence(task) != self._last:
            self._last = _essence(task)
            if self._on_event is not None:
                yield Tell(self._on_event, seen(task))


def _essence(task: TaskBody) -> tuple[object, ...]:
    return task.state, task.attempt, task.stage, task.progress


def seen(task: TaskBody) -> EventBody:
    """An event that says how a task was found, where no stream told how it got there."""
    kinds = {TaskState.QUEUED: EventKind.QUEUED, TaskState.RUNNING: EventKind.PROGRESS}
    kind = kinds.get(task.state) or EventKind(task.state.value)
    when = task.finished_at or task.started_at or task.created_at
    fields: dict[str, Any] = {"event": kind, "at": when, "task_id": task.id, "task": task, "error": task.error}
    return EventBody.model_construct(**fields)


def conclude(task: TaskBody) -> TaskBody:
    """A finished task that is completed; otherwise the error that says why it is not.

    Raises:
        TaskFailed, TaskCancelled: as in process.
    """
    if task.state is TaskState.FAILED and task.error is not None:
        info = ErrorInfo(code=task.error.code, message=task.error.message, retryable=task.error.retryable)
        raise TaskFailed(task.id, info)
    if task.state is TaskState.CANCELLED:
        raise TaskCancelled(task.id)
    return task
