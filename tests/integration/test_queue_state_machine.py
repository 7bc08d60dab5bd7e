"""The queue against a plain model of it: any verbs, crashes and restarts in any order."""

from __future__ import annotations

import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, precondition, rule

from demucs_server_worker.errors import IllegalTransition, QueueFull, TaskConflict, TaskNotFound
from demucs_server_worker.queue import TaskQueue
from demucs_server_worker.task import Priority, Task, TaskRequest, TaskState
from tests.queue_cases import ERROR, completed, request

MAX_ATTEMPTS = 2
MAX_QUEUED = 6
FILE_IDS = st.none() | st.sampled_from(["f1", "f2", "f3"])


class Entry:
    """What the model knows of one task: where it is in the order, and the claim that is in force."""

    def __init__(self, request: TaskRequest, place: int) -> None:
        self.request = request
        self.place = place
        self.state = TaskState.QUEUED
        self.attempt = 1
        self.claims = 0
        self.attempts_ended = 0
        self.not_before = 0.0
        self.publishing = False

    @property
    def order(self) -> tuple[int, int]:
        return (["high", "normal", "low"].index(self.request.priority), self.place)

    def queue_again(self, *, not_before: float = 0.0) -> None:
        self.state = TaskState.QUEUED
        self.not_before = not_before

    def lose_attempt(self, *, not_before: float = 0.0) -> None:
        self.attempts_ended += 1
        if self.attempt == MAX_ATTEMPTS:
            self.state = TaskState.FAILED
        else:
            self.attempt += 1
            self.queue_again(not_before=not_before)


class QueueMachine(RuleBasedStateMachine):
    ids = Bundle("ids")
    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.path = Path(self._folder.name) / "queue.sqlite"
        self.queue = TaskQueue(self.path)
        self.crashed: list[TaskQueue] = []
        self.now = 100.0
        self.places = 0
        self.retried = 0
        self.deleted = dict.fromkeys(TaskState, 0)
        self.model: dict[str, Entry] = {}

    def teardown(self) -> None:
        for queue in (self.queue, *self.crashed):
            queue.close()
        self._folder.cleanup()

    def next_place(self) -> int:
        self.places += 1
        return self.places

    def in_state(self, state: TaskState) -> list[Entry]:
        return [entry for entry in self.model.values() if entry.state is state]

    def due(self) -> list[str]:
        ready = [
            task_id for task_id, e in self.model.items() if e.state is TaskState.QUEUED and e.not_before <= self.now
        ]
        return sorted(ready, key=lambda task_id: self.model[task_id].order)

    def in_force(self, claim: Task) -> Entry | None:
        entry = self.model.get(claim.id)
        return entry if entry and entry.state is TaskState.RUNNING and entry.claims == claim.claim else None

    # --- verbs -------------------------------------------------------------------------------------------------------

    @rule(target=ids, priority=st.sampled_from(Priority), file_id=FILE_IDS, name=st.sampled_from("ab"))
    def put(self, priority: Priority, file_id: str | None, name: str) -> object:
        asked = request(name, priority=priority, file_id=file_id)
        known = next((i for i, e in self.model.items() if file_id is not None and e.request.file_id == file_id), None)
        queued = len(self.in_state(TaskState.QUEUED))
        try:
            task, created = self.queue.put(asked, now=self.now, max_attempts=MAX_ATTEMPTS, max_queued=MAX_QUEUED)
        except TaskConflict:
            assert known is not None and self.model[known].request != asked
            return multiple()
        except QueueFull:
            assert known is None and queued >= MAX_QUEUED
            return multiple()
        if known is not None:
            assert (task.id, created, task.request) == (known, False, self.model[known].request)
            return multiple()
        assert created and queued < MAX_QUEUED and task.id not in self.model
        self.model[task.id] = Entry(asked, self.next_place())
        return task.id

    @rule(target=claims)
    def claim(self) -> object:
        expected = self.due()
        task = self.queue.claim("w1", self.now)
        if task is None:
            assert not expected
            return multiple()
        entry = self.model[task.id]
        entry.state = TaskState.RUNNING
        entry.claims += 1
        assert (task.id, task.state, task.claim) == (expected[0], TaskState.RUNNING, entry.claims)
        return task

    @rule(claim=claims)
    def complete(self, claim: Task) -> None:
        entry = self.in_force(claim)
        assert (self.queue.complete(claim, completed(), self.now) is not None) is (entry is not None)
        if entry:
            entry.state = TaskState.COMPLETED
            entry.publishing = True

    @rule(claim=claims)
    def fail(self, claim: Task) -> None:
        entry = self.in_force(claim)
        assert (self.queue.fail(claim, ERROR, self.now) is not None) is (entry is not None)
        if entry:
            entry.attempts_ended += 1
            entry.state = TaskState.FAILED

    @rule(claim=claims, delay=st.sampled_from([0.0, 5.0, 50.0]))
    def retry_later(self, claim: Task, delay: float) -> None:
        if claim.attempt == MAX_ATTEMPTS:
            return
        entry = self.in_force(claim)
        again = self.queue.retry_later(claim, ERROR, self.now + delay, self.now)
        assert (again is not None) is (entry is not None)
        if entry:
            self.retried += 1
            entry.lose_attempt(not_before=self.now + delay)

    @rule(claim=claims)
    def requeue(self, claim: Task) -> None:
        entry = self.in_force(claim)
        assert (self.queue.requeue(claim) is not None) is (entry is not None)
        if entry:
            entry.state = TaskState.QUEUED

    @rule(target=claims, claim=claims)
    def hand_to_another(self, claim: Task) -> object:
        """The same attempt runs again under a new claim: the old one is a zombie that only the claim tells apart."""
        self.requeue(claim)
        return self.claim()

    @rule(task_id=ids)
    def cancel(self, task_id: str) -> None:
        entry = self.model.get(task_id)
        allowed = entry is not None and entry.state in (TaskState.QUEUED, TaskState.RUNNING)
        with self.refused(entry, allowed):
            self.queue.cancel(task_id, self.now)
        if entry and allowed:
            entry.attempts_ended += entry.state is TaskState.RUNNING
            entry.state = TaskState.CANCELLED

    @rule(task_id=ids)
    def revive(self, task_id: str) -> None:
        entry = self.model.get(task_id)
        allowed = entry is not None and entry.state in (TaskState.FAILED, TaskState.CANCELLED)
        with self.refused(entry, allowed):
            self.queue.revive(task_id)
        if entry and allowed:
            entry.attempt = 1
            entry.place = self.next_place()
            entry.queue_again()

    @rule(task_id=ids)
    def published(self, task_id: str) -> None:
        self.queue.published(task_id)
        if entry := self.model.get(task_id):
            entry.publishing = False

    @rule(task_id=consumes(ids))
    def delete(self, task_id: str) -> None:
        entry = self.model.get(task_id)
        allowed = entry is not None and not entry.publishing
        allowed = allowed and entry.state not in (TaskState.QUEUED, TaskState.RUNNING)
        with self.refused(entry, allowed):
            self.queue.delete(task_id)
        if entry and allowed:
            self.deleted[entry.state] += 1
            del self.model[task_id]

    @rule(seconds=st.sampled_from([1.0, 10.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def crash(self) -> None:
        """The process is gone: its connection is left as it stands, and the next manager recovers."""
        self.crashed.append(self.queue)
        self.queue = TaskQueue(self.path)
        running = {task_id for task_id, entry in self.model.items() if entry.state is TaskState.RUNNING}
        recovered = self.queue.recover(self.now)
        assert {task.id for task in recovered} == running
        for task in recovered:
            entry = self.model[task.id]
            self.retried += entry.attempt < MAX_ATTEMPTS
            entry.lose_attempt()
            assert task.state is entry.state

    @precondition(lambda self: not self.in_state(TaskState.RUNNING))
    @rule()
    def restart(self) -> None:
        self.queue.close()
        self.queue = TaskQueue(self.path)
        assert self.queue.recover(self.now) == []

    def refused(self, entry: Entry | None, allowed: bool) -> AbstractContextManager[object]:
        return nullcontext() if allowed else pytest.raises(IllegalTransition if entry else TaskNotFound)

    # --- what always holds -------------------------------------------------------------------------------------------

    @invariant()
    def every_task_is_there_once_in_its_one_state(self) -> None:
        stored = {task.id: task for task in self.queue.page(limit=10_000).tasks}
        assert stored.keys() == self.model.keys()
        for task_id, entry in self.model.items():
            task = stored[task_id]
            assert (task.state, task.attempt, task.claim) == (entry.state, entry.attempt, entry.claims)
            assert (task.request, len(task.history)) == (entry.request, entry.attempts_ended)
            assert [state for state in TaskState if task in self.queue.page(state).tasks] == [entry.state]

    @invariant()
    def the_next_task_is_the_one_the_order_says(self) -> None:
        due = self.due()
        head = self.queue.peek(self.now)
        assert (head.id if head else None) == (due[0] if due else None)
        assert [self.queue.position(task_id) for task_id in due] == list(range(1, len(due) + 1))
        ahead = [e.not_before for e in self.in_state(TaskState.QUEUED) if e.not_before > self.now]
        assert self.queue.next_due(self.now) == min(ahead, default=None)

    @invariant()
    def the_counts_are_the_tasks_counted(self) -> None:
        counts = self.queue.counts()
        assert (counts.queued, counts.running, counts.retried) == (
            len(self.in_state(TaskState.QUEUED)), len(self.in_state(TaskState.RUNNING)), self.retried,
        )  # fmt: skip
        for state in (TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED):
            assert getattr(counts, state.value) == len(self.in_state(state)) + self.deleted[state]
        publishing = {task_id for task_id, entry in self.model.items() if entry.publishing}
        assert {publication.task_id for publication in self.queue.pending_publications()} == publishing


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
