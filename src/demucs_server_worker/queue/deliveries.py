"""What is still to be told to webhooks, on the disk. Triggers store it with the change of the task."""

from __future__ import annotations

import sqlite3

import msgspec

from demucs_server_worker.queue.database import Database
from demucs_server_worker.task import Task

_task = msgspec.json.Decoder(Task)


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One event that is to be told to the webhook of a task.

    Attributes:
        number: its key in the database.
        id: its name for the receiver, the same over all tries.
        event: the name of the `EventKind`.
        url: where to.
        origin: scheme, host and port of the URL.
        happened_at: epoch seconds.
        task: the task as it was after the event.
        tries: how often it was tried.
        first_try_at: epoch seconds; None before the first try.
    """

    number: int
    id: str
    event: str
    url: str
    origin: str
    happened_at: float
    task: Task
    tries: int = 0
    first_try_at: float | None = None


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """What can be told to one origin now.

    Attributes:
        deliveries: those that are due, longest due first. Of each task at most one: the order of its events is kept.
        next_due: when the next becomes due by time (epoch seconds); None when none does.
        pending: how many there are for this origin in all.
    """

    deliveries: tuple[Delivery, ...]
    next_due: float | None
    pending: int


class Deliveries:
    """The deliveries of a queue's database, on the connection and the thread of its `TaskQueue`."""

    def __init__(self, database: Database) -> None:
        """Args: database: the queue's, open for writing."""
        self._database = database

    def begin(self) -> list[str]:
        """The origins for which something is left. All of it becomes due: for the start, where the clock may have
        gone back since."""
        with self._database.transaction():
            self._database.change("hasten_deliveries")
        return [row["origin"] for row in self._database.all("list_delivery_origins")]

    def due(self, origin: str, *, now: float, limit: int) -> Batch:
        """What can be told to `origin` at the time `now` (epoch seconds), at most `limit` deliveries."""
        rows = self._database.all("due_deliveries", origin=origin, now=now, limit=limit)
        next_due = self._database.one("next_delivery", origin=origin, now=now)
        pending = self._database.one("count_deliveries", origin=origin)
        return Batch(
            deliveries=tuple(_delivery(row) for row in rows),
            next_due=next_due["due"] if next_due else None,
            pending=pending["deliveries"] if pending else 0,
        )

    def remove(self, number: int) -> None:
        """Forget a delivery that was told or given up: the next of its task can be told."""
        with self._database.transaction():
            self._database.change("delete_delivery", number=number)

    def postpone(self, number: int, *, tries: int, first_try_at: float, due_at: float) -> None:
        """Keep a delivery that failed for a later try.

        Args:
            number: of the delivery.
            tries: how often it was tried by now.
            first_try_at: epoch seconds of the first try.
            due_at: epoch seconds of the next.
        """
        with self._database.transaction():
            self._database.change(
                "postpone_delivery", number=number, tries=tries, first_try_at=first_try_at, due_at=due_at
            )


def _delivery(row: sqlite3.Row) -> Delivery:
    return Delivery(
        number=row["number"],
        id=row["id"],
        event=row["event"],
        url=row["url"],
        origin=row["origin"],
        happened_at=row["happened_at"],
        task=_task.decode(row["task"]),
        tries=row["tries"],
        first_try_at=row["first_try_at"],
    )
