"""What every pool must do, wherever its workers are. Subclass `PoolConformance` and say how a pool is made.

The workers of the pool must be the scripted ones of `workers.py`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from demucs_server_worker.errors import OutOfMemory, ShuttingDown
from demucs_server_worker.pool.base import Limits, Pool, WorkerEvent, WorkerInfo, WorkerState
from demucs_server_worker.task import Cancelled, Completed, Failed, Outcome
from demucs_server_worker.worker.messages import Progress, Run
from tests.workers import job

DEADLINE_SECONDS = 30.0
LIMITS = Limits(timeout_seconds=60, stall_seconds=60, grace_seconds=5)

T = TypeVar("T")


async def eventually(condition: Callable[[], T]) -> T:
    """Poll until `condition` gives something true, and give that; fail at the deadline."""
    end = time.monotonic() + DEADLINE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come true in time"
        await asyncio.sleep(0.01)
    return found


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def left_behind(run: Run) -> bool:
    """Whether the staging folder of `run` is there."""
    return Path(run.staging).exists()


def written(outcome: Completed) -> set[str]:
    """The files in the staging folder of a result."""
    return {path.name for path in Path(outcome.staging).iterdir()}


class Running:
    """A pool under test, with all that it told."""

    def __init__(self, pool: Pool, events: list[WorkerEvent]) -> None:
        self.pool = pool
        self.events = events
        self.progress: list[Progress] = []

    def submit(self, run: Run, worker_id: str, limits: Limits = LIMITS) -> asyncio.Task[Outcome]:
        return asyncio.create_task(self.pool.run(worker_id, run, limits, self.progress.append))

    async def run(self, run: Run, limits: Limits = LIMITS) -> Outcome:
        worker_id = await asyncio.wait_for(self.pool.acquire(), DEADLINE_SECONDS)
        return await asyncio.wait_for(self.submit(run, worker_id, limits), DEADLINE_SECONDS)

    async def begin(self, run: Run, limits: Limits = LIMITS) -> asyncio.Task[Outcome]:
        """Start a job, and come back when its worker computes."""
        worker_id = await asyncio.wait_for(self.pool.acquire(), DEADLINE_SECONDS)
        task = self.submit(run, worker_id, limits)
        await eventually(lambda: any(p.computing for p in self.progress if p.task_id == run.task_id))
        return task

    def worker(self, index: int = 0) -> WorkerInfo:
        return self.pool.workers()[index]

    async def idle(self, index: int = 0) -> WorkerInfo:
        await eventually(lambda: self.worker(index).state is WorkerState.IDLE)
        return self.worker(index)


class PoolConformance:
    """The suite. `make_pool` gives a pool that is not started yet."""

    def make_pool(self, size: int, on_event: Callable[[WorkerEvent], None], **settings: Any) -> Pool:
        raise NotImplementedError

    @asynccontextmanager
    async def running(self, size: int = 1, **settings: Any) -> AsyncIterator[Running]:
        events: list[WorkerEvent] = []
        pool = self.make_pool(size, events.append, **settings)
        await pool.start()
        try:
            yield Running(pool, events)
        finally:
            await pool.stop(0)

    def play(self, scene: Callable[[Running], Awaitable[None]], size: int = 1, **settings: Any) -> None:
        """Run `scene` with a started pool; afterwards no process of it may be left."""

        async def whole() -> None:
            seen: set[int] = set()
            async with self.running(size, **settings) as running:
                await scene(running)
                seen |= {event.pid for event in running.events if event.pid}
                seen |= {worker.pid for worker in running.pool.workers() if worker.pid}
            assert [pid for pid in seen if is_alive(pid)] == []

        asyncio.run(whole())

    # --- the plain path -----------------------------------------------------------------------------------------------

    def test_a_job_is_completed_and_its_worker_is_idle_again(self, tmp_path: Path) -> None:
        async def scene(running: Running) -> None:
            outcome = await running.run(job("succeed", tmp_path))
            assert isinstance(outcome, Completed)
            assert outcome.files == ("vocals.wav", "manifest.json")
            assert outcome.stems[0].path == str(tmp_path / "out" / "vocals.wav")
            assert written(outcome) == {"vocals.wav", "manifest.json"}
            worker = running.worker()
            assert (worker.state, worker.task_id, worker.tasks_done) == (WorkerState.IDLE, None, 1)
            assert isinstance(await running.run(job("succeed", tmp_path, "task-2")), Completed)
            assert running.worker().pid == worker.pid

        self.play(scene)

    def test_a_failure_is_an_outcome_and_leaves_no_staging_folder(self, tmp_path: Path) -> None:
        async def scene(running: Running) -> None:
            pid = (await running.idle()).pid
            codes = []
            for claim, kind in enumerate(["unreadable", "memory", "disk", "value"]):
                run = job(f"raise {kind}", tmp_path, claim=claim)
                outcome = await running.run(run)
                assert isinstance(outcome, Failed)
                codes.append((outcome.error.code, outcome.error.retryable))
                assert not left_behind(run)
            assert codes == [
                ("input_unreadable", False), ("out_of_memory", True), ("disk_full", True), ("worker_crashed", True),
            ]  # fmt: skip
            assert running.worker().pid == pid

        self.play(scene)

    def test_progress_is_forwarded_and_never_falls(self, tmp_path: Path) -> None:
        async def scene(running: Running) -> None:
            await running.run(job("backwards", tmp_path, claim=4))
            figures = [message.progress for message in running.progress]
            assert figures == sorted(figures)
            assert figures[-1] == 0.6
            assert {(message.task_id, message.claim) for message in running.progress} == {("task-1", 4)}

        self.play(scene)

    def test_a_listener_that_raises_harms_no_job(self, tmp_path: Path) -> None:
        async def scene(running: Running) -> None:
            def broken(_: Progress) -> None:
                raise RuntimeError("the listener is broken")

            worker_id = await running.pool.acquire()
            outcome = await running.pool.run(worker_id, job("succeed", tmp_path), LIMITS, broken)
            assert isinstance(outcome, Completed)

        self.play(scene)

    def test_workers_run_side_by_side(self, tmp_path: Path) -> None:
        async def scene(running: Running) -> None:
            first = await running.begin(job("busy", tmp_path, "task-1"))
            second = await running.begin(job("busy", tmp_path, "task-2"))
            assert {worker.task_id for worker in running.pool.workers()} == {"task-1", "task-2"}
            (tmp_path / "go").touch()
            assert all(isinstance(outcome, Completed) for outcome in await asyncio.gather(first, second))

        self.play(scene, size=2)

    def test_a_worker_hears_how_many_threads_to_use(self, tmp_path: Path) -> None:
        async def scene(running: Running) -> None:
            running.pool.set_threads(5)
            await running.run(job("tell threads", tmp_path))
            assert (tmp_path / "told").read_text() == "5"
            os.kill(running.worker().pid or 0, 9)
            await eventually(lambda: running.worker().restarts == 1)
            await running.run(job("tell threads", tmp_path, claim=2))
            assert (tmp_path / "told").read_text() == "5"

        self.play(scene)

    # --- acquiring ----------------------------------------------------------------------------------------------------

    def test_a_worker_is_given_to_one_at_a_time_in_order(self, tmp_path: Path) -> None:
        async def scene(running: Running) -> None:
            first = await running.pool.acquire()
            order: list[int] = []

            async def wait(number: int) -> None:
                running.pool.release(await running.pool.acquire())
                order.append(number)

            waiters = []
            for number in range(5):
                waiters.append(asyncio.create_task(wait(number)))
                await asyncio.sleep(0)
            assert order == []
            running.pool.release(first)
            await asyncio.wait_for(asyncio.gather(*waiters), DEADLINE_SECONDS)
            assert order == [0, 1, 2, 3, 4]

        self.play(scene)

    def test_a_waiter_cancelled_at_the_moment_of_the_grant_loses_no_worker(self, tmp_path: Path) -> None:
        async def scene(running: Running) -> None:
            held = await running.pool.acquire()
            waiter = asyncio.create_task(running.pool.acquire())
            await asyncio.sleep(0)
            running.pool.release(held)
            waiter.cancel()
            await asyncio.wait({waiter})
            assert waiter.cancelled()
            assert await asyncio.wait_for(running.pool.acquire(), DEADLINE_SECONDS) == held

        self.play(scene)

    def test_a_cancelled_waiter_is_passed_over(self, tmp_path: Path) -> None:
        async def scene(running: Running) -> None:
            held = await running.pool.acquire()
            waiters = [asyncio.create_task(running.pool.acquire()) for _ in range(2)]
            await asyncio.sleep(0)
            waiters[0].cancel()
            await asyncio.wait({waiters[0]})
            running.pool.release(held)
            assert await asyncio.wait_for(waiters[1], DEADLINE_SECONDS) == held

        self.play(scene)

    def test_a_worker_that_was_not_acquired_takes_no_job(self, tmp_path: Path) -> None:
        async def scene(running: Running) -> None:
            worker = await running.idle()
            with pytest.raises(ValueError, match="acquired"):
                await running.pool.run(worker.id, job("succeed", tmp_path), LIMITS, running.progress.append)

        self.play(scene)

    def test_of_several_idle_workers_the_one_that_worked_last_is_taken(self, tmp_path: Path) -> None:
        async def scene(running: Running) -> None:
            await running.idle(0)
            await running.idle(1)
            workers = [await running.pool.acquire(), await running.pool.acquire()]
            for number, worker in enumerate(workers):
                await running.submit(job("succeed", tmp_path, f"task-{number}"), worker)
            assert await running.pool.acquire() == workers[1]
            assert await running.pool.acquire() == workers[0]

        self.play(scene, size=2)

    # --- recycling ----------------------------------------------------------------------------------------------------

    def test_a_busy_worker_that_is_replaced_is_not_asked_and_its_job_fails_with_the_reason(
        self, tmp_path: Path
    ) -> None:
        async def scene(running: Running) -> None:
            run = job("ignore", tmp_path)
            task = await running.begin(run, Limits(grace_seconds=600))
            running.pool.recycle("worker-1", OutOfMemory(detail="9 GB of 8 GB"))
            outcome = await task
            assert isinstance(outcome, Failed)
            assert (outcome.error.code, outcome.error.retryable) == ("out_of_memory", True)
            assert "9 GB of 8 GB" in outcome.error.message
            assert not left_behind(run)
            assert isinstance(await running.run(job("succeed", tmp_path, claim=2)), Completed)
            assert running.worker().restarts == 1

        self.play(scene)

    def test_an_idle_worker_can_be_replaced(self, tmp_path: Path) -> None:
        async def scene(running: Running) -> None:
            await running.run(job("succeed", tmp_path))
            pid = running.worker().pid
            running.pool.recycle("worker-1", OutOfMemory(detail="9 GB of 8 GB"))
            await eventually(lambda: running.worker().state is WorkerState.IDLE and running.worker().pid != pid)
            [died] = [event for event in running.events if event.kind == "worker_died"]
            assert (died.pid, "9 GB of 8 GB" in died.detail) == (pid, True)
            assert isinstance(await running.run(job("succeed", tmp_path, claim=2)), Completed)

        self.play(scene)

    # --- deaths -------------------------------------------------------------------------------------------------------

    def test_a_worker_that_dies_is_replaced_and_the_job_fails_with_its_last_words(self, tmp_path: Path) -> None:
        async def scene(running: Running) -> None:
            run = job("exit 3", tmp_path)
            outcome = await running.run(run)
            assert isinstance(outcome, Failed)
            assert (outcome.error.code, outcome.error.retryable) == ("worker_crashed", True)
            assert "exit code 3" in outcome.error.message
            assert "about to leave" in outcome.error.message
            assert not left_behind(run)
            assert isinstance(await running.run(job("succeed", tmp_path, claim=2)), Completed)
            assert running.worker().restarts == 1
            assert [event.kind for event in running.events] == ["worker_started", "worker_died", "worker_started"]

        self.play(scene)

    def test_a_job_that_kills_three_workers_leaves_the_pool_alive(self, tmp_path: Path) -> None:
        async def scene(running: Running) -> None:
            for claim in range(3):
                outcome = await running.run(job("kill 11", tmp_path, claim=claim))
                assert isinstance(outcome, Failed)
                assert "SIGSEGV" in outcome.error.message
            assert isinstance(await running.run(job("succeed", tmp_path, claim=9)), Completed)
            assert running.worker().restarts == 3

        self.play(scene)

    def test_an_idle_worker_that_dies_is_replaced(self, tmp_path: Path) -> None:
        async def scene(running: Running) -> None:
            pid = (await running.idle()).pid
            os.kill(pid or 0, 9)
            await eventually(lambda: running.worker().pid not in (None, pid))
            assert isinstance(await running.run(job("succeed", tmp_path)), Completed)

        self.play(scene)

    def test_a_job_on_a_worker_that_died_since_it_was_acquired_waits_for_the_next(self, tmp_path: Path) -> None:
        async def scene(running: Running) -> None:
            worker_id = await running.pool.acquire()
            os.kill(running.worker().pid or 0, 9)
            await eventually(lambda: any(event.kind == "worker_died" for event in running.events))
            outcome = await asyncio.wait_for(running.submit(job("succeed", tmp_path), worker_id), DEADLINE_SECONDS)
            assert isinstance(outcome, Completed)

        self.play(scene)

    # --- limits -------------------------------------------------------------------------------------------------------

    def test_a_job_past_its_limit_times_out(self, tmp_path: Path) -> None:
        async def scene(running: Running) -> None:
            run = job("wait", tmp_path)
            outcome = await running.run(run, Limits(timeout_seconds=0.3, stall_seconds=60, grace_seconds=20))
            assert isinstance(outcome, Failed)
            assert outcome.error.code == "timed_out"
            assert not left_behind(run)
            assert running.worker().restarts == 0

        self.play(scene)

    def test_a_job_without_progress_is_hung_and_a_worker_that_ignores_the_end_is_killed(self, tmp_path: Path) -> None:
        async def scene(running: Running) -> None:
            run = job("ignore", tmp_path)
            outcome = await running.run(run, Limits(timeout_seconds=60, stall_seconds=0.3, grace_seconds=0.1))
            assert isinstance(outcome, Failed)
            assert outcome.error.code == "worker_hung"
            assert not left_behind(run)
            assert isinstance(await running.run(job("succeed", tmp_path, claim=2)), Completed)
            assert running.worker().restarts == 1

        self.play(scene)

    # --- cancelling ---------------------------------------------------------------------------------------------------

    def test_a_cancelled_job_ends_on_its_live_worker(self, tmp_path: Path) -> None:
        async def scene(running: Running) -> None:
            run = job("wait", tmp_path)
            task = await running.begin(run)
            assert await running.pool.cancel(run.task_id) is True
            assert await task == Cancelled()
            assert not left_behind(run)
            assert running.worker().restarts == 0
            assert await running.pool.cancel(run.task_id) is False

        self.play(scene)

    def test_a_job_stopped_for_a_reason_fails_with_it(self, tmp_path: Path) -> None:
        async def scene(running: Running) -> None:
            task = await running.begin(job("wait", tmp_path))
            await running.pool.cancel("task-1", OutOfMemory(detail="9 GB of 8 GB"))
            outcome = await task
            assert isinstance(outcome, Failed)
            assert outcome.error.code == "out_of_memory"

        self.play(scene)

    def test_cancelling_a_worker_that_does_not_answer_kills_it(self, tmp_path: Path) -> None:
        async def scene(running: Running) -> None:
            run = job("ignore", tmp_path)
            task = await running.begin(run, Limits(grace_seconds=0.1))
            assert await running.pool.cancel(run.task_id) is True
            assert await task == Cancelled()
            assert not left_behind(run)
            assert isinstance(await running.run(job("succeed", tmp_path, claim=2)), Completed)

        self.play(scene)

    def test_a_result_that_crosses_the_cancel_stands(self, tmp_path: Path) -> None:
        async def scene(running: Running) -> None:
            run = job("finish-when-cancelled", tmp_path)
            task = await running.begin(run)
            await running.pool.cancel(run.task_id)
            outcome = await task
            assert isinstance(outcome, Completed)
            assert written(outcome) == {"vocals.wav", "manifest.json"}

        self.play(scene)

    def test_a_failure_that_crosses_the_cancel_is_a_cancellation(self, tmp_path: Path) -> None:
        async def scene(running: Running) -> None:
            task = await running.begin(job("fail-when-cancelled", tmp_path))
            await running.pool.cancel("task-1")
            assert await task == Cancelled()

        self.play(scene)

    def test_a_caller_that_is_cancelled_stops_the_job_first(self, tmp_path: Path) -> None:
        async def scene(running: Running) -> None:
            for claim, script in enumerate(["wait", "finish-when-cancelled"]):
                run = job(script, tmp_path, f"task-{claim}")
                task = await running.begin(run)
                task.cancel()
                await asyncio.wait({task}, timeout=DEADLINE_SECONDS)
                assert task.cancelled()
                assert not left_behind(run)
                assert (await running.idle()).task_id is None

        self.play(scene)

    # --- the end ------------------------------------------------------------------------------------------------------

    def test_stop_cancels_what_runs_and_leaves_nobody_waiting(self, tmp_path: Path) -> None:
        async def scene(running: Running) -> None:
            task = await running.begin(job("wait", tmp_path))
            waiter = asyncio.create_task(running.pool.acquire())
            await asyncio.sleep(0)
            await running.pool.stop(20)
            assert await task == Cancelled()
            with pytest.raises(ShuttingDown):
                await waiter
            with pytest.raises(ShuttingDown):
                await running.pool.acquire()
            assert (running.worker().state, running.worker().problem) == (WorkerState.DEAD, None)
            assert not left_behind(job("wait", tmp_path))
            await running.pool.stop(20)

        self.play(scene)

    def test_stop_kills_what_does_not_end_within_the_grace_period(self, tmp_path: Path) -> None:
        async def scene(running: Running) -> None:
            task = await running.begin(job("ignore", tmp_path), Limits(grace_seconds=600))
            pid = running.worker().pid
            await running.pool.stop(0.1)
            assert await task == Cancelled()
            assert not is_alive(pid or 0)

        self.play(scene)

    def test_a_second_stop_shortens_the_first(self, tmp_path: Path) -> None:
        async def scene(running: Running) -> None:
            task = await running.begin(job("ignore", tmp_path), Limits(grace_seconds=600))
            patient = asyncio.create_task(running.pool.stop(600))
            await asyncio.sleep(0)
            await asyncio.wait_for(running.pool.stop(0), DEADLINE_SECONDS)
            await asyncio.wait_for(patient, DEADLINE_SECONDS)
            assert await task == Cancelled()

        self.play(scene)
