"""What can be asked of the queue without changing it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import msgspec

from demucs_server_worker.queue.database import BUSY_TIMEOUT_SECONDS, Database
from demucs_server_worker.queue.rows import decode_files, from_row
from demucs_server_worker.retry import LONGEST_DELAY_SECONDS
from demucs_server_worker.task import Priority, Task, TaskState

_PAST_THE_NEWEST = 2**63 - 1


class QueueCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many tasks there are.

    Attributes:
        queued: that wait, for a worker or for the time of their next attempt.
        by_priority: the queued ones by priority, all three always there.
        running: that a worker has.
        completed, failed, cancelled: that ended so, those deleted since among them; a task that a caller retries is
            no longer counted as failed or cancelled.
        retried: attempts that ended in another attempt, ever.
    """

    queued: int
    by_priority: dict[Priority, int]
    running: int
    completed: int
    failed: int
    cancelled: int
    retried: int


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Part of a list of tasks, newest first. `cursor` asks for the part that follows; None at the end."""

    tasks: tuple[Task, ...]
    cursor: int | None


class Publication(msgspec.Struct, frozen=True, kw_only=True):
    """Stems of a completed task that may still have to be moved to their place.

    Attributes:
        task_id: the task.
        staging: absolute path of the temporary folder that has, or had, the files.
        output_dir: absolute path of the folder below which they belong.
        files: paths relative to both, in the order in which to move them.
    """

    task_id: str
    staging: str
    output_dir: str
    files: tuple[str, ...]


class TaskReader:
    """A read-only view of the queue on a connection of its own. It never waits for a writer, nor makes one wait.

    A reader belongs to the thread that opened it. Any number of them, in any process, may look while the one
    `TaskQueue` writes; each sees what was committed before its call.
    """

    def __init__(self, path: Path, *, busy_timeout_seconds: float = BUSY_TIMEOUT_SECONDS) -> None:
        """Open the database at `path`, which a `TaskQueue` has created.

        Raises:
            QueueCorrupt, OutputNotWritable: it cannot be read.
        """
        self._database = Database(path, read_only=True, busy_timeout_seconds=busy_timeout_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._database.close()

    def get(self, task_id: str) -> Task | None:
        """The task with this id, or None."""
        row = self._database.one("get", id=task_id)
        return from_row(row) if row else None

    def by_file_id(self, file_id: str) -> Task | None:
        """The task that the caller knows as `file_id`, or None."""
        row = self._database.one("get_by_file_id", file_id=file_id)
        return from_row(row) if row else None

    def page(self, state: TaskState | None = None, *, limit: int = 100, cursor: int | None = None) -> Page:
        """The newest tasks, of one state or of all, by the time they were added.

        Args:
            state: only tasks in this state.
            limit: most tasks to give.
            cursor: of the page before. What was added since then does not shift the pages.
        """
        before = _PAST_THE_NEWEST if cursor is None else cursor
        # One row more than wanted tells whether anything follows.
        if state is None:
            rows = self._database.all("list_all", before=before, limit=limit + 1)
        else:
            rows = self._database.all("list_by_state", state=state.value, before=before, limit=limit + 1)
        shown = rows[:limit]
        more = len(rows) > limit and shown
        return Page(tasks=tuple(from_row(row) for row in shown), cursor=shown[-1]["number"] if more else None)

    def with_result(self, result_key: str, *, limit: int) -> list[Task]:
        """The completed tasks with this `result_key`, newest first."""
        return [from_row(row) for row in self._database.all("list_by_result", result_key=result_key, limit=limit)]

    def finished_uploads(self, before: float, *, limit: int) -> list[str]:
        """The ids of uploaded tasks that ended before a time (epoch seconds), those that ended first first."""
        return [row["id"] for row in self._database.all("list_finished_uploads", before=before, limit=limit)]

    def newest_end(self) -> float | None:
        """When the task that ended last did (epoch seconds); None where none has."""
        row = self._database.one("newest_end")
        return row["finished_at"] if row else None

    def position(self, task_id: str) -> int | None:
        """The place of a queued task, 1 for the next to start; None when it is not queued.

        Tasks that wait for the time of their next attempt are not counted as being ahead of others.
        """
        row = self._database.one("position", id=task_id)
        return row["place"] if row else None

    def positions(self, tasks: Sequence[Task]) -> dict[str, int]:
        """The places of those that are queued, by id: as `position`, in one walk along the queue for all of them."""
        queued = [task.id for task in tasks if task.state is TaskState.QUEUED]
        if not queued:
            return {}
        rows = self._database.all("positions", ids=json.dumps(queued))
        found = {row["id"]: row["place"] for row in rows}
        for task_id in queued:
            if task_id not in found and (place := self.position(task_id)) is not None:
                found[task_id] = place  # it waits for the time of its next attempt
        return found

    def counts(self) -> QueueCounts:
        """How many tasks there are, in a time that does not depend on it."""
        rows = self._database.all("counts")
        queued = {priority: _sum(rows, TaskState.QUEUED, priority.rank) for priority in Priority}
        return QueueCounts(
            queued=sum(queued.values()),
            by_priority=queued,
            running=_sum(rows, TaskState.RUNNING),
            completed=_sum(rows, TaskState.COMPLETED),
            failed=_sum(rows, TaskState.FAILED),
            cancelled=_sum(rows, TaskState.CANCELLED),
            retried=_sum(rows, "retried"),
        )

    def next_due(self, now: float) -> float | None:
        """When the earliest of the tasks that wait for a later time may start (epoch seconds), or None."""
        row = self._database.one("next_due", now=now, longest_delay=LONGEST_DELAY_SECONDS)
        return row["due"] if row else None

    def pending_publications(self) -> list[Publication]:
        """The results that were committed and not reported as published, oldest first."""
        return [
            Publication(
                task_id=row["task_id"],
                staging=row["staging"],
                output_dir=row["output_dir"],
                files=decode_files(row["files"]),
            )
            for row in self._database.all("list_publications")
        ]


def _sum(rows: list[sqlite3.Row], name: str, rank: int | None = None) -> int:
    return sum(row["tasks"] for row in rows if row["state"] == name and (rank is None or row["rank"] == rank))
