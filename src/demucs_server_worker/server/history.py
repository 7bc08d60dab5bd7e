"""What happened of late, so that whoever was away for a moment can hear the rest. Bounded; pure but for the waiting.

All listeners read the one history, each from its own place: a listener that does not read holds nothing of its own, and
between what was missed and what comes there is no gap to fall into.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

MOST_ENTRIES = 10_000
# Frames of completed tasks are the largest, some 2 to 4 kB.
MOST_BYTES = 8_000_000
# Workers tell their progress ten times a second each. Listeners hear it this often: two hundred of them, at some 100 µs
# a listener, would otherwise take most of the manager's time.
PROGRESS_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Entry:
    """One event, ready to be sent.

    Attributes:
        seq: its number, rising.
        task_id: the task it is about, or None.
        frame: the bytes.
        is_progress: whether a newer one of the same task makes it worthless.
        is_final: whether it is the last of its task.
    """

    seq: int
    task_id: str | None
    frame: bytes
    is_progress: bool = False
    is_final: bool = False


class Missed(Exception):
    """What a listener wants to hear next is no longer in the history."""


class History:
    """The newest entries. It belongs to one event loop."""

    def __init__(self, *, most_entries: int = MOST_ENTRIES, most_bytes: int = MOST_BYTES) -> None:
        """Args: most_entries, most_bytes: past either, the oldest entries go."""
        # Another life of the server counts from the start again: its numbers mean nothing here.
        self.epoch = secrets.token_hex(4)
        self.ended = False
        self._most_entries = most_entries
        self._most_bytes = most_bytes
        self._entries: OrderedDict[int, Entry] = OrderedDict()
        self._bytes = 0
        self._head = 0
        self._lost = 0
        self._progress: dict[str, int] = {}
        self._waiting: dict[str | None, set[Follower]] = {}

    @property
    def head(self) -> int:
        """The number of the newest entry there ever was; 0 before the first."""
        return self._head

    @property
    def waiting(self) -> int:
        """How many listeners wait for news."""
        return sum(map(len, self._waiting.values()))

    def id_of(self, seq: int) -> str:
        """The name of an entry for clients: they resume with it."""
        return f"{self.epoch}-{seq}"

    def place(self, entry_id: str) -> int | None:
        """The number that `id_of` gave this name to; None for one of another life, or that makes no sense."""
        epoch, _, number = entry_id.partition("-")
        if epoch != self.epoch or not (number.isascii() and number.isdigit()) or len(number) > 18:
            return None
        return seq if (seq := int(number)) <= self._head else None

    def append(self, entry: Entry) -> None:
        """Add the newest entry, and wake who waits for it."""
        self._wake(entry)
        if entry.task_id is not None:
            self._retire_progress(entry)
        self._entries[entry.seq] = entry
        self._bytes += len(entry.frame)
        self._head = entry.seq
        while len(self._entries) > self._most_entries or self._bytes > self._most_bytes:
            self._lose_oldest()

    def end(self) -> None:
        """There will be no more: listeners hear the rest and end."""
        self.ended = True
        for followers in self._waiting.values():
            for follower in followers:
                follower.wake()

    def after(self, seq: int, task_id: str | None = None) -> list[Entry]:
        """What came after entry `seq`: of one task, or all. Takes as long as it is much.

        Raises:
            Missed: some of it is gone.
        """
        if seq < self._lost:
            raise Missed
        found = [entry for entry in self._newest_first(seq) if task_id is None or entry.task_id == task_id]
        return found[::-1]

    def _newest_first(self, seq: int) -> Iterator[Entry]:
        for number in reversed(self._entries):
            if number <= seq:
                return
            yield self._entries[number]

    def _wake(self, entry: Entry) -> None:
        for task_id in {None, entry.task_id}:
            for follower in self._waiting.get(task_id, ()):
                follower.hear(entry, self._head)

    def _retire_progress(self, entry: Entry) -> None:
        """Only the newest progress of a task is worth keeping, and none once the task has moved on."""
        assert entry.task_id is not None  # noqa: S101 - its caller looked
        old = self._entries.pop(self._progress.pop(entry.task_id, 0), None)
        if old is not None:
            self._bytes -= len(old.frame)
        if entry.is_progress:
            self._progress[entry.task_id] = entry.seq

    def _lose_oldest(self) -> None:
        seq, entry = self._entries.popitem(last=False)
        self._bytes -= len(entry.frame)
        self._lost = seq
        if entry.is_progress and entry.task_id is not None:
            self._progress.pop(entry.task_id, None)

    def _wait(self, follower: Follower) -> None:
        self._waiting.setdefault(follower.task_id, set()).add(follower)

    def _leave(self, follower: Follower) -> None:
        waiting = self._waiting.get(follower.task_id, set())
        waiting.discard(follower)
        if not waiting:
            self._waiting.pop(follower.task_id, None)


class Follower:
    """One listener's place in the history."""

    def __init__(self, history: History, seq: int, task_id: str | None = None) -> None:
        """Args: history: to follow; seq: of the last entry that it has; task_id: follow one task only."""
        self.seq = seq
        self.task_id = task_id
        self._history = history
        self._news = asyncio.Event()
        self._is_idle = True
        self._timer: asyncio.TimerHandle | None = None

    def hear(self, entry: Entry, before: int) -> None:
        """For the history, while this waits: `entry` comes, after the entry number `before`."""
        if self._is_idle:
            self._is_idle = False
            # It has had all that concerns it: what others caused meanwhile may be gone by now.
            self.seq = max(self.seq, before)
            if entry.is_progress:
                self._timer = asyncio.get_running_loop().call_later(PROGRESS_SECONDS, self.wake)
        if not entry.is_progress:
            self.wake()

    def wake(self) -> None:
        """Stop waiting."""
        self._news.set()

    async def news(self, patience_seconds: float) -> list[Entry]:
        """What it has not had yet: at once, or as it comes, progress up to `PROGRESS_SECONDS` later. Nothing once
        `patience_seconds` pass or the history ends.

        Raises:
            Missed: some of it is gone. It goes on with what comes from now on.
        """
        found = self._read()
        if not found and not self._history.ended:
            await self._wait(patience_seconds)
            found = self._read()
        return found

    def _read(self) -> list[Entry]:
        seq, self.seq = self.seq, self._history.head
        return self._history.after(seq, self.task_id)

    async def _wait(self, patience_seconds: float) -> None:
        self._news.clear()
        self._is_idle = True
        self._history._wait(self)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(patience_seconds):
                    await self._news.wait()
        finally:
            self._history._leave(self)
            if self._timer is not None:
                self._timer.cancel()
