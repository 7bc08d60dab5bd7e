"""When to try a task again, or to give up. Pure: no I/O, no clock, no randomness."""

from __future__ import annotations

import zlib

from demucs_server_worker.errors import ErrorInfo
from demucs_server_worker.task import Task

# Doubling stops here: a task that can be helped at all should not wait longer than a person would.
MAX_DELAY_SECONDS = 600.0
# Tasks that failed together (a full disk, a model server that is down) must not all come back in the same instant.
JITTER = 0.2
# The longest delay that `next_attempt` gives.
LONGEST_DELAY_SECONDS = MAX_DELAY_SECONDS * (1 + JITTER)

_DOUBLINGS = 64  # past any delay there is; bounds the power for an absurd number of attempts


def next_attempt(task: Task, error: ErrorInfo, now: float, *, base_seconds: float) -> float | None:
    """When the next attempt of `task` may begin, after the current one ended with `error`.

    The delay is `base_seconds` after the first attempt and doubles with each further one, up to
    `MAX_DELAY_SECONDS`; then it is spread by ±20 %, by an amount that depends on the task and the attempt alone.

    Args:
        task: the task, with the attempt that just ended as its `attempt`.
        error: why that attempt ended.
        now: epoch seconds.
        base_seconds: the delay before the second attempt.

    Returns:
        Epoch seconds, or None to give up: another attempt cannot help, or was the last one allowed.
    """
    if not error.retryable or task.attempt >= task.max_attempts:
        return None
    delay = min(base_seconds * 2.0 ** min(task.attempt - 1, _DOUBLINGS), MAX_DELAY_SECONDS)
    return now + delay * _spread(task)


def _spread(task: Task) -> float:
    """A factor between 1 - JITTER and 1 + JITTER, the same for the same attempt of the same task."""
    fraction = zlib.crc32(f"{task.id}/{task.attempt}".encode()) / 0xFFFFFFFF
    return 1 - JITTER + 2 * JITTER * fraction
