"""When a job is taken from its worker, and what its end means. Time is a number here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from demucs_server_worker.errors import DiskFull, ErrorInfo, TimedOut
from demucs_server_worker.pool.base import Limits
from demucs_server_worker.pool.job import SECOND_LOOK_SECONDS, Job
from demucs_server_worker.pool.process import Exit
from demucs_server_worker.task import Cancelled, Completed, Failed, Outcome, Stage
from demucs_server_worker.worker.messages import Done, Progress
from tests import workers

LIMITS = Limits(timeout_seconds=900, stall_seconds=300, grace_seconds=5)
SILENCE_SECONDS = 30.0
COMPLETED = Completed(staging="/s", output_dir="/o", files=(), stems=(), duration_seconds=1.0)


def with_job(scene: Callable[[Job, list[Progress]], None]) -> None:
    """Play `scene` with a job that began at second 0."""

    async def play() -> None:
        heard: list[Progress] = []
        run = workers.job("wait", Path("/songs"), "task-1", claim=2)
        scene(Job(run, LIMITS, heard.append, SILENCE_SECONDS, 0.0), heard)

    asyncio.run(play())


def progress(figure: float, claim: int = 2, task_id: str = "task-1", stage: Stage = Stage.SEPARATING) -> Progress:
    return Progress(task_id=task_id, claim=claim, progress=figure, stage=stage)


def code(job: Job) -> str | None:
    """The code for which the job was asked to stop."""
    reason: ErrorInfo | None = job.asked.result() if job.asked.done() else None
    return reason.code if reason else None


def test_the_whole_time_is_limited_even_with_progress() -> None:
    def scene(job: Job, _: list[Progress]) -> None:
        for second in range(0, 899, 10):
            job.take_progress(progress(second / 900), second)
            job.judge(second, last_heard=second)
        assert job.judge(899.0, last_heard=899.0) == pytest.approx(1.0)
        assert code(job) is None
        job.judge(900.0, last_heard=900.0)
        assert code(job) == "timed_out"

    with_job(scene)


def test_no_progress_is_a_stall_though_the_worker_lives() -> None:
    def scene(job: Job, _: list[Progress]) -> None:
        job.take_progress(progress(0.1), 10.0)
        job.take_progress(progress(0.1), 200.0)  # says nothing new
        assert job.judge(309.0, last_heard=309.0) == pytest.approx(1.0)
        job.judge(310.0, last_heard=310.0)
        job.judge(310.0 + SECOND_LOOK_SECONDS, last_heard=310.0)
        assert code(job) == "worker_hung"

    with_job(scene)


def test_another_stage_is_progress() -> None:
    def scene(job: Job, _: list[Progress]) -> None:
        job.take_progress(progress(0.1), 10.0)
        job.take_progress(progress(0.1, stage=Stage.ENCODING), 200.0)
        assert job.judge(310.0, last_heard=310.0) == pytest.approx(SILENCE_SECONDS)

    with_job(scene)


def test_silence_is_a_hang() -> None:
    def scene(job: Job, _: list[Progress]) -> None:
        assert job.judge(29.0, last_heard=0.0) == pytest.approx(1.0)
        assert job.judge(30.0, last_heard=0.0) == SECOND_LOOK_SECONDS
        assert code(job) is None
        job.judge(30.0 + SECOND_LOOK_SECONDS, last_heard=0.0)
        assert code(job) == "worker_hung"

    with_job(scene)


def test_silence_while_this_process_was_suspended_is_no_hang() -> None:
    def scene(job: Job, _: list[Progress]) -> None:
        job.judge(100.0, last_heard=1.0)  # woken after 99 seconds; the pipe is not read yet
        job.judge(100.0 + SECOND_LOOK_SECONDS, last_heard=100.1)  # now it is
        job.judge(101.0, last_heard=101.0)
        job.judge(131.0, last_heard=101.0)
        assert code(job) is None

    with_job(scene)


def test_time_in_which_nobody_looked_counts_for_no_limit() -> None:
    """As when the container is paused: workers did not run either, and say something only with their next segment."""

    def scene(job: Job, _: list[Progress]) -> None:
        job.take_progress(progress(0.1), 10.0)
        looked_at = 20.0 + job.judge(20.0, last_heard=20.0)
        woken_at = looked_at + 10_000.0
        job.judge(woken_at, last_heard=20.0)
        job.judge(woken_at + SECOND_LOOK_SECONDS, last_heard=woken_at + 0.1)
        assert code(job) is None
        at = woken_at
        while code(job) is None:
            at += job.judge(at, last_heard=at)
        assert code(job) == "worker_hung"
        assert at == pytest.approx(woken_at + 300.0 - (looked_at - 10.0), abs=2 * SECOND_LOOK_SECONDS)

    with_job(scene)


def test_time_in_which_nobody_looked_is_no_part_of_the_timeout() -> None:
    def scene(job: Job, _: list[Progress]) -> None:
        at = job.judge(0.0, last_heard=0.0) + 5_000.0
        for step in range(10):
            job.take_progress(progress(step / 10), at)
            at += job.judge(at, last_heard=at)
        assert code(job) is None

    with_job(scene)


def test_progress_never_falls_and_repeats_nothing() -> None:
    def scene(job: Job, heard: list[Progress]) -> None:
        for figure in (0.2, 0.5, 0.3, 0.5, 7.0, -1.0):
            job.take_progress(progress(figure), 1.0)
        assert [message.progress for message in heard] == [0.2, 0.5, 1.0]

    with_job(scene)


def test_progress_of_another_task_or_claim_is_not_heard() -> None:
    def scene(job: Job, heard: list[Progress]) -> None:
        job.take_progress(progress(0.5, claim=1), 1.0)
        job.take_progress(progress(0.5, task_id="task-0"), 1.0)
        assert heard == []
        assert job.progress == 0.0

    with_job(scene)


def test_an_end_of_another_claim_is_no_end() -> None:
    def scene(job: Job, _: list[Progress]) -> None:
        job.take_done(Done(task_id="task-1", claim=1, outcome=COMPLETED))
        assert not job.done.done()
        job.take_done(Done(task_id="task-1", claim=2, outcome=COMPLETED))
        assert job.done.result().outcome == COMPLETED

    with_job(scene)


OWN_FAILURE = Failed(error=DiskFull(path="/o").info)
LATE = TimedOut(seconds=1)


@pytest.mark.parametrize(
    ("asked", "answer", "outcome"),
    [
        ("no", COMPLETED, COMPLETED),
        ("no", OWN_FAILURE, OWN_FAILURE),
        ("cancel", COMPLETED, COMPLETED),
        ("cancel", Cancelled(), Cancelled()),
        ("cancel", OWN_FAILURE, Cancelled()),
        ("late", COMPLETED, COMPLETED),
        ("late", Cancelled(), Failed(error=LATE.info)),
        ("late", OWN_FAILURE, Failed(error=LATE.info)),
    ],
)
def test_what_the_worker_answers_and_what_comes_of_it(asked: str, answer: Outcome, outcome: Outcome) -> None:
    def scene(job: Job, _: list[Progress]) -> None:
        if asked != "no":
            job.ask_to_stop(LATE if asked == "late" else None)
        assert job.outcome_of_done(Done(task_id="task-1", claim=2, outcome=answer)) == outcome

    with_job(scene)


def test_giving_up_unasked_does_not_cancel_the_task() -> None:
    def scene(job: Job, _: list[Progress]) -> None:
        outcome = job.outcome_of_done(Done(task_id="task-1", claim=2, outcome=Cancelled()))
        assert isinstance(outcome, Failed)
        assert (outcome.error.code, outcome.error.retryable) == ("worker_crashed", True)

    with_job(scene)


def test_the_first_wish_to_stop_counts() -> None:
    def scene(job: Job, _: list[Progress]) -> None:
        job.ask_to_stop(LATE)
        job.ask_to_stop(None)
        assert job.outcome_of_death(Exit(-9, "it was stopped", ()), False) == Failed(error=LATE.info)

    with_job(scene)


@pytest.mark.parametrize(("out_of_memory", "expected"), [(True, "out_of_memory"), (False, "worker_crashed")])
def test_a_death_is_a_crash_or_a_lack_of_memory(out_of_memory: bool, expected: str) -> None:
    def scene(job: Job, _: list[Progress]) -> None:
        outcome = job.outcome_of_death(Exit(-9, None, ()), out_of_memory)
        assert isinstance(outcome, Failed)
        assert (outcome.error.code, outcome.error.retryable) == (expected, True)
        assert "SIGKILL" in outcome.error.message

    with_job(scene)
