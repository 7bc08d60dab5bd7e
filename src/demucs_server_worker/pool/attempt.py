"""One attempt: a job on a worker process, watched until it has ended or is taken away."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import Callable

from demucs_server_worker.pool import memory
from demucs_server_worker.pool.job import Job
from demucs_server_worker.pool.process import Exit, WorkerProcess, first_of
from demucs_server_worker.task import Outcome
from demucs_server_worker.worker.messages import Cancel, Run


async def attend(process: WorkerProcess, job: Job, clock: Callable[[], float]) -> Outcome:
    """Give the job to the worker, and stay with it to its end.

    Args:
        process: a worker that is ready and has no other job.
        job: what to do, and within which limits.
        clock: monotonic seconds.
    """
    kills_before = memory.oom_kills()
    process.output.belongs_to(job.run.task_id, job.run.attempt)
    process.send(job.run)
    job.begin(clock())
    await _until_an_end(process, job, clock)
    if not (job.done.done() or process.exit.done()):
        await _take_away(process, job)
    process.output.belongs_to_none()
    if job.done.done():
        return job.outcome_of_done(job.done.result())
    await remove_staging(job.run)
    return job.outcome_of_death(process.ending, _was_out_of_memory(process.ending, kills_before))


async def remove_staging(run: Run) -> None:
    """Remove what an attempt without a result has written. Its worker does that itself, if it lives."""
    await asyncio.to_thread(shutil.rmtree, run.staging, ignore_errors=True)


async def _until_an_end(process: WorkerProcess, job: Job, clock: Callable[[], float]) -> None:
    """Wait until the job has ended, its worker has, or it is to be stopped."""
    while not (job.done.done() or job.asked.done() or process.exit.done()):
        until_next_look = job.judge(clock(), process.last_heard)
        await first_of(job.done, job.asked, process.exit, within=until_next_look)


async def _take_away(process: WorkerProcess, job: Job) -> None:
    """Ask, wait the grace period, kill."""
    process.send(Cancel(task_id=job.run.task_id))
    await first_of(job.done, process.exit, within=job.limits.grace_seconds)
    if not (job.done.done() or process.exit.done()):
        process.kill(f"it was stopped: {job.why_asked}")
        await process.die()


def _was_out_of_memory(exit: Exit, kills_before: int) -> bool:
    """A SIGKILL that nobody here sent, while the kernel killed for memory; or an allocator that gave up in C++."""
    if exit.killed_because is not None:
        return False
    if exit.returncode == -signal.SIGKILL:
        return memory.oom_kills() > kills_before or memory.is_short()
    return exit.returncode == -signal.SIGABRT and any("bad_alloc" in line for line in exit.last_lines)
