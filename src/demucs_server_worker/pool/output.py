"""What a worker prints: into the log with its worker and task, and the last lines kept for the day it dies."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import Any

import structlog

KEPT_LINES = 20
LONGEST_LINE_BYTES = 2_000
# A worker that prints without end must not fill the disk with logs, nor keep the manager from its work.
LOGGED_LINES_PER_SECOND = 50
LAST_WORDS_LINES = 3
LAST_WORDS_CHARACTERS = 400

_UNPRINTABLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_FRAME = re.compile(r"\s|Traceback |File \"|Thread 0x|Current thread |Extension modules|\s*\^+$|$")


class Output:
    """Takes the lines that a worker prints on its standard output and error."""

    def __init__(self, worker_id: str, clock: Callable[[], float]) -> None:
        """Args: worker_id: who prints; clock: monotonic seconds."""
        self._task: dict[str, Any] = {}
        self._log = structlog.get_logger("demucs_server_worker.worker").bind(worker=worker_id)
        self._clock = clock
        self._kept: deque[str] = deque(maxlen=KEPT_LINES)
        self._second = clock()
        self._logged = 0
        self._left_out = 0

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The last lines that were printed, oldest first."""
        return tuple(self._kept)

    def belongs_to(self, task_id: str, attempt: int) -> None:
        """What is printed from now on is printed for this attempt of a task."""
        self._task = {"task": task_id, "attempt": attempt}

    def belongs_to_none(self) -> None:
        """What is printed from now on is printed for no task."""
        self._task = {}

    def take(self, line: bytes) -> None:
        """Log the line and keep it. Of a line that a progress bar wrote over and over, the last state counts."""
        text = _UNPRINTABLE.sub("", line.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", "replace")).rstrip()
        if not text:
            return
        self._kept.append(text)
        if self._within_budget():
            self._log.info(text, **self._task)

    def _within_budget(self) -> bool:
        now = self._clock()
        if now - self._second >= 1.0:
            self._second, self._logged = now, 0
            if self._left_out:
                self._log.warning("worker prints too much", lines_left_out=self._left_out)
                self._left_out = 0
        self._logged += 1
        self._left_out += self._logged > LOGGED_LINES_PER_SECOND
        return self._logged <= LOGGED_LINES_PER_SECOND


def last_words(lines: tuple[str, ...]) -> str:
    """The end of what a worker printed, for a message: no stack frames, which only help in the log."""
    telling = [line.strip() for line in lines if not _FRAME.match(line)]
    return " | ".join(telling[-LAST_WORDS_LINES:])[-LAST_WORDS_CHARACTERS:]
