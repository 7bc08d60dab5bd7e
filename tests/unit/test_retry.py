"""When a failed attempt is followed by another, and when by none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demucs_server_worker.retry import JITTER, LONGEST_DELAY_SECONDS, MAX_DELAY_SECONDS, next_attempt
from demucs_server_worker.task import Task
from tests.queue_cases import ERROR, FINAL_ERROR, request


def task(attempt: int, *, max_attempts: int = 100, task_id: str = "t1") -> Task:
    return Task(id=task_id, request=request(), attempt=attempt, max_attempts=max_attempts)


@pytest.mark.parametrize(
    ("attempt", "mean_seconds"), [(1, 5), (2, 10), (3, 20), (4, 40), (7, 320), (8, 600), (9, 600), (5000, 600)]
)
def test_the_delay_doubles_up_to_ten_minutes(attempt: int, mean_seconds: float) -> None:
    tasks = [task(attempt, max_attempts=10_000, task_id=f"t{n}") for n in range(400)]
    delays = [(next_attempt(each, ERROR, 1_000.0, base_seconds=5.0) or 0.0) - 1_000.0 for each in tasks]
    assert sum(delays) / len(delays) == pytest.approx(mean_seconds, rel=0.03)
    assert min(delays) >= mean_seconds * (1 - JITTER)
    assert max(delays) <= mean_seconds * (1 + JITTER)


def test_an_error_that_another_attempt_cannot_help_is_final() -> None:
    assert next_attempt(task(1), FINAL_ERROR, 0.0, base_seconds=5.0) is None


@pytest.mark.parametrize(("attempt", "again"), [(1, True), (2, True), (3, False), (4, False)])
def test_the_last_attempt_is_the_last(attempt: int, again: bool) -> None:
    assert (next_attempt(task(attempt, max_attempts=3), ERROR, 0.0, base_seconds=5.0) is not None) is again


def test_tasks_that_fail_together_do_not_come_back_together() -> None:
    times = {next_attempt(task(1, task_id=f"t{n}"), ERROR, 0.0, base_seconds=5.0) for n in range(50)}
    assert len(times) == 50


@given(
    attempt=st.integers(1, 10**6),
    now=st.floats(0, 4e9),
    base_seconds=st.floats(0, 1e6),
    task_id=st.text(st.characters(codec="utf-8"), max_size=40),
)
def test_the_time_is_the_same_each_time_never_past_and_never_too_far(
    attempt: int, now: float, base_seconds: float, task_id: str
) -> None:
    failed = task(attempt, max_attempts=10**7, task_id=task_id)
    at = next_attempt(failed, ERROR, now, base_seconds=base_seconds)
    assert at is not None
    assert now <= at <= now + LONGEST_DELAY_SECONDS
    assert at == next_attempt(failed, ERROR, now, base_seconds=base_seconds)
    assert LONGEST_DELAY_SECONDS == MAX_DELAY_SECONDS * (1 + JITTER)
