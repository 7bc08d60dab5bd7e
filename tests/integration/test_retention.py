"""Uploads are kept for their time and no longer; nothing but the server's own files goes with a task."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from demucs_server_worker.assistant.assistant import Assistant
from demucs_server_worker.errors import IllegalTransition, TaskFailed, TaskNotFound
from demucs_server_worker.events import EventKind
from demucs_server_worker.manager import WorkerManager
from demucs_server_worker.server import retention as module
from demucs_server_worker.server.derived import Derived, sweep
from demucs_server_worker.server.retention import Retention
from demucs_server_worker.server.services import opened
from demucs_server_worker.server.uploads import UploadStore
from demucs_server_worker.task import Task, TaskState
from tests.integration.test_reuse import done, until_running, upload
from tests.managers import add, heard, manager, run

KEPT_SECONDS = 3_600.0


class Clock:
    """A clock that is set by hand, in epoch seconds."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def retained(
    folder: Path, clock: Clock | None = None, workers: int = 2
) -> AsyncIterator[tuple[WorkerManager, Retention]]:
    async with manager(folder, workers=workers) as on:
        uploads = UploadStore(folder / "data")
        derived = Derived(folder / "data" / "derived", Assistant(), most_bytes=10**9)
        yield on, Retention(on, uploads, derived, seconds=KEPT_SECONDS, clock=clock)
        uploads.close()


def files_of(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder)) for kind in ("uploads", "results", "derived")
        for path in (folder / "data" / kind).glob("*")
    }  # fmt: skip


def derive(folder: Path, task: Task) -> None:
    """Something that was made of its stems."""
    (folder / "data" / "derived" / task.id).mkdir(parents=True)
    (folder / "data" / "derived" / task.id / "x").write_bytes(b"peaks")


def test_an_upload_goes_with_all_its_files_when_its_time_is_over(tmp_path: Path) -> None:
    async def scene() -> None:
        clock = Clock()
        async with retained(tmp_path, clock) as (on, retention), heard(on) as events:
            task = await done(on, upload(tmp_path))
            derive(tmp_path, task)
            assert task.finished_at is not None
            clock.now = task.finished_at + KEPT_SECONDS - 1
            assert await retention.sweep() == 0
            assert len(files_of(tmp_path)) == 3
            clock.now += 2
            assert await retention.sweep() == 1
            assert files_of(tmp_path) == set()
            with pytest.raises(TaskNotFound):
                on.get_task(task.id)
            await asyncio.sleep(0)
            assert [event.task_id for event in events if event.kind is EventKind.DELETED] == [task.id]

    run(scene())


def test_failed_ones_go_too_and_those_that_have_not_ended_stay(tmp_path: Path) -> None:
    async def scene() -> None:
        clock = Clock()
        async with retained(tmp_path, clock, workers=1) as (on, retention):
            failed, _ = await on.submit(upload(tmp_path, input_name="raise unreadable"))
            with pytest.raises(TaskFailed):
                await on.wait(failed.id)
            running, _ = await on.submit(upload(tmp_path, input_name="wait"))
            queued, _ = await on.submit(upload(tmp_path))
            await until_running(on, running)
            clock.now += 10 * KEPT_SECONDS
            assert await retention.sweep() == 1
            assert {task.id for task in on.list_tasks().tasks} == {running.id, queued.id}
            with pytest.raises(IllegalTransition):
                await retention.delete(running.id)
            await on.cancel(running.id)

    run(scene())


def test_tasks_whose_files_are_their_callers_stay(tmp_path: Path) -> None:
    async def scene() -> None:
        clock = Clock()
        async with retained(tmp_path, clock) as (on, retention):
            task = await on.wait((await add(on, tmp_path, "succeed")).id)
            clock.now += 10 * KEPT_SECONDS
            assert await retention.sweep() == 0
            assert on.get_task(task.id).state is TaskState.COMPLETED
            await retention.delete(task.id)
            assert Path(task.stems[0].path).exists()

    run(scene())


def test_many_go_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 2)

    async def scene() -> None:
        clock = Clock()
        async with retained(tmp_path, clock) as (on, retention):
            for _ in range(5):
                await done(on, upload(tmp_path))
            clock.now += 2 * KEPT_SECONDS
            assert await retention.sweep() == 5
            assert files_of(tmp_path) == set()

    run(scene())


def test_a_machines_clock_that_jumps_a_day_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        async with retained(tmp_path) as (on, retention):
            task = await done(on, upload(tmp_path))
            tomorrow = time.time() + 86_400
            monkeypatch.setattr(time, "time", lambda: tomorrow)
            assert await retention.sweep() == 0
            assert on.get_task(task.id).state is TaskState.COMPLETED

    run(scene())


def test_a_clock_that_came_up_years_ahead_deletes_nothing_until_it_is_set_right(tmp_path: Path) -> None:
    async def scene() -> None:
        clock = Clock()
        async with retained(tmp_path, clock) as (on, retention):
            task = await done(on, upload(tmp_path))
            right = clock.now
            clock.now = right + 5 * 365 * 86_400
            assert await retention.sweep() == 0
            (problem,) = on.get_status()["health"]["problems"]
            assert (
                f"The clock says {time.gmtime(clock.now).tm_year}-" in problem and "no results are deleted" in problem
            )
            assert await retention.sweep() == 0
            clock.now = right
            assert await retention.sweep() == 0
            assert on.get_status()["health"]["problems"] == []
            assert on.get_task(task.id).state is TaskState.COMPLETED

    run(scene())


def test_after_a_long_rest_the_clock_is_believed_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        clock = Clock()
        async with retained(tmp_path, clock) as (on, retention):
            task = await done(on, upload(tmp_path))
            clock.now += 5 * 365 * 86_400
            assert await retention.sweep() == 0
            monkeypatch.setattr(module, "DOUBT_SECONDS", 0.0)
            assert await retention.sweep() == 1
            assert on.get_status()["health"]["problems"] == []
            with pytest.raises(TaskNotFound):
                on.get_task(task.id)

    run(scene())


def test_what_was_made_for_tasks_that_are_no_more_is_removed_at_the_start(tmp_path: Path) -> None:
    async def scene() -> None:
        async with retained(tmp_path) as (on, retention):
            task = await done(on, upload(tmp_path))
            derive(tmp_path, task)
            (tmp_path / "data" / "derived" / "nobody").mkdir()
            retention.start()
            while (tmp_path / "data" / "derived" / "nobody").exists():
                await asyncio.sleep(0.005)
            await retention.stop()
            assert (tmp_path / "data" / "derived" / task.id / "x").exists()

    run(scene())


def test_what_was_being_made_when_the_server_was_killed_is_removed_at_the_next_start(tmp_path: Path) -> None:
    async def scene() -> None:
        async with manager(tmp_path) as on:
            task = await done(on, upload(tmp_path))
            derive(tmp_path, task)
            half = tmp_path / "data" / "derived" / task.id / ".half"
            half.write_bytes(b"half")
            async with opened(on):
                assert [path.name for path in half.parent.iterdir()] == ["x"]

    run(scene())


def test_a_task_that_was_never_asked_about_again_makes_room_first(tmp_path: Path) -> None:
    for age, name in enumerate(["newest", "middle", "oldest"]):
        (tmp_path / "task").mkdir(exist_ok=True)
        path = tmp_path / "task" / name
        path.write_bytes(bytes(100))
        os.utime(path, (1_000 - age, 1_000 - age))
    (tmp_path / "task" / ".being-written").write_bytes(bytes(100))
    removed = sweep(tmp_path, 250, keep=tmp_path / "task" / "oldest")
    assert [path.name for path in removed] == ["middle", "newest"]
    assert {path.name for path in (tmp_path / "task").iterdir()} == {"oldest", ".being-written"}
