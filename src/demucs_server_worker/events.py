"""The named events of a task's life and of the system, and the bus that carries them to logs and listeners."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from enum import StrEnum
from weakref import WeakSet

import msgspec
import structlog

from demucs_server_worker.errors import ErrorInfo
from demucs_server_worker.task import Task

# A listener that does not read loses its oldest progress events past this many, and is never waited for.
LISTENER_BACKLOG = 1_000

_log = structlog.get_logger("demucs_server_worker.events")


class EventKind(StrEnum):
    """What happened."""

    QUEUED = "queued"
    STARTED = "started"
    PROGRESS = "progress"
    RETRYING = "retrying"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DELETED = "deleted"
    WORKER_STARTED = "worker_started"
    WORKER_DIED = "worker_died"
    HEALTH_CHANGED = "health_changed"


FINAL_KINDS = frozenset({EventKind.COMPLETED, EventKind.FAILED, EventKind.CANCELLED})


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One event.

    Attributes:
        kind: what happened.
        seq: its number on this bus, rising by one.
        at: epoch seconds.
        task_id: the task it is about, or None.
        task: that task as it is after the event.
        worker_id: the worker it is about, or None.
        error: why, for `retrying` and `failed`.
        detail: a sentence, for `worker_*` and `health_changed`.
        eta_seconds: for `progress`: seconds until the task is done, once they can be told.
        peak_memory_bytes: for `completed`: the most memory that its worker was seen with; None if nobody looked.
    """

    kind: EventKind
    seq: int
    at: float
    task_id: str | None = None
    task: Task | None = None
    worker_id: str | None = None
    error: ErrorInfo | None = None
    detail: str | None = None
    eta_seconds: float | None = None
    peak_memory_bytes: int | None = None


class EventBus:
    """Carries events from the manager to any number of listeners. One thread: the manager's event loop."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Args: clock: gives epoch seconds for `Event.at`."""
        self._clock = clock
        self._seq = 0
        # Weak: who asks for events and never reads them leaves no backlog behind.
        self._listeners: WeakSet[Listener] = WeakSet()
        self._closed = False
        self._callbacks: list[Callable[[Event], None]] = []
        self._at_end: list[Callable[[], None]] = []

    def publish(
        self,
        kind: EventKind,
        *,
        task: Task | None = None,
        worker_id: str | None = None,
        error: ErrorInfo | None = None,
        detail: str | None = None,
        eta_seconds: float | None = None,
        peak_memory_bytes: int | None = None,
    ) -> Event:
        """Number the event and hand it to every listener, without waiting for any."""
        self._seq += 1
        event = Event(
            kind=kind, seq=self._seq, at=self._clock(), task_id=task.id if task else None, task=task,
            worker_id=worker_id or (task.worker_id if task else None), error=error, detail=detail,
            eta_seconds=eta_seconds, peak_memory_bytes=peak_memory_bytes,
        )  # fmt: skip
        for callback in self._callbacks:
            _call(callback, event)
        for listener in self._listeners:
            listener.offer(event)
        return event

    def call(self, callback: Callable[[Event], None], at_end: Callable[[], None] | None = None) -> None:
        """Call `callback` for every event from now on, on the publisher's time, and `at_end` when the bus is closed:
        they must be quick and not raise."""
        self._callbacks.append(callback)
        if at_end is not None:
            self._at_end.append(at_end)

    def listen(self, task_id: str | None = None) -> Listener:
        """A listener for the events of one task, or of all: it hears what is published from now on, as long as somebody
        holds it. On a bus that was closed it hears nothing and ends."""
        listener = Listener(task_id)
        self._listeners.add(listener)
        if self._closed:
            listener.close()
        return listener

    def close(self) -> None:
        """End every listener's iteration, after what it has not read yet."""
        self._closed = True
        for callback in self._at_end:
            callback()
        for listener in self._listeners:
            listener.close()


class Listener:
    """One reader of the bus: an async iterator with a bounded backlog that gives up progress events first."""

    def __init__(self, task_id: str | None) -> None:
        self._task_id = task_id
        self._backlog: list[Event] = []
        self._news = asyncio.Event()
        self._closed = False

    def offer(self, event: Event) -> None:
        """Take the event if it is for this listener. A newer progress event of a task replaces an unread older one."""
        if self._task_id is not None and event.task_id != self._task_id:
            return
        if event.kind is EventKind.PROGRESS:
            stale = next((i for i, old in enumerate(self._backlog) if _same_progress(old, event)), None)
            if stale is not None:
                del self._backlog[stale]
        self._backlog.append(event)
        if len(self._backlog) > LISTENER_BACKLOG:
            del self._backlog[0]
        self._news.set()

    def close(self) -> None:
        """End the iteration once the backlog is read."""
        self._closed = True
        self._news.set()

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            while self._backlog:
                yield self._backlog.pop(0)
            if self._closed:
                return
            self._news.clear()
            await self._news.wait()

    async def until_final(self) -> AsyncIterator[Event]:
        """The events up to the first that is a task's last."""
        async for event in self:
            yield event
            if event.kind in FINAL_KINDS:
                return


async def only(event: Event) -> AsyncIterator[Event]:
    """Just this one."""
    yield event


def _call(callback: Callable[[Event], None], event: Event) -> None:
    try:
        callback(event)
    except Exception:  # whoever listens must not keep the task from going on
        _log.exception("a listener failed", kind=event.kind.value, task=event.task_id)


def _same_progress(old: Event, new: Event) -> bool:
    return old.kind is EventKind.PROGRESS and old.task_id == new.task_id
