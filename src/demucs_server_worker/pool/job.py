"""A job in progress: what is known of it, when it is to be taken from its worker, and what its end means. No I/O."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import msgspec
import structlog

from demucs_server_worker.errors import DemucsWorkerError, ErrorInfo, OutOfMemory, TimedOut, WorkerCrashed, WorkerHung
from demucs_server_worker.pool.base import Limits, ProgressListener
from demucs_server_worker.pool.process import Exit
from demucs_server_worker.task import Cancelled, Completed, Failed, Outcome
from demucs_server_worker.worker.messages import Done, Progress, Run

# The manager itself may have been stopped for a while (a suspended machine): what its workers said meanwhile still
# waits in the pipes. Silence and stalls are judged only after the pipes were read for this long past the limit.
SECOND_LOOK_SECONDS = 0.5
# Where a look comes later than it was to by more than this, this process did not run, and its workers neither: the time
# is nobody's fault.
LATE_LOOK_SECONDS = 2.0

_log = structlog.get_logger("demucs_server_worker.pool")


class Job:
    """One `Run` on its way through a worker."""

    def __init__(
        self, run: Run, limits: Limits, on_progress: ProgressListener, silence_seconds: float, now: float
    ) -> None:
        """Args: run, limits, on_progress: as in `Pool.run`; silence_seconds: without any message means hung; now:
        monotonic seconds."""
        loop = asyncio.get_running_loop()
        self.run = run
        self.limits = limits
        self.done: asyncio.Future[Done] = loop.create_future()
        self.asked: asyncio.Future[ErrorInfo | None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.progress = 0.0
        self._on_progress = on_progress
        self._silence_seconds = silence_seconds
        self._last: Progress | None = None
        self._suspected_since: float | None = None
        self.begin(now)

    def begin(self, now: float) -> None:
        """The worker gets the job now: the limits count from here."""
        self._started_at = now
        self._moved_at = now
        self._look_at = math.inf

    def ask_to_stop(self, reason: DemucsWorkerError | None) -> None:
        """Wish the job to end, for `reason` or as cancelled. The first wish counts."""
        if not self.asked.done():
            self.asked.set_result(reason.info if reason is not None else None)

    def take_progress(self, message: Progress, now: float) -> None:
        """Forward the worker's progress, if it is about this job and says anything new; it never falls."""
        if (message.task_id, message.claim) != (self.run.task_id, self.run.claim) or self.done.done():
            return
        message = msgspec.structs.replace(message, progress=min(max(self.progress, message.progress), 1.0))
        if message == self._last:
            return
        self._last = message
        self.progress = message.progress
        self._moved_at = now
        self._suspected_since = None
        guarded(self._on_progress, message)

    def take_sign(self, now: float) -> None:
        """The worker does something that no figure of progress shows: that is no stall."""
        self._moved_at = now
        self._suspected_since = None

    def take_done(self, message: Done) -> None:
        """The worker says that it ended the job."""
        if (message.task_id, message.claim) == (self.run.task_id, self.run.claim) and not self.done.done():
            self.done.set_result(message)

    def judge(self, now: float, last_heard: float) -> float:
        """Ask the job to stop if it is past a limit; else give the seconds after which to judge it again."""
        if (lost := now - self._look_at) > LATE_LOOK_SECONDS:
            self._started_at += lost
            self._moved_at += lost
        wait = self._judged(now, last_heard)
        self._look_at = now + wait
        return wait

    def _judged(self, now: float, last_heard: float) -> float:
        left_of_timeout = self._started_at + self.limits.timeout_seconds - now
        if left_of_timeout <= 0:
            self.ask_to_stop(TimedOut(seconds=_seconds(self.limits.timeout_seconds)))
            return 0.0
        left, limit = min(
            (self._moved_at + self.limits.stall_seconds - now, self.limits.stall_seconds),
            (last_heard + self._silence_seconds - now, self._silence_seconds),
        )
        if left > 0:
            self._suspected_since = None
            return min(left, left_of_timeout)
        if self._suspected_since is None:
            self._suspected_since = now
        if now - self._suspected_since >= SECOND_LOOK_SECONDS:
            self.ask_to_stop(WorkerHung(seconds=_seconds(limit)))
        return min(SECOND_LOOK_SECONDS, left_of_timeout)

    def outcome_of_done(self, done: Done) -> Outcome:
        """What the worker's answer means. A result stands, even if the job was asked to stop in the meantime."""
        if isinstance(done.outcome, Completed):
            return done.outcome
        if self.asked.done():
            return self.outcome_of_asking()
        if isinstance(done.outcome, Cancelled):
            # Nobody here wanted that: cancelling the task for it would lose it.
            return Failed(error=WorkerCrashed(detail="it gave the task up without being asked to").info)
        return done.outcome

    def outcome_of_asking(self) -> Outcome:
        """What the job came to, as it was asked to stop."""
        reason = self.asked.result()
        return Cancelled() if reason is None else Failed(error=reason)

    @property
    def why_asked(self) -> str:
        """Why the job is to stop, in words."""
        reason = self.asked.result()
        return reason.message if reason else "its task was cancelled, and it did not answer"

    def outcome_of_death(self, exit: Exit, out_of_memory: bool) -> Outcome:
        """What the worker's death means for the job."""
        if self.asked.done():
            return self.outcome_of_asking()
        if out_of_memory:
            return Failed(error=OutOfMemory(detail=exit.describe()).info)
        return Failed(error=WorkerCrashed(detail=exit.describe()).info)


def guarded(callback: Callable[..., None], *args: object) -> None:
    """Call a listener; what it raises is logged, and harms no worker."""
    try:
        callback(*args)
    except Exception:
        _log.exception("a listener of the pool failed")


def _seconds(value: float) -> str:
    return f"{value:g}"
