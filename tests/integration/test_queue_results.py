"""The queue's verbs for results: a task claimed as it is put, results by their key, uploads by their age."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from demucs_server_worker.errors import TaskConflict
from demucs_server_worker.queue import TaskQueue
from demucs_server_worker.task import Origin, Task, TaskRequest, TaskState
from tests.queue_cases import FINAL_ERROR, add, completed, request, take


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[TaskQueue]:
    with TaskQueue(tmp_path / "queue.db") as queue:
        yield queue


def upload(name: str = "song") -> TaskRequest:
    return msgspec.structs.replace(request(name), origin=Origin.UPLOAD)


def put_claimed(queue: TaskQueue, wanted: TaskRequest) -> tuple[Task, Task, bool]:
    return queue.put_claimed(wanted, worker_id="reuse", now=10.0, max_attempts=3)


def finished(queue: TaskQueue, wanted: TaskRequest, now: float, result_key: str | None = None) -> Task:
    queue.put(wanted, now=1.0, max_attempts=3, max_queued=None)
    outcome = msgspec.structs.replace(completed(), result_key=result_key)
    done = queue.complete(take(queue), outcome, now)
    assert done is not None
    return done


def test_what_is_claimed_as_it_is_put_is_nobody_elses(queue: TaskQueue) -> None:
    waiting = add(queue, "waiting")
    before, claimed, is_new = put_claimed(queue, request("urgent", priority="high"))
    assert (before.state, claimed.state, claimed.claim, is_new) == (TaskState.QUEUED, TaskState.RUNNING, 1, True)
    assert queue.get(claimed.id) == claimed
    assert take(queue).id == waiting.id
    assert queue.claim("w1", 20.0) is None


def test_given_back_it_waits_like_any_other_with_no_attempt_counted(queue: TaskQueue) -> None:
    _, claimed, _ = put_claimed(queue, request())
    queue.requeue(claimed)
    again = take(queue)
    assert (again.id, again.attempt, again.claim) == (claimed.id, 1, 2)


def test_a_crash_returns_it_to_the_queue(queue: TaskQueue) -> None:
    _, claimed, _ = put_claimed(queue, request())
    (recovered,) = queue.recover(30.0)
    assert (recovered.id, recovered.state, recovered.attempt) == (claimed.id, TaskState.QUEUED, 2)


def test_its_file_id_is_the_idempotency_key(queue: TaskQueue) -> None:
    _, claimed, _ = put_claimed(queue, request(file_id="one"))
    assert put_claimed(queue, request(file_id="one")) == (claimed, claimed, False)
    with pytest.raises(TaskConflict):
        put_claimed(queue, request("another", file_id="one"))
    assert queue.counts().running == 1


def test_results_are_found_by_their_key_the_newest_first(queue: TaskQueue) -> None:
    first, second, third = (finished(queue, request(), 20.0 + n, "key") for n in range(3))
    finished(queue, request(), 30.0, "other")
    finished(queue, request(), 31.0)
    assert [task.id for task in queue.with_result("key", limit=2)] == [third.id, second.id]
    queue.published(first.id)
    queue.delete(first.id)
    assert len(queue.with_result("key", limit=9)) == 2


def test_uploads_are_found_by_the_time_they_ended(queue: TaskQueue) -> None:
    late, early = finished(queue, upload(), 300.0), finished(queue, upload(), 100.0)
    finished(queue, request(), 50.0)
    queue.put(upload(), now=1.0, max_attempts=3, max_queued=None)
    failed = queue.fail(take(queue), FINAL_ERROR, 200.0)
    queue.put(upload(), now=1.0, max_attempts=3, max_queued=None)
    assert failed is not None
    assert queue.finished_uploads(1_000.0, limit=9) == [early.id, failed.id, late.id]
    assert queue.finished_uploads(1_000.0, limit=1) == [early.id]
    assert queue.finished_uploads(200.0, limit=9) == [early.id]
