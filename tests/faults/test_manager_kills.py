"""kill -9 of the manager: its workers end by themselves, and the next start loses nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from demucs_server_worker.events import EventKind
from demucs_server_worker.publication import staging_path
from demucs_server_worker.queue.reader import TaskReader
from demucs_server_worker.queue.task_queue import TaskQueue
from demucs_server_worker.task import Completed, Stem, TaskRequest, TaskState
from tests.managers import DEADLINE_SECONDS, add, heard, left_behind, manager, run, until

ROOT = Path(__file__).parents[2]


def start(folder: Path, *scripts: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.manager_process", str(folder), *scripts],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip


def read_until(process: subprocess.Popen[str], *wanted: str) -> tuple[list[str], set[int]]:
    """What the manager said up to the last of the lines wanted, and the workers' process ids in it."""
    lines: list[str] = []
    missing = set(wanted)
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line.strip())
        missing.discard(lines[-1])
        if not missing:
            break
    pids = {int(line.split()[1]) for line in lines if line.startswith("worker ") and line != "worker None"}
    return lines, pids


def until_gone(pids: set[int]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while alive := [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]:
        assert time.monotonic() < deadline, f"{alive} outlived their manager"
        os.sched_yield()


def test_its_workers_end_and_what_was_running_runs_again(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    process = start(tmp_path, "busy", "ignore", "succeed")
    _, pids = read_until(process, "started busy 1", "started ignore 1")
    assert len(pids) == 2
    process.kill()
    process.wait()
    until_gone(pids)
    assert left_behind(tmp_path) != [], "the test is to find something to clean up"

    async def scene() -> None:
        (tmp_path / "out" / "go").touch()
        m = manager(tmp_path, workers=2, shutdown_grace=0)
        async with heard(m) as events, m:
            done = await until(m, EventKind.COMPLETED)
            while done.task is None or done.task.request.input_name != "busy":
                done = await until(m, EventKind.COMPLETED)
            assert (done.task.attempt, done.task.history[0].error is not None) == (2, True)
        retried = {e.task.request.input_name: e.task.attempt for e in events if e.kind is EventKind.RETRYING and e.task}
        assert retried == {"busy": 2, "ignore": 2}

    run(scene())
    assert left_behind(tmp_path) == []


def test_a_task_that_takes_the_manager_down_each_time_is_failed_in_the_end(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for attempt, scripts in ((1, ["ignore"]), (2, []), (3, [])):
        process = start(tmp_path, *scripts)
        _, pids = read_until(process, f"started ignore {attempt}")
        process.send_signal(signal.SIGKILL)
        process.wait()
        until_gone(pids)

    async def scene() -> None:
        async with manager(tmp_path) as m:
            (task,) = m.list_tasks().tasks
            assert task.state is TaskState.FAILED
            assert task.error is not None
            assert (task.error.code, len(task.history)) == ("worker_crashed", 3)

    run(scene())


def test_killed_between_the_commit_and_the_rename_the_next_start_publishes(tmp_path: Path) -> None:
    out, data = tmp_path / "out", tmp_path / "data"
    out.mkdir()
    data.mkdir()
    queue = TaskQueue(data / "queue.db")
    request = TaskRequest(input_path="/song.wav", output_dir=str(out), input_name="succeed")
    queue.put(request, now=1.0, max_attempts=3, max_queued=None)
    task = queue.claim("worker-1", 2.0)
    assert task is not None
    staging = staging_path(str(out), task.id, task.claim)
    staging.mkdir()
    (staging / "vocals.wav").write_bytes(b"the whole stem")
    stem = Stem(name="vocals", path=str(out / "vocals.wav"), format="wav", sample_rate=44100, channels=2,
                duration_seconds=3.0, bytes=14, sha256="", peak=0.5)  # fmt: skip
    outcome = Completed(
        staging=str(staging), output_dir=str(out), files=("vocals.wav",), stems=(stem,), duration_seconds=3.0
    )
    assert queue.complete(task, outcome, 3.0) is not None
    queue.close()

    async def scene() -> None:
        async with manager(tmp_path) as m:
            assert (await m.wait(task.id)).state is TaskState.COMPLETED
            assert (out / "vocals.wav").read_bytes() == b"the whole stem"

    run(scene())
    assert left_behind(tmp_path) == []
    with TaskReader(data / "queue.db") as reader:
        assert reader.pending_publications() == []


def test_fifty_tasks_on_four_workers_that_are_killed_again_and_again(tmp_path: Path) -> None:
    """Every third start costs the worker its life. In the end the books are audited."""

    async def scene() -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "go").touch()
        m = manager(tmp_path, workers=4, max_attempts=5)
        async with heard(m) as events, m:
            live = m.events()  # from here on: the first tasks end while the last are still added
            tasks = [
                await add(m, tmp_path, "exit 7" if i % 10 == 9 else "busy", filename=f"{i}/{{stem}}.{{ext}}",
                          priority=("high", "normal", "low")[i % 3])
                for i in range(50)
            ]  # fmt: skip
            starts = 0
            open_tasks = {task.id for task in tasks}
            async for event in live:
                if event.kind is EventKind.STARTED:
                    starts += 1
                    if starts % 3 == 0:
                        pids = [w["pid"] for w in m.get_status()["workers"] if w["task_id"] == event.task_id]
                        for pid in pids:
                            if pid is not None:
                                os.kill(pid, signal.SIGKILL)
                if event.kind in (EventKind.COMPLETED, EventKind.FAILED):
                    open_tasks.discard(event.task_id or "")
                    if not open_tasks:
                        break
            status = m.get_status()
        finals = [e.task_id for e in events if e.kind in (EventKind.COMPLETED, EventKind.FAILED, EventKind.CANCELLED)]
        assert sorted(finals) == sorted(task.id for task in tasks)
        with TaskReader(tmp_path / "data" / "queue.db") as reader:
            stored = [reader.get(task.id) for task in tasks]
            assert reader.pending_publications() == []
        for i, task in enumerate(stored):
            assert task is not None
            if i % 10 == 9:
                assert (task.state, len(task.history)) == (TaskState.FAILED, 5)
            elif task.state is TaskState.FAILED:
                assert len(task.history) == 5
            else:
                assert (task.state, len(task.history)) == (TaskState.COMPLETED, task.attempt - 1)
                assert all(a.error is not None and a.error.code == "worker_crashed" for a in task.history)
        totals = status["totals"]
        assert totals["completed"] + totals["failed"] == 50
        assert sum(w["restarts"] for w in status["workers"]) >= 25

    run(scene())
    assert left_behind(tmp_path) == []
