"""The progress of a running attempt, as its worker tells it. Kept in memory: it is not worth a write."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from demucs_server_worker.task import Task
from demucs_server_worker.worker.messages import Progress

# An estimate from less than this part of the work would jump about.
_FIRST_ESTIMATE_PART = 0.01


class Live:
    """One running attempt."""

    def __init__(self, task: Task, *, started_at: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Args: task: as it was claimed; started_at: on `clock`; clock: monotonic seconds."""
        self.task = task
        self._clock = clock
        self._started_at = started_at
        self._computing_since: tuple[float, float] | None = None  # (when, at what progress)

    def take(self, progress: Progress) -> None:
        """Follow what the worker says; the figure never falls."""
        fraction = max(self.task.progress, progress.progress)
        duration_seconds = progress.duration_seconds or self.task.duration_seconds
        self.task = msgspec.structs.replace(
            self.task, progress=fraction, stage=progress.stage, duration_seconds=duration_seconds
        )
        if progress.computing and self._computing_since is None:
            self._computing_since = (self._clock(), fraction)

    @property
    def eta_seconds(self) -> float | None:
        """Seconds until it is done, by the pace since the first forward pass; None while that says little."""
        if self._computing_since is None:
            return None
        since, at = self._computing_since
        done = self.task.progress - at
        if done < _FIRST_ESTIMATE_PART:
            return None
        return (self._clock() - since) * (1 - self.task.progress) / done
