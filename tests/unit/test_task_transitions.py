"""The transitions of a task: each legal one does what it says, each other one is refused."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from demucs_server_worker import task as transitions
from demucs_server_worker.errors import IllegalTransition, InvalidOption
from demucs_server_worker.task import FINAL, TRANSITIONS, Attempt, Priority, Stage, Task, TaskRequest, TaskState
from tests.queue_cases import ERROR, STEM, completed, request

VERBS: dict[str, tuple[Callable[[Task], Task], TaskState]] = {
    "claim": (lambda task: transitions.claim(task, "w1", 20.0), TaskState.RUNNING),
    "complete": (lambda task: transitions.complete(task, completed(), 30.0), TaskState.COMPLETED),
    "fail": (lambda task: transitions.fail(task, ERROR, 30.0), TaskState.FAILED),
    "retry_later": (lambda task: transitions.retry_later(task, ERROR, 40.0, 30.0), TaskState.QUEUED),
    "requeue": (transitions.requeue, TaskState.QUEUED),
    "cancel": (lambda task: transitions.cancel(task, 30.0), TaskState.CANCELLED),
    "revive": (transitions.revive, TaskState.QUEUED),
}
LEGAL = {
    ("claim", TaskState.QUEUED),
    ("complete", TaskState.RUNNING),
    ("fail", TaskState.RUNNING),
    ("retry_later", TaskState.RUNNING),
    ("requeue", TaskState.RUNNING),
    ("cancel", TaskState.QUEUED),
    ("cancel", TaskState.RUNNING),
    ("revive", TaskState.FAILED),
    ("revive", TaskState.CANCELLED),
}
RAN = Attempt(number=1, worker_id="w1", started_at=20.0, ended_at=30.0, error=ERROR)


def in_state(state: TaskState) -> Task:
    queued = Task(id="t1", request=request(), created_at=10.0)
    running = transitions.claim(queued, "w1", 20.0)
    return {
        TaskState.QUEUED: queued,
        TaskState.RUNNING: running,
        TaskState.COMPLETED: transitions.complete(running, completed(), 30.0),
        TaskState.FAILED: transitions.fail(running, ERROR, 30.0),
        TaskState.CANCELLED: transitions.cancel(running, 30.0),
    }[state]


@pytest.mark.parametrize("state", TaskState)
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_works_in_its_states_and_is_refused_in_all_others(verb: str, state: TaskState) -> None:
    act, target = VERBS[verb]
    if (verb, state) in LEGAL:
        assert act(in_state(state)).state is target
    else:
        with pytest.raises(IllegalTransition, match=f"Task t1 is {state}: it cannot be"):
            act(in_state(state))


def test_the_table_holds_exactly_what_the_verbs_do() -> None:
    done = {(state, VERBS[verb][1]) for verb, state in LEGAL}
    assert {(state, target) for state, targets in TRANSITIONS.items() for target in targets} == done


def test_final_is_what_nothing_moves_by_itself() -> None:
    assert {state for state in TaskState if in_state(state).is_final} == FINAL
    assert {TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED} == FINAL


def test_claiming_names_the_worker_and_raises_the_fence() -> None:
    task = transitions.claim(in_state(TaskState.QUEUED), "w7", 21.0)
    assert (task.worker_id, task.started_at, task.claim, task.attempt) == ("w7", 21.0, 1, 1)
    assert (task.progress, task.stage) == (0.0, Stage.DECODING)


def test_completing_keeps_the_result_and_forgets_the_last_error() -> None:
    retried = transitions.retry_later(in_state(TaskState.RUNNING), ERROR, 40.0, 30.0)
    task = transitions.complete(transitions.claim(retried, "w2", 40.0), completed(), 50.0)
    assert (task.stems, task.duration_seconds, task.progress, task.stage) == ((STEM,), 3.5, 1.0, Stage.DONE)
    assert (task.finished_at, task.worker_id, task.error) == (50.0, None, None)
    assert task.history == (RAN,)


def test_failing_keeps_the_error_and_the_attempt() -> None:
    task = in_state(TaskState.FAILED)
    assert (task.error, task.finished_at, task.worker_id, task.history) == (ERROR, 30.0, None, (RAN,))


def test_a_retry_counts_the_attempt_and_waits() -> None:
    task = transitions.retry_later(in_state(TaskState.RUNNING), ERROR, 40.0, 30.0)
    assert (task.attempt, task.not_before, task.error, task.history) == (2, 40.0, ERROR, (RAN,))
    assert (task.started_at, task.worker_id, task.progress, task.stage) == (None, None, 0.0, Stage.QUEUED)


def test_a_requeue_counts_no_attempt_and_the_next_claim_is_another() -> None:
    running = in_state(TaskState.RUNNING)
    task = transitions.requeue(running)
    assert (task.attempt, task.claim, task.history, task.started_at) == (1, 1, (), None)
    assert transitions.claim(task, "w1", 60.0).claim == 2


def test_cancelling_a_running_task_leaves_its_attempt_in_the_history() -> None:
    ended = Attempt(number=1, worker_id="w1", started_at=20.0, ended_at=30.0, error=None)
    assert transitions.cancel(in_state(TaskState.RUNNING), 30.0).history == (ended,)
    assert transitions.cancel(in_state(TaskState.QUEUED), 30.0).history == ()


def test_reviving_counts_afresh_and_never_lowers_the_fence() -> None:
    failed = transitions.fail(
        transitions.claim(transitions.retry_later(in_state(TaskState.RUNNING), ERROR, 40.0, 30.0), "w2", 40.0),
        ERROR, 50.0,
    )  # fmt: skip
    task = transitions.revive(failed)
    assert (task.attempt, task.not_before, task.error, task.finished_at, task.started_at) == (1, 0.0, None, None, None)
    assert (task.claim, len(task.history)) == (2, 2)


def test_a_task_is_the_same_after_json() -> None:
    for state in TaskState:
        task = in_state(state)
        assert msgspec.json.decode(msgspec.json.encode(task), type=Task) == task


# --- requests --------------------------------------------------------------------------------------------------------


def test_a_request_is_built_from_what_add_task_takes() -> None:
    parsed = TaskRequest.parse({"input_path": "/a/b c.mp3", "output_dir": "/o", "priority": "high", "model": "demo"})
    assert (parsed.input_path, parsed.input_name, parsed.output_dir) == ("/a/b c.mp3", "b c.mp3", "/o")
    assert (parsed.priority, parsed.priority.rank, parsed.options.model) == (Priority.HIGH, 0, "demo")
    assert (parsed.file_id, parsed.project_name) == (None, None)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"output_dir": "/o"}, "input_path"),
        ({"input_path": "", "output_dir": "/o"}, "input_path"),
        ({"input_path": "/a\0", "output_dir": "/o"}, "input_path"),
        ({"input_path": "/a\udcff.mp3", "output_dir": "/o"}, "input_path"),
        ({"input_path": "~nobody-of-this-name/a.mp3", "output_dir": "/o"}, "input_path"),
        ({"input_path": "/a"}, "output_dir"),
        ({"input_path": "/a", "output_dir": "/o", "priority": "urgent"}, "priority"),
        ({"input_path": "/a", "output_dir": "/o", "file_id": "x" * 513}, "file_id"),
        ({"input_path": "/a", "output_dir": "/o", "project_name": "\ud800"}, "project_name"),
        ({"input_path": "/a", "output_dir": "/o", "options": {}}, "options"),
        ({"input_path": "/a", "output_dir": "/o", "colour": "red"}, "colour"),
    ],
)
def test_a_request_that_does_not_fit_names_what_does_not(values: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidOption, match=f"^{named}=") as caught:
        TaskRequest.parse(values)
    msgspec.json.encode(caught.value.info)


def test_priorities_rank_high_first() -> None:
    assert sorted(Priority, key=lambda priority: priority.rank) == [Priority.HIGH, Priority.NORMAL, Priority.LOW]
