"""The module as one default manager: `import demucs_server_worker as worker_manager`, and what a program forgets."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

import demucs_server_worker as worker_manager
from demucs_server_worker import TaskState, default
from demucs_server_worker.errors import (
    DataFolderInUse,
    InvalidOption,
    InvalidSetting,
    ShuttingDown,
    TaskCancelled,
    TaskNotFound,
)
from demucs_server_worker.events import EventKind
from demucs_server_worker.manager import WorkerManager
from demucs_server_worker.queue.reader import TaskReader
from tests.managers import left_behind, manager, run

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def scripted_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default manager has its data in `tmp_path`, and workers that follow the script in a task's input name."""
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(default, "WorkerManager", lambda: manager(tmp_path))


def fields(folder: Path, script: str, **more: Any) -> dict[str, Any]:
    return {"input_path": folder / "song.wav", "output_dir": folder / "out", "input_name": script, **more}


def state_on_disk(folder: Path) -> list[tuple[TaskState, int, int]]:
    with TaskReader(folder / "data" / "queue.db") as reader:
        return [(task.state, task.attempt, len(task.history)) for task in reader.page().tasks]


def test_the_first_task_starts_it_and_every_verb_acts_on_it(tmp_path: Path) -> None:
    async def scene() -> None:
        with pytest.raises(ShuttingDown, match="first add_task starts it"):
            worker_manager.get_status()
        task = await worker_manager.add_task(fields(tmp_path, "busy"), priority="high")
        assert worker_manager.get_status()["accepting"] is True
        kinds = []
        async for event in worker_manager.events(task.id):
            kinds.append(event.kind)
            (tmp_path / "out" / "go").touch()
        assert kinds[-1] is EventKind.COMPLETED
        assert (await worker_manager.wait(task.id)).state is TaskState.COMPLETED
        other = await worker_manager.add_task(fields(tmp_path, "wait"))
        assert (await worker_manager.cancel(other.id)).state is TaskState.CANCELLED
        with pytest.raises(TaskCancelled):
            await worker_manager.wait(other.id)
        await worker_manager.shutdown()
        with pytest.raises(ShuttingDown):
            worker_manager.get_status()
        with pytest.raises(TaskNotFound):
            await worker_manager.wait(task.id)
        await worker_manager.shutdown()  # nothing is left to stop

    run(scene())


def test_tasks_that_come_at_once_start_one_manager(tmp_path: Path) -> None:
    async def scene() -> None:
        tasks = await asyncio.gather(*(worker_manager.add_task(fields(tmp_path, "succeed")) for _ in range(5)))
        for task in tasks:
            await worker_manager.wait(task.id)
        assert worker_manager.get_status()["totals"]["completed"] == 5
        await worker_manager.shutdown()

    run(scene())


def test_after_shutdown_the_next_task_starts_it_again_on_the_same_queue(tmp_path: Path) -> None:
    async def scene() -> None:
        first = await worker_manager.add_task(fields(tmp_path, "wait"))
        async for event in worker_manager.events(first.id):
            if event.kind is EventKind.STARTED:
                break
        await worker_manager.shutdown(0)
        second = await worker_manager.add_task(fields(tmp_path, "succeed", priority="high"))
        assert (await worker_manager.wait(second.id)).state is TaskState.COMPLETED
        await worker_manager.cancel(first.id)
        await worker_manager.shutdown()

    run(scene())


def test_while_it_shuts_down_it_takes_no_task_and_still_tells_its_status(tmp_path: Path) -> None:
    async def scene() -> None:
        task = await worker_manager.add_task(fields(tmp_path, "busy"))
        async for event in worker_manager.events(task.id):
            if event.kind is EventKind.STARTED:
                break
        stopping = asyncio.create_task(worker_manager.shutdown())
        while worker_manager.get_status()["accepting"]:
            await asyncio.sleep(0)
        with pytest.raises(ShuttingDown):
            await worker_manager.add_task(fields(tmp_path, "succeed"))
        (tmp_path / "out" / "go").touch()
        assert (await worker_manager.wait(task.id)).state is TaskState.COMPLETED
        await stopping

    run(scene())


def test_a_manager_that_cannot_start_says_why_each_time_and_starts_when_it_can(tmp_path: Path) -> None:
    async def scene() -> None:
        async with manager(tmp_path):
            for _ in range(2):
                with pytest.raises(DataFolderInUse):
                    await worker_manager.add_task(fields(tmp_path, "succeed"))
        task = await worker_manager.add_task(fields(tmp_path, "succeed"))
        assert (await worker_manager.wait(task.id)).state is TaskState.COMPLETED
        await worker_manager.shutdown()

    run(scene())


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(default, "WorkerManager", WorkerManager)
    monkeypatch.setenv("MAX_WORKERS", "none")
    with pytest.raises(InvalidSetting, match="MAX_WORKERS=none"):
        run(worker_manager.add_task(input_path="a.wav", output_dir="out"))


def test_a_name_that_is_no_field_is_refused(tmp_path: Path) -> None:
    async def scene() -> None:
        try:
            with pytest.raises(InvalidOption, match="volume"):
                await worker_manager.add_task(fields(tmp_path, "succeed"), volume=11)
        finally:
            await worker_manager.shutdown()

    run(scene())


def test_a_program_that_forgets_shutdown_leaves_no_worker_and_loses_no_attempt(tmp_path: Path) -> None:
    async def forgets() -> list[int]:
        task = await worker_manager.add_task(fields(tmp_path, "ignore"))
        async for event in worker_manager.events(task.id):
            if event.kind is EventKind.STARTED:
                break
        return [worker["pid"] for worker in worker_manager.get_status()["workers"]]

    async def goes_on() -> None:
        task = await worker_manager.add_task(fields(tmp_path, "succeed", priority="high"))
        await worker_manager.wait(task.id)
        await worker_manager.shutdown(0)

    (pid,) = run(forgets())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert state_on_disk(tmp_path) == [(TaskState.QUEUED, 1, 0)]
    # The next event loop finds the folder free.
    run(goes_on())
    assert sorted(state_on_disk(tmp_path)) == [(TaskState.COMPLETED, 1, 0), (TaskState.QUEUED, 1, 0)]
    assert left_behind(tmp_path) == []


def test_another_event_loop_is_told_that_it_is_not_its_manager(tmp_path: Path) -> None:
    async def scene() -> None:
        await worker_manager.add_task(fields(tmp_path, "succeed"))
        with pytest.raises(RuntimeError, match="another event loop"):
            await asyncio.to_thread(asyncio.run, worker_manager.add_task(fields(tmp_path, "succeed")))
        await worker_manager.shutdown()

    run(scene())


@pytest.mark.parametrize("end", ["pass", "raise SystemExit(3)", "raise RuntimeError('a bug')"])
def test_a_process_that_ends_without_shutdown_ends(end: str, tmp_path: Path) -> None:
    program = f"""
import asyncio, sys
from pathlib import Path
import demucs_server_worker as worker_manager
from demucs_server_worker import default
from tests.managers import manager

folder = Path({str(tmp_path)!r})
default.WorkerManager = lambda: manager(folder)

async def main():
    task = await worker_manager.add_task(
        input_path=folder / "song.wav", output_dir=folder / "out", input_name="ignore"
    )
    async for event in worker_manager.events(task.id):
        if event.kind == "started":
            break
    print(worker_manager.get_status()["workers"][0]["pid"], flush=True)
    {end}

asyncio.run(main())
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert ran.returncode == {"p": 0, "S": 3, "R": 1}["p" if end == "pass" else end[6]], ran.stderr
    pid = int(ran.stdout)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert state_on_disk(tmp_path) == [(TaskState.QUEUED, 1, 0)]
    assert "never retrieved" not in ran.stderr and "was destroyed" not in ran.stderr


def test_every_name_of_the_module_is_there_and_documented() -> None:
    for name in worker_manager.__all__:
        assert getattr(worker_manager, name) is not None
    for name in ("add_task", "get_status", "wait", "cancel", "events", "shutdown", "separate"):
        function = getattr(worker_manager, name)
        assert inspect.getdoc(function)
        assert "return" in function.__annotations__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        worker_manager.nothing  # noqa: B018
