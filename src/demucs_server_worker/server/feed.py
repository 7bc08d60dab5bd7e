"""What happens, as streams of Server-Sent Events: of one task, or of all."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator

from demucs_server_worker.errors import ShuttingDown, TaskNotFound
from demucs_server_worker.events import FINAL_KINDS, Event, EventKind
from demucs_server_worker.manager import WorkerManager
from demucs_server_worker.server import sse
from demucs_server_worker.server.history import Entry, Follower, History, Missed
from demucs_server_worker.task import Task, TaskState
from demucs_server_worker.wire.event import event_body

RESET = "reset"

# A task in this state, told to somebody who did not hear how it came there.
_KIND_OF_STATE = {
    TaskState.QUEUED: EventKind.QUEUED,
    TaskState.RUNNING: EventKind.PROGRESS,
    TaskState.COMPLETED: EventKind.COMPLETED,
    TaskState.FAILED: EventKind.FAILED,
    TaskState.CANCELLED: EventKind.CANCELLED,
}


class Feed:
    """Hears all events of a manager, and lets any number of clients follow them."""

    def __init__(self, manager: WorkerManager, history: History | None = None) -> None:
        """Args: manager: whose events; history: of this feed alone, by default a new one."""
        self._manager = manager
        self.history = history or History()
        manager.follow(self._hear, self.history.end)

    def _hear(self, event: Event) -> None:
        # Written once, however many listen.
        self.history.append(
            Entry(
                seq=event.seq,
                task_id=event.task_id,
                frame=self._frame(event, event.seq),
                is_progress=event.kind is EventKind.PROGRESS,
                is_final=event.kind in FINAL_KINDS,
            )
        )

    def of_all(self, last_id: str | None) -> AsyncIterator[bytes]:
        """The stream of all events.

        Args:
            last_id: of the last one that the client had, if it had any. What came since is told first; where that is
                not known, `reset` says so.

        Raises:
            ShuttingDown: there is nothing to hear any more.
        """
        self._check_open()
        seq = self.history.place(last_id) if last_id else self.history.head
        return self._all_after(seq)

    def of_task(self, task_id: str, last_id: str | None) -> AsyncIterator[bytes] | None:
        """The stream of one task, up to its final event.

        Args:
            task_id: the task.
            last_id: of the last event that the client had, if it had any. What came since is told first; without one,
                or where that is not known, the task as it is.

        Returns:
            The stream; None when the client had the final event.

        Raises:
            TaskNotFound: there is no such task.
            ShuttingDown: there is nothing to hear any more.
        """
        self._check_open()
        task = self._manager.get_task(task_id)
        seq = self.history.place(last_id) if last_id else None
        if seq is not None and task.is_final and self._had_the_end(task_id, seq):
            return None
        return self._task_after(task_id, seq)

    def _check_open(self) -> None:
        if self.history.ended:
            raise ShuttingDown

    def _had_the_end(self, task_id: str, seq: int) -> bool:
        try:
            return not any(entry.is_final for entry in self.history.after(seq, task_id))
        except Missed:
            return False

    async def _all_after(self, seq: int | None) -> AsyncIterator[bytes]:
        follower = Follower(self.history, self.history.head if seq is None else seq)
        yield sse.opening(self.history.id_of(follower.seq))
        if seq is None:
            yield self._reset()
        while True:
            try:
                entries = await follower.news(sse.HEARTBEAT_SECONDS)
            except Missed:
                yield self._reset()
                continue
            if not entries and self.history.ended:
                return
            yield b"".join(entry.frame for entry in entries) or sse.HEARTBEAT

    async def _task_after(self, task_id: str, seq: int | None) -> AsyncIterator[bytes]:
        follower = Follower(self.history, self.history.head if seq is None else seq, task_id)
        yield sse.opening(self.history.id_of(follower.seq))
        is_known = seq is not None
        while True:
            if not is_known:
                # Between the look at the task and at the head nothing can happen: all else is told after it.
                try:
                    task, follower.seq = self._manager.get_task(task_id), self.history.head
                except TaskNotFound:
                    return
                yield self._snapshot(task)
                if task.is_final:
                    return
            try:
                entries, is_known = await follower.news(sse.HEARTBEAT_SECONDS), True
            except Missed:
                is_known = False
                continue
            if not entries and self.history.ended:
                return
            yield b"".join(entry.frame for entry in entries) or sse.HEARTBEAT
            if any(entry.is_final for entry in entries):
                return

    def _snapshot(self, task: Task) -> bytes:
        kind, seq = _KIND_OF_STATE[task.state], self.history.head
        eta_seconds = self._manager.eta_seconds(task.id)
        position = self._manager.queue_position(task.id) if task.state is TaskState.QUEUED else None
        event = Event(
            kind=kind, seq=seq, at=time.time(), task_id=task.id, task=task, worker_id=task.worker_id,
            error=task.error if task.state is TaskState.FAILED else None, eta_seconds=eta_seconds,
        )  # fmt: skip
        return self._frame(event, seq, position)

    def _reset(self) -> bytes:
        detail = "Events were missed: ask for the lists again."
        return sse.frame(RESET, json.dumps({"event": RESET, "detail": detail}), self.history.id_of(self.history.head))

    def _frame(self, event: Event, seq: int, queue_position: int | None = None) -> bytes:
        body = event_body(event, queue_position=queue_position).model_dump_json()
        return sse.frame(event.kind.value, body, self.history.id_of(seq))
