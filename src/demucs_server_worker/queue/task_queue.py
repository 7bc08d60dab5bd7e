"""TaskQueue: the durable truth about every task, and the only writer of it."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Sequence
from pathlib import Path

from demucs_server_worker import task as transitions
from demucs_server_worker.errors import (
    ErrorInfo,
    IllegalTransition,
    QueueFull,
    RequestError,
    TaskConflict,
    TaskNotFound,
    WorkerCrashed,
)
from demucs_server_worker.queue.database import BUSY_TIMEOUT_SECONDS, Database
from demucs_server_worker.queue.deliveries import Deliveries
from demucs_server_worker.queue.migrations import migrate
from demucs_server_worker.queue.reader import TaskReader
from demucs_server_worker.queue.rows import encode_files, from_row, to_row
from demucs_server_worker.retry import LONGEST_DELAY_SECONDS
from demucs_server_worker.task import Completed, Task, TaskRequest


class TaskQueue(TaskReader):
    """Tasks on disk, handed out by priority and then in the order in which they came.

    Every verb that writes is one transaction: when it returns, its result survives a power cut; when it raises,
    nothing was stored. It has no clock: all times are the caller's, in epoch seconds.

    A queue belongs to the thread that opened it, reading included; other threads open a `TaskReader`. One process
    has one open at a time: its data folder's lock, which is not kept here, sees to that. Should two be open anyway,
    no task is handed out twice or lost; only `recover` would take tasks from the other's workers.
    """

    def __init__(self, path: Path, *, busy_timeout_seconds: float = BUSY_TIMEOUT_SECONDS) -> None:
        """Open the database at `path`, or create it; check it, and bring it to the schema of this version.

        Args:
            path: the database file; SQLite keeps two more beside it, named alike.
            busy_timeout_seconds: how long a verb waits for another program's lock.

        Raises:
            QueueCorrupt: it is damaged, or something else's.
            QueueTooNew: a newer version wrote it.
            QueueLocked: another program keeps it locked.
            DiskFull, OutputNotWritable: it cannot be created.
        """
        self._database = Database(path, busy_timeout_seconds=busy_timeout_seconds)
        self.deliveries = Deliveries(self._database)
        try:
            self._database.check()
            migrate(self._database)
        except BaseException:
            self._database.close()
            raise

    # --- in ----------------------------------------------------------------------------------------------------------

    def put(self, request: TaskRequest, *, now: float, max_attempts: int, max_queued: int | None) -> tuple[Task, bool]:
        """Store a new task at the end of its priority; it is on disk when this returns.

        Args:
            request: what was asked for.
            now: epoch seconds.
            max_attempts: attempts before the task is failed, at least 1.
            max_queued: with this many queued tasks no more are taken; None for no limit.

        Returns:
            The task and True; or, when its `file_id` is known with an equal request, that task as it is and False.

        Raises:
            TaskConflict: its `file_id` is known with another request.
            QueueFull: `max_queued` tasks wait already.
        """
        (stored,) = self.put_all([request], now=now, max_attempts=max_attempts, max_queued=max_queued)
        if isinstance(stored, RequestError):
            raise stored
        return stored

    def put_all(
        self, requests: Sequence[TaskRequest], *, now: float, max_attempts: int, max_queued: int | None
    ) -> list[tuple[Task, bool] | RequestError]:
        """Store several new tasks in their order, in one transaction: one wait for the disk for all of them.

        Returns:
            For each request what `put` returns, or the TaskConflict or QueueFull that it raises.
        """
        with self._database.transaction():
            return [self._put(request, now, max_attempts, max_queued) for request in requests]

    def put_claimed(
        self, request: TaskRequest, *, worker_id: str, now: float, max_attempts: int
    ) -> tuple[Task, Task, bool]:
        """Store a new task and claim it at once, so that nobody else can. A full queue is no obstacle: it never waits.

        Args:
            request, now, max_attempts: as for `put`.
            worker_id: who takes it.

        Returns:
            The task as it was queued and as it was claimed, and True; or, when its `file_id` is known with an equal
            request, that task as it is, twice, and False.

        Raises:
            TaskConflict: its `file_id` is known with another request.
        """
        with self._database.transaction():
            stored = self._put(request, now, max_attempts, None)
            if isinstance(stored, RequestError):
                raise stored
            task, is_new = stored
            if not is_new:
                return task, task, False
            claimed = transitions.claim(task, worker_id, now)
            self._move(task, claimed)
        return task, claimed, True

    def _put(
        self, request: TaskRequest, now: float, max_attempts: int, max_queued: int | None
    ) -> tuple[Task, bool] | RequestError:
        known = self.by_file_id(request.file_id) if request.file_id is not None else None
        if known is not None:
            return (known, False) if known.request.asks_the_same(request) else TaskConflict(file_id=request.file_id)
        queued = _only(self._database.one("count_queued"))["queued"]
        if max_queued is not None and queued >= max_queued:
            return QueueFull(queued=queued)
        task = Task(
            id=uuid.uuid4().hex, request=request, max_attempts=max_attempts, created_at=now,
            duration_seconds=request.duration_seconds,
        )  # fmt: skip
        self._database.change("put", seq=self._next_seq(), **to_row(task))
        return task, True

    def _next_seq(self) -> int:
        return int(_only(self._database.one("next_seq"))["value"])

    # --- out, to a worker --------------------------------------------------------------------------------------------

    def peek(self, now: float) -> Task | None:
        """The task that `claim` would hand out, without handing it out."""
        with self._database.transaction():
            self._wake(now)
            row = self._database.one("peek")
        return from_row(row) if row else None

    def claim(self, worker_id: str, now: float) -> Task | None:
        """Hand the next task whose time has come to `worker_id`, as `task.claim` says; None when there is none."""
        with self._database.transaction():
            self._wake(now)
            row = self._database.one("claim", worker_id=worker_id, now=now)
        return from_row(row) if row else None

    def _wake(self, now: float) -> None:
        """Let the tasks whose time has come back into the order of their priority."""
        self._database.change("wake", now=now, longest_delay=LONGEST_DELAY_SECONDS)

    # --- the outcome of an attempt -----------------------------------------------------------------------------------
    # Each takes the task as `claim` gave it (progress and duration may have been filled in since), and gives the
    # task as it is now, or None when that claim is over: the task was cancelled, requeued or claimed anew meanwhile,
    # and nothing is changed.

    def complete(self, task: Task, outcome: Completed, now: float) -> Task | None:
        """running → completed; its stems are now to be published, and `published` is to be called after that."""
        with self._database.transaction():
            done = self._move(task, transitions.complete(task, outcome, now))
            if done is not None:
                self._database.change(
                    "add_publication",
                    task_id=task.id,
                    staging=outcome.staging,
                    output_dir=outcome.output_dir,
                    files=encode_files(outcome.files),
                )
        return done

    def published(self, task_id: str) -> None:
        """The stems of this completed task are all at their place. Said twice, it does no harm."""
        with self._database.transaction():
            self._database.change("delete_publication", task_id=task_id)

    def fail(self, task: Task, error: ErrorInfo, now: float) -> Task | None:
        """running → failed."""
        return self._settle(task, transitions.fail(task, error, now))

    def retry_later(self, task: Task, error: ErrorInfo, not_before: float, now: float) -> Task | None:
        """running → queued for the next attempt, at its old place in the order, not before `not_before`."""
        return self._settle(task, transitions.retry_later(task, error, not_before, now))

    def requeue(self, task: Task) -> Task | None:
        """running → queued at its old place in the order, with no attempt counted."""
        return self._settle(task, transitions.requeue(task))

    def recover(self, now: float) -> list[Task]:
        """Take back every task that was running when the last manager died. For the start, before any claim.

        The attempt counts, so that a task that takes the whole machine down cannot do so for ever: it goes back to
        its old place in the order, or is failed when that was its last attempt.

        Returns:
            The tasks as they are now, oldest first: queued or failed.
        """
        error = WorkerCrashed(detail="the worker manager died or was killed meanwhile").info
        with self._database.transaction():
            lost = [from_row(row) for row in self._database.all("list_running")]
            recovered = [_after_crash(task, error, now) for task in lost]
            for before, after in zip(lost, recovered, strict=True):
                self._move(before, after)
        return recovered

    def _settle(self, before: Task, after: Task) -> Task | None:
        with self._database.transaction():
            return self._move(before, after)

    def _move(self, before: Task, after: Task) -> Task | None:
        """Store `after`, unless the stored task is no longer the one that `before` was taken from."""
        changed = self._database.change(
            "move", **to_row(after), was_state=before.state.value, was_attempt=before.attempt, was_claim=before.claim
        )
        return after if changed else None

    # --- a caller's wishes -------------------------------------------------------------------------------------------

    def cancel(self, task_id: str, now: float) -> Task:
        """queued or running → cancelled. A worker that has it is to be stopped; its outcome will change nothing.

        Raises:
            TaskNotFound: there is no such task.
            IllegalTransition: it ended already.
        """
        with self._database.transaction():
            task = self._existing(task_id)
            cancelled = transitions.cancel(task, now)
            self._move(task, cancelled)
        return cancelled

    def revive(self, task_id: str) -> Task:
        """failed or cancelled → queued, at the end of its priority, with a fresh count of attempts.

        Raises:
            TaskNotFound: there is no such task.
            IllegalTransition: it is neither failed nor cancelled.
        """
        with self._database.transaction():
            task = self._existing(task_id)
            revived = transitions.revive(task)
            self._move(task, revived)
            self._database.change("send_to_end", id=task_id, seq=self._next_seq())
        return revived

    def delete(self, task_id: str) -> Task:
        """Forget a task that ended, and give it as it was. Its `file_id` is free again; its files are the caller's.

        Raises:
            TaskNotFound: there is no such task.
            IllegalTransition: it has not ended, or its stems are not all published yet.
        """
        with self._database.transaction():
            task = self._existing(task_id)
            if not task.is_final:
                raise IllegalTransition(task_id=task_id, state=task.state.value, verb="deleted")
            if self._database.one("get_publication", task_id=task_id) is not None:
                raise IllegalTransition(task_id=task_id, state="being published", verb="deleted")
            self._database.change("delete", id=task_id)
        return task

    def _existing(self, task_id: str) -> Task:
        task = self.get(task_id)
        if task is None:
            raise TaskNotFound(task_id=task_id)
        return task


def _after_crash(task: Task, error: ErrorInfo, now: float) -> Task:
    if task.attempt >= task.max_attempts:
        return transitions.fail(task, error, now)
    return transitions.retry_later(task, error, not_before=0.0, now=now)


def _only(row: sqlite3.Row | None) -> sqlite3.Row:
    """The row of a statement that always gives one."""
    if row is None:
        raise sqlite3.InternalError("a statement that always gives a row gave none")
    return row
