"""The queue's database: what it refuses by itself, how it is opened, and which indexes its statements use."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from demucs_server_worker.errors import QueueCorrupt, QueueTooNew
from demucs_server_worker.queue import TaskQueue
from demucs_server_worker.queue.statements import migrations, statement
from demucs_server_worker.task import TRANSITIONS, TaskState
from tests.queue_cases import add, request


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a folder? #1%" / "queue.sqlite"


@pytest.fixture
def queue(path: Path) -> Iterator[TaskQueue]:
    path.parent.mkdir()
    with TaskQueue(path) as queue:
        yield queue


@pytest.mark.parametrize(
    ("verb", "index"),
    [
        ("claim", "task_next"), ("peek", "task_next"), ("position", "task_next"), ("wake", "task_waiting"),
        ("next_due", "task_waiting"), ("list_by_state", "task_by_state"), ("list_running", "task_by_state"),
    ],
)  # fmt: skip
def test_no_verb_walks_or_sorts_the_table(queue: TaskQueue, path: Path, verb: str, index: str) -> None:
    values = {
        "now": 1.0, "longest_delay": 1.0, "worker_id": "w1", "id": "t1", "state": "queued", "before": 9, "limit": 5
    }  # fmt: skip
    plan = [row[3] for row in sqlite3.connect(path).execute("EXPLAIN QUERY PLAN " + statement(verb), values)]
    assert [step for step in plan if f"USING INDEX {index}" in step or f"USING COVERING INDEX {index}" in step]
    # The next task is the first entry of its index, which SQLite calls a scan, cut off by LIMIT 1.
    first_entry = "SCAN task USING INDEX task_next" if verb in ("claim", "peek") else ""
    assert not [step for step in plan if step.startswith("SCAN") and step != first_entry]
    assert not [step for step in plan if "TEMP B-TREE" in step]


def test_the_database_allows_exactly_the_transitions_of_the_table(queue: TaskQueue, path: Path) -> None:
    columns = {
        TaskState.QUEUED: "worker_id = NULL, started_at = NULL, finished_at = NULL, error = NULL",
        TaskState.RUNNING: "worker_id = 'w1', started_at = 1, claim = 1, finished_at = NULL, error = NULL",
        TaskState.COMPLETED: "worker_id = NULL, finished_at = 1, error = NULL",
        TaskState.FAILED: "worker_id = NULL, finished_at = 1, error = x'7b7d'",
        TaskState.CANCELLED: "worker_id = NULL, finished_at = 1, error = NULL",
    }
    ways = {
        TaskState.QUEUED: [],
        TaskState.RUNNING: [TaskState.RUNNING],
        TaskState.COMPLETED: [TaskState.RUNNING, TaskState.COMPLETED],
        TaskState.FAILED: [TaskState.RUNNING, TaskState.FAILED],
        TaskState.CANCELLED: [TaskState.CANCELLED],
    }
    add(queue)
    raw = sqlite3.connect(path, isolation_level=None)

    def move(state: TaskState) -> None:
        raw.execute(f"UPDATE task SET state = '{state}', {columns[state]}")  # noqa: S608

    allowed: dict[TaskState, set[TaskState]] = {state: set() for state in TaskState}
    for origin, way in ways.items():
        for target in TaskState:
            raw.execute("BEGIN")
            for step in way:
                move(step)
            try:
                move(target)
                allowed[origin].add(target)
            except sqlite3.IntegrityError as error:
                assert str(error) == "no such transition of a task"
            raw.execute("ROLLBACK")
    raw.close()
    assert allowed == TRANSITIONS


@pytest.mark.parametrize(
    "change",
    [
        "state = 'lost'", "attempt = 4", "attempt = 0", "worker_id = 'w1'", "finished_at = 1", "started_at = 1",
        "rank = 3", "progress = 1.5", "waiting = 2", "claim = -1", "stems = x'5b5d'", "seq = 'x'",
        "state = 'running'", "state = 'cancelled'",
    ],
)  # fmt: skip
def test_the_database_refuses_what_no_task_can_be(queue: TaskQueue, path: Path, change: str) -> None:
    task = add(queue)
    raw = sqlite3.connect(path)
    with raw, pytest.raises(sqlite3.IntegrityError):
        raw.execute(f"UPDATE task SET {change}")  # noqa: S608
    raw.close()
    assert queue.get(task.id) == task


def test_the_database_refuses_to_forget_a_task_that_has_not_ended(queue: TaskQueue, path: Path) -> None:
    add(queue)
    raw = sqlite3.connect(path)
    with raw, pytest.raises(sqlite3.IntegrityError, match="only a task that ended"):
        raw.execute("DELETE FROM task")
    raw.close()


def test_every_write_is_synced_through_a_write_ahead_log(queue: TaskQueue) -> None:
    read = queue._database._connection.execute
    assert [read(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "foreign_keys")] == [
        "wal", 2, 1,
    ]  # fmt: skip


def test_a_database_of_a_newer_version_is_refused_and_left_alone(queue: TaskQueue, path: Path) -> None:
    queue.close()
    raw = sqlite3.connect(path)
    newer = len(migrations()) + 1
    raw.execute(f"PRAGMA user_version = {newer}")
    raw.close()
    with pytest.raises(QueueTooNew, match=f"has schema {newer}, and this version knows none past {newer - 1}"):
        TaskQueue(path)


def test_a_database_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "other.sqlite")
    other.execute("CREATE TABLE songs (name)")
    with pytest.raises(QueueCorrupt, match="another program"):
        TaskQueue(tmp_path / "other.sqlite")
    assert other.execute("SELECT name FROM sqlite_schema").fetchall() == [("songs",)]
    other.close()


def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = (*migrations(), "CREATE TABLE half (name TEXT);\nINSERT INTO nowhere VALUES (1);\n")
    monkeypatch.setattr("demucs_server_worker.queue.migrations.migrations", lambda: broken)
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        TaskQueue(tmp_path / "queue.sqlite")
    monkeypatch.undo()
    with TaskQueue(tmp_path / "queue.sqlite") as queue:
        assert queue.put(request(), now=1.0, max_attempts=1,
                         max_queued=None)[1]  # fmt: skip
