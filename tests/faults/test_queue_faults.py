"""What the queue does when its file is locked, damaged, out of room, or its process killed."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from demucs_server_worker.errors import DiskFull, OutputNotWritable, QueueCorrupt, QueueLocked
from demucs_server_worker.queue import TaskQueue, TaskReader
from demucs_server_worker.task import TaskState
from tests.queue_cases import completed, request, take

# How long a verb must at least be seen waiting for a lock before the lock is let go.
SEEN_WAITING_SECONDS = 0.3


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.sqlite"


def put(queue: TaskQueue, name: str) -> str:
    return queue.put(request(name, file_id=name), now=1.0, max_attempts=3, max_queued=None)[0].id


# --- locked ----------------------------------------------------------------------------------------------------------


def test_a_verb_waits_while_another_program_holds_the_lock_and_then_stores(path: Path) -> None:
    TaskQueue(path).close()
    backup = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    backup.execute("BEGIN IMMEDIATE")
    about_to_put = threading.Event()
    stored: list[str] = []

    def submit() -> None:
        with TaskQueue(path) as queue:
            about_to_put.set()
            stored.append(put(queue, "a"))

    submitting = threading.Thread(target=submit)
    submitting.start()
    assert about_to_put.wait(30)
    submitting.join(SEEN_WAITING_SECONDS)
    assert submitting.is_alive()
    assert stored == []
    backup.execute("COMMIT")
    submitting.join(30)
    backup.close()
    with TaskReader(path) as reader:
        assert [task.id for task in reader.page().tasks] == stored


def test_a_lock_that_is_never_let_go_is_said_plainly_and_nothing_is_stored(path: Path) -> None:
    with TaskQueue(path, busy_timeout_seconds=0.05) as queue:
        first = put(queue, "a")
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        for verb in (lambda: put(queue, "b"), lambda: queue.claim("w1", 2.0), lambda: queue.cancel(first, 2.0)):
            with pytest.raises(QueueLocked, match=r"locked for 0\.05 seconds, so nothing was stored") as caught:
                verb()
            assert caught.value.retryable
        holder.execute("ROLLBACK")
        holder.close()
        (task,) = queue.page().tasks
        assert (task.id, task.state) == (first, TaskState.QUEUED)
        assert put(queue, "b")


# --- damaged ---------------------------------------------------------------------------------------------------------


def filled(path: Path) -> None:
    with TaskQueue(path) as queue:
        for number in range(200):
            put(queue, str(number))


@pytest.mark.parametrize(
    ("damage", "offset"), [(b"this is no database at all", 0), (b"\xff" * 4096, 4096), (b"\xff" * 4096, 40_960)]
)
def test_a_damaged_file_refuses_to_open_says_so_and_is_left_as_it_is(path: Path, damage: bytes, offset: int) -> None:
    filled(path)
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(damage)
    before = path.read_bytes()
    with pytest.raises(QueueCorrupt) as caught:
        TaskQueue(path)
    assert str(path) in caught.value.message
    assert "is damaged or is no queue" in caught.value.message
    assert (caught.value.code, path.read_bytes()) == ("queue_corrupt", before)


def test_a_truncated_file_refuses_to_open(path: Path) -> None:
    filled(path)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(QueueCorrupt):
        TaskQueue(path)


def test_a_folder_that_is_not_there_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(OutputNotWritable, match=r"none/queue\.sqlite cannot be written"):
        TaskQueue(tmp_path / "none" / "queue.sqlite")


# --- out of room -----------------------------------------------------------------------------------------------------


def test_a_database_without_room_acknowledges_nothing_it_did_not_store(path: Path) -> None:
    with TaskQueue(path) as queue:
        pages = queue._database.pragma("page_count")
        queue._database.pragma(f"max_page_count = {pages + 8}")
        acknowledged = fill_until_full(queue)
        assert {task.id for task in queue.page(limit=10_000).tasks} == acknowledged
        assert queue.counts().queued == len(acknowledged)
        queue._database.pragma("max_page_count = 100000")
        acknowledged.add(put(queue, "after"))
    with TaskQueue(path) as reopened:
        assert {task.id for task in reopened.page(limit=10_000).tasks} == acknowledged


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB of its own; skipped where this user may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)  # noqa: S607


def test_a_full_disk_acknowledges_nothing_it_did_not_store_and_loses_nothing(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(64 * 1024))
    with TaskQueue(small_disk / "queue.sqlite") as queue:
        acknowledged = fill_until_full(queue)
        assert {task.id for task in queue.page(limit=10_000).tasks} == acknowledged
        ballast.unlink()
        acknowledged.add(put(queue, "after"))
        running = take(queue)
        assert queue.complete(running, completed(), 9.0) is not None
    with TaskReader(small_disk / "queue.sqlite") as reader:
        assert {task.id for task in reader.page(limit=10_000).tasks} == acknowledged


def fill_until_full(queue: TaskQueue) -> set[str]:
    """The ids of the tasks that were acknowledged before the disk was full."""
    acknowledged: set[str] = set()
    with pytest.raises(DiskFull, match="nothing was stored") as caught:
        for number in range(10_000):
            acknowledged.add(put(queue, f"{number}-{'x' * 200}"))
    assert caught.value.code == "disk_full"
    assert acknowledged
    return acknowledged


# --- killed ----------------------------------------------------------------------------------------------------------

LOOP = textwrap.dedent(
    """
    import os, sys
    from pathlib import Path
    from tests.queue_cases import ERROR, completed, request
    from demucs_server_worker.queue import TaskQueue

    def say(verb, task_id):
        os.write(1, f"{verb} {task_id}\\n".encode())

    queue = TaskQueue(Path(sys.argv[1]))
    for task in queue.recover(1.0):
        say("recovered-" + task.state, task.id)
    number = 0
    while True:
        number += 1
        for n in range(2):
            priority = ("high", "normal", "low")[(number + n) % 3]
            task, _ = queue.put(request(str(number), priority=priority), now=1.0, max_attempts=3, max_queued=None)
            say("put", task.id)
        task = queue.claim("w1", 2.0)
        say("claimed", task.id)
        if number % 3 == 0:
            queue.complete(task, completed(), 3.0)
            say("completed", task.id)
        elif number % 3 == 1:
            queue.fail(task, ERROR, 3.0)
            say("failed", task.id)
    """
)
FINAL_WORDS = {"completed": TaskState.COMPLETED, "failed": TaskState.FAILED, "recovered-failed": TaskState.FAILED}


def test_a_process_killed_at_any_moment_loses_no_task_and_no_outcome(path: Path) -> None:
    chance = random.Random(7)
    said: dict[str, list[str]] = {}
    for kills in range(1, 9):
        for line in killed_after(path, lines=chance.randrange(1, 60)):
            verb, task_id = line.split()
            said.setdefault(task_id, []).append(verb)
        audit(path, said, kills)
    assert any(words.count("claimed") > 1 for words in said.values())


def killed_after(path: Path, *, lines: int) -> list[str]:
    """Run the loop on `path`, kill it once it has said so many lines, and give all whole lines that it said."""
    folders = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    environment = {**os.environ, "PYTHONPATH": folders}
    child = subprocess.Popen(
        [sys.executable, "-c", LOOP, str(path)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert child.stdout is not None
    heard = [child.stdout.readline() for _ in range(lines)]
    child.send_signal(signal.SIGKILL)
    heard += child.stdout.readlines()
    child.stdout.close()
    assert child.wait(30) == -signal.SIGKILL
    return [line for line in heard if line.endswith("\n")]


def audit(path: Path, said: dict[str, list[str]], kills: int) -> None:
    """Everything that was acknowledged is in the books, and the books agree with themselves."""
    with TaskReader(path) as reader:
        tasks = {task.id: task for task in reader.page(limit=100_000).tasks}
        counts = reader.counts()
        published = {publication.task_id for publication in reader.pending_publications()}
    assert said.keys() <= tasks.keys()
    # A kill can come between a commit and the word of it, so each may leave one task that nobody was told of.
    assert len(tasks.keys() - said.keys()) <= kills
    for task_id, words in said.items():
        task = tasks[task_id]
        if words[-1] in FINAL_WORDS:
            assert task.state is FINAL_WORDS[words[-1]]
        assert task.claim >= words.count("claimed")
        assert len(task.history) >= words.count("recovered-queued")
    by_state = {state: sum(task.state is state for task in tasks.values()) for state in TaskState}
    assert (counts.queued, counts.running) == (by_state[TaskState.QUEUED], by_state[TaskState.RUNNING])
    assert (counts.completed, counts.failed) == (by_state[TaskState.COMPLETED], by_state[TaskState.FAILED])
    assert published == {task.id for task in tasks.values() if task.state is TaskState.COMPLETED}
