"""The queue on a real SQLite file: what each verb stores, in which order tasks leave, and what holds a fence."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from demucs_server_worker import task as transitions
from demucs_server_worker.errors import (
    IllegalTransition,
    QueueFull,
    TaskConflict,
    TaskNotFound,
)
from demucs_server_worker.queue import Publication, TaskQueue, TaskReader
from demucs_server_worker.retry import LONGEST_DELAY_SECONDS
from demucs_server_worker.task import Priority, Task, TaskState
from tests.queue_cases import ERROR, FINAL_ERROR, add, completed, request, take


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a folder? #1%" / "queue.sqlite"


@pytest.fixture
def queue(path: Path) -> Iterator[TaskQueue]:
    path.parent.mkdir()
    with TaskQueue(path) as queue:
        yield queue


def names(queue: TaskQueue, now: float = 20.0) -> list[str]:
    """What leaves the queue from here on, in its order."""
    return [task.request.input_name.removesuffix(".mp3") for task in iter(lambda: queue.claim("w1", now), None)]


# --- put -------------------------------------------------------------------------------------------------------------


def test_a_task_is_stored_whole_and_there_after_a_restart(queue: TaskQueue, path: Path) -> None:
    asked = request("Ünï 'song'", file_id="f1", project_name="P", priority="high", model="demo", stems=["vocals"])
    task, created = queue.put(asked, now=10.5, max_attempts=4, max_queued=1)
    assert created
    assert task == Task(id=task.id, request=asked, max_attempts=4, created_at=10.5)
    queue.close()
    with TaskQueue(path) as reopened:
        assert reopened.get(task.id) == task
        assert reopened.by_file_id("f1") == task


def test_the_same_file_id_with_an_equal_request_is_the_same_task(queue: TaskQueue) -> None:
    task = add(queue, file_id="f1")
    assert queue.put(request(file_id="f1"), now=11.0, max_attempts=9, max_queued=1) == (task, False)
    running = take(queue)
    assert queue.put(request(file_id="f1"), now=12.0, max_attempts=3, max_queued=1) == (running, False)
    assert queue.counts().queued + queue.counts().running == 1


def test_the_same_file_id_with_another_request_is_a_conflict(queue: TaskQueue) -> None:
    task = add(queue, file_id="f1")
    with pytest.raises(TaskConflict, match="f1"):
        queue.put(request(file_id="f1", model="demo"), now=11.0, max_attempts=3, max_queued=None)
    assert queue.page().tasks == (task,)


def test_equal_requests_without_a_file_id_are_two_tasks(queue: TaskQueue) -> None:
    assert add(queue).id != add(queue).id


def test_the_same_file_id_fifty_times_at_once_is_one_task(queue: TaskQueue, path: Path) -> None:
    gate = threading.Barrier(10)

    def put(_: int) -> list[tuple[str, bool]]:
        with TaskQueue(path) as mine:
            gate.wait()
            puts = [mine.put(request(file_id="f1"), now=1.0, max_attempts=3, max_queued=None) for _ in range(5)]
            return [(task.id, created) for task, created in puts]

    with ThreadPoolExecutor(10) as pool:
        results = [result for results in pool.map(put, range(10)) for result in results]
    assert len(results) == 50
    assert len({task_id for task_id, _ in results}) == 1
    assert sum(created for _, created in results) == 1


def test_a_full_queue_takes_no_more_until_one_leaves_it(queue: TaskQueue) -> None:
    add(queue, "a")
    add(queue, "b", file_id="b")
    with pytest.raises(QueueFull, match="2 tasks wait already"):
        queue.put(request("c"), now=1.0, max_attempts=3, max_queued=2)
    assert queue.put(request("b", file_id="b"), now=1.0, max_attempts=3, max_queued=2)[1] is False
    take(queue)
    assert queue.put(request("c"), now=1.0, max_attempts=3, max_queued=2)[1] is True


# --- order -----------------------------------------------------------------------------------------------------------


def test_higher_priorities_leave_first_and_each_in_the_order_it_came(queue: TaskQueue) -> None:
    for number, priority in enumerate(["low", "normal", "high", "normal", "low", "high"]):
        add(queue, f"{priority}{number}", priority=priority)
    assert names(queue) == ["high2", "high5", "normal1", "normal3", "low0", "low4"]


def test_position_is_the_place_in_that_order(queue: TaskQueue) -> None:
    tasks = [add(queue, str(n), priority=p) for n, p in enumerate(["low", "normal", "high", "normal"])]
    assert [queue.position(task.id) for task in tasks] == [4, 2, 1, 3]
    take(queue)
    assert [queue.position(task.id) for task in tasks] == [3, 1, None, 2]
    assert queue.position("unknown") is None


def test_claiming_gives_what_the_transition_says_and_stores_it(queue: TaskQueue) -> None:
    task = add(queue)
    assert queue.peek(20.0) == task
    assert queue.claim("w7", 20.0) == transitions.claim(task, "w7", 20.0) == queue.get(task.id)
    assert queue.peek(20.0) is None
    assert queue.claim("w8", 20.0) is None


def test_a_retry_waits_for_its_time_and_then_has_its_old_place(queue: TaskQueue) -> None:
    first, second = add(queue, "a"), add(queue, "b")
    again = queue.retry_later(take(queue), ERROR, not_before=30.0, now=20.0)
    assert again == queue.get(first.id)
    assert again is not None and (again.attempt, again.error, again.not_before) == (2, ERROR, 30.0)
    assert queue.next_due(20.0) == 30.0
    assert [queue.position(first.id), queue.position(second.id)] == [1, 1]
    add(queue, "c")
    assert queue.peek(29.9) == second
    assert names(queue, now=30.0) == ["a", "b", "c"]
    assert queue.next_due(30.0) is None


def test_next_due_is_the_earliest_of_those_still_ahead(queue: TaskQueue) -> None:
    for not_before in (90.0, 70.0, 80.0):
        add(queue)
        queue.retry_later(take(queue), ERROR, not_before, 20.0)
    assert [queue.next_due(now) for now in (20.0, 70.0, 85.0, 90.0)] == [70.0, 80.0, 90.0, None]


def test_a_retry_is_not_held_for_a_day_when_the_clock_goes_back_by_one(queue: TaskQueue) -> None:
    day = 86_400.0
    task = add(queue)
    queue.retry_later(take(queue, day), ERROR, not_before=day + LONGEST_DELAY_SECONDS, now=day)
    assert queue.claim("w1", day) is None
    assert queue.next_due(0.0) is None
    claimed = queue.claim("w1", 0.0)
    assert claimed is not None and claimed.id == task.id


def test_a_requeued_task_is_next_again_with_no_attempt_counted(queue: TaskQueue) -> None:
    add(queue, "a")
    add(queue, "b")
    running = take(queue)
    assert queue.requeue(running) == transitions.requeue(running)
    assert queue.counts().retried == 0
    assert names(queue) == ["a", "b"]


def test_a_revived_task_goes_to_the_end_of_its_priority(queue: TaskQueue) -> None:
    failed = add(queue, "a")
    queue.fail(take(queue), ERROR, 30.0)
    cancelled = add(queue, "b")
    queue.cancel(cancelled.id, 30.0)
    add(queue, "c")
    add(queue, "low", priority="low")
    assert queue.revive(cancelled.id).state is TaskState.QUEUED
    revived = queue.revive(failed.id)
    assert (revived.attempt, revived.error, len(revived.history)) == (1, None, 1)
    assert queue.get(failed.id) == revived
    assert names(queue) == ["c", "b", "a", "low"]


# --- outcomes and fences ---------------------------------------------------------------------------------------------


def test_completing_stores_the_stems_and_what_is_to_be_published(queue: TaskQueue, path: Path) -> None:
    add(queue)
    running = take(queue)
    done = queue.complete(running, completed("/out/.s1"), 40.0)
    assert done == transitions.complete(running, completed("/out/.s1"), 40.0) == queue.get(running.id)
    pending = Publication(
        task_id=running.id, staging="/out/.s1", output_dir="/out", files=("vocals.wav", "manifest.json")
    )
    queue.close()
    with TaskQueue(path) as reopened:
        assert reopened.recover(50.0) == []
        assert reopened.pending_publications() == [pending]
        reopened.published(running.id)
        reopened.published(running.id)
        assert reopened.pending_publications() == []
        assert reopened.get(running.id) == done


def test_failing_stores_the_error(queue: TaskQueue) -> None:
    add(queue)
    running = take(queue)
    assert queue.fail(running, FINAL_ERROR, 40.0) == transitions.fail(running, FINAL_ERROR, 40.0)
    stored = queue.get(running.id)
    assert stored is not None and stored.error == FINAL_ERROR and stored.history[0].error == FINAL_ERROR


def overtaken_by_cancel(queue: TaskQueue, task: Task) -> None:
    queue.cancel(task.id, 25.0)


def overtaken_by_requeue(queue: TaskQueue, task: Task) -> None:
    assert queue.requeue(task) is not None


def overtaken_by_requeue_and_claim(queue: TaskQueue, task: Task) -> None:
    overtaken_by_requeue(queue, task)
    take(queue)


def overtaken_by_recovery_and_claim(queue: TaskQueue, task: Task) -> None:
    assert len(queue.recover(25.0)) == 1
    take(queue, 26.0)


def overtaken_by_revival_and_claim(queue: TaskQueue, task: Task) -> None:
    overtaken_by_cancel(queue, task)
    queue.revive(task.id)
    take(queue)


def overtaken_by_completion(queue: TaskQueue, task: Task) -> None:
    assert queue.complete(task, completed(), 25.0) is not None


def overtaken_by_deletion(queue: TaskQueue, task: Task) -> None:
    overtaken_by_cancel(queue, task)
    queue.delete(task.id)


@pytest.mark.parametrize(
    "overtake",
    [
        overtaken_by_cancel, overtaken_by_requeue, overtaken_by_requeue_and_claim, overtaken_by_recovery_and_claim,
        overtaken_by_revival_and_claim, overtaken_by_completion, overtaken_by_deletion,
    ],
)  # fmt: skip
@pytest.mark.parametrize("verb", ["complete", "fail", "retry_later", "requeue"])
def test_the_outcome_of_a_claim_that_is_over_changes_nothing(queue: TaskQueue, verb: str, overtake: object) -> None:
    task = add(queue)
    zombie = take(queue)
    assert callable(overtake)
    overtake(queue, zombie)
    before = queue.get(task.id), queue.counts(), queue.pending_publications()
    outcome = {
        "complete": lambda: queue.complete(zombie, completed("/out/.zombie"), 30.0),
        "fail": lambda: queue.fail(zombie, ERROR, 30.0),
        "retry_later": lambda: queue.retry_later(zombie, ERROR, 40.0, 30.0),
        "requeue": lambda: queue.requeue(zombie),
    }[verb]()
    assert outcome is None
    assert (queue.get(task.id), queue.counts(), queue.pending_publications()) == before


def test_cancel_and_completion_at_once_have_one_winner(queue: TaskQueue, path: Path) -> None:
    for number in range(20):
        add(queue, str(number))
        running = take(queue)
        gate = threading.Barrier(2)

        def cancel(task_id: str, gate: threading.Barrier) -> bool:
            with TaskQueue(path) as mine:
                gate.wait()
                try:
                    mine.cancel(task_id, 30.0)
                except IllegalTransition:
                    return False
                return True

        with ThreadPoolExecutor(1) as pool:
            cancelling = pool.submit(cancel, running.id, gate)
            gate.wait()
            done = queue.complete(running, completed(), 30.0)
            stored = queue.get(running.id)
            assert stored is not None
            if cancelling.result():
                assert (done, stored.state) == (None, TaskState.CANCELLED)
            else:
                assert (done, stored.state) == (stored, TaskState.COMPLETED)


# --- recovery --------------------------------------------------------------------------------------------------------


def test_recovery_counts_the_attempt_and_leaves_the_rest_alone(queue: TaskQueue) -> None:
    lost, waiting = add(queue, "a"), add(queue, "b")
    take(queue)
    (task,) = queue.recover(50.0)
    assert task == queue.get(lost.id)
    assert (task.state, task.attempt, task.claim, task.not_before) == (TaskState.QUEUED, 2, 1, 0.0)
    assert [(a.number, a.worker_id, a.ended_at) for a in task.history] == [(1, "w1", 50.0)]
    assert task.error is not None and task.error.code == "worker_crashed" and "manager died" in task.error.message
    assert queue.get(waiting.id) == waiting
    assert queue.counts().retried == 1
    assert names(queue) == ["a", "b"]


def test_a_task_that_takes_the_manager_down_each_time_ends_as_failed(queue: TaskQueue) -> None:
    task = add(queue)
    states = []
    for now in (20.0, 30.0, 40.0):
        take(queue, now)
        states += [recovered.state for recovered in queue.recover(now + 5)]
    assert states == [TaskState.QUEUED, TaskState.QUEUED, TaskState.FAILED]
    stored = queue.get(task.id)
    assert stored is not None and stored.error is not None
    assert (stored.error.code, [attempt.number for attempt in stored.history]) == ("worker_crashed", [1, 2, 3])
    assert queue.recover(60.0) == []


# --- a caller's wishes -----------------------------------------------------------------------------------------------


def test_cancelling_ends_a_task_that_waits_or_runs(queue: TaskQueue) -> None:
    running, waiting = add(queue, "a"), add(queue, "b")
    running = take(queue)
    for task in (running, waiting):
        assert queue.cancel(task.id, 30.0) == transitions.cancel(task, 30.0) == queue.get(task.id)
        with pytest.raises(IllegalTransition):
            queue.cancel(task.id, 31.0)
    assert names(queue) == []


def test_only_what_ended_can_be_deleted(queue: TaskQueue) -> None:
    task = add(queue, file_id="f1")
    with pytest.raises(IllegalTransition, match="is queued"):
        queue.delete(task.id)
    running = take(queue)
    with pytest.raises(IllegalTransition, match="is running"):
        queue.delete(task.id)
    done = queue.complete(running, completed(), 30.0)
    with pytest.raises(IllegalTransition, match="being published"):
        queue.delete(task.id)
    queue.published(task.id)
    assert queue.delete(task.id) == done
    assert (queue.get(task.id), queue.by_file_id("f1")) == (None, None)
    assert add(queue, file_id="f1").id != task.id


@pytest.mark.parametrize("verb", ["cancel", "revive", "delete"])
def test_a_task_that_does_not_exist_is_not_found(queue: TaskQueue, verb: str) -> None:
    acts = {"cancel": lambda: queue.cancel("t9", 1.0), "revive": lambda: queue.revive("t9")}
    with pytest.raises(TaskNotFound, match="t9"):
        acts.get(verb, lambda: queue.delete("t9"))()


@pytest.mark.parametrize("state", ["queued", "running", "completed"])
def test_only_failed_and_cancelled_tasks_are_revived(queue: TaskQueue, state: str) -> None:
    task = add(queue)
    if state != "queued":
        running = take(queue)
        if state == "completed":
            queue.complete(running, completed(), 30.0)
    before = queue.get(task.id)
    with pytest.raises(IllegalTransition, match=state):
        queue.revive(task.id)
    assert queue.get(task.id) == before


# --- what is there ---------------------------------------------------------------------------------------------------


def test_pages_are_newest_first_and_stay_in_place_while_tasks_come_and_go(queue: TaskQueue) -> None:
    tasks = [add(queue, str(n)) for n in range(5)]
    first = queue.page(limit=2)
    assert first.tasks == (tasks[4], tasks[3])
    queue.cancel(tasks[3].id, 1.0)
    queue.delete(tasks[3].id)
    add(queue, "new")
    second = queue.page(limit=2, cursor=first.cursor)
    assert second.tasks == (tasks[2], tasks[1])
    third = queue.page(limit=2, cursor=second.cursor)
    assert (third.tasks, third.cursor) == ((tasks[0],), None)


def test_pages_of_one_state_hold_only_that(queue: TaskQueue) -> None:
    tasks = [add(queue, str(n)) for n in range(4)]
    cancelled = [queue.cancel(task.id, 1.0) for task in tasks[1:3]]
    page = queue.page(TaskState.CANCELLED, limit=1)
    assert page.tasks == (cancelled[1],)
    page = queue.page(TaskState.CANCELLED, limit=1, cursor=page.cursor)
    assert (page.tasks, page.cursor) == ((cancelled[0],), None)
    assert queue.page(TaskState.QUEUED).tasks == (tasks[3], tasks[0])
    assert queue.page(TaskState.RUNNING).tasks == ()


def test_counts_follow_every_task(queue: TaskQueue) -> None:
    for priority in ("high", "normal", "normal", "low", "low", "low", "low"):
        add(queue, priority=priority)
    queue.complete(take(queue), completed(), 30.0)
    queue.fail(take(queue), ERROR, 30.0)
    queue.retry_later(take(queue), ERROR, 99.0, 30.0)
    revived = take(queue)
    queue.cancel(revived.id, 30.0)
    queue.revive(revived.id)
    gone = take(queue)
    queue.cancel(gone.id, 30.0)
    queue.delete(gone.id)
    take(queue)
    counts = queue.counts()
    assert counts.by_priority == {Priority.HIGH: 0, Priority.NORMAL: 1, Priority.LOW: 2}
    assert (counts.queued, counts.running) == (3, 1)
    assert (counts.completed, counts.failed, counts.cancelled, counts.retried) == (1, 1, 1, 1)


def test_a_reader_sees_what_is_committed_while_a_write_is_under_way(queue: TaskQueue, path: Path) -> None:
    task = add(queue)
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE task SET state = 'running', worker_id = 'w', claim = 1, started_at = 1")

    def look() -> tuple[Task | None, int]:
        with TaskReader(path, busy_timeout_seconds=0.0) as reader:
            return reader.get(task.id), reader.counts().queued

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(look).result() == (task, 1)
        writer.execute("ROLLBACK")
        take(queue)
        assert pool.submit(look).result() == (queue.get(task.id), 0)
    writer.close()


def test_a_reader_cannot_write(queue: TaskQueue, path: Path) -> None:
    add(queue)
    with TaskReader(path) as reader, pytest.raises(Exception, match="readonly"):
        reader._database.change("delete", id="t1")


def test_a_queue_is_refused_to_other_threads(queue: TaskQueue) -> None:
    with ThreadPoolExecutor(1) as pool, pytest.raises(sqlite3.ProgrammingError, match="thread"):
        pool.submit(queue.counts).result()
