"""A disk that is full for a while: outcomes wait for it, and stems that could not be moved are moved later."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from demucs_server_worker import publication
from demucs_server_worker.errors import DiskFull, ShuttingDown
from demucs_server_worker.events import EventKind
from demucs_server_worker.pool.backoff import Backoff
from demucs_server_worker.queue.reader import TaskReader
from demucs_server_worker.queue.task_queue import TaskQueue
from demucs_server_worker.task import TaskState
from tests.managers import add, left_behind, manager, run, until


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting between tries."""
    monkeypatch.setattr(Backoff, "delay", lambda self: 0.01)


def full_for(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, times: int) -> list[int]:
    """Make `owner.name` meet a full disk the first times it is called; gives the calls as they happen."""
    works = getattr(owner, name)
    calls: list[int] = []

    def full_at_first(*args: Any, **kwargs: Any) -> Any:
        calls.append(len(calls))
        if len(calls) <= times:
            raise DiskFull(path="/data")
        return works(*args, **kwargs)

    monkeypatch.setattr(owner, name, full_at_first)
    return calls


@pytest.mark.parametrize(("verb", "script", "state"), [
    ("complete", "succeed", TaskState.COMPLETED),
    ("published", "succeed", TaskState.COMPLETED),
    ("fail", "raise unreadable", TaskState.FAILED),
])  # fmt: skip
def test_an_outcome_waits_for_room_in_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, script: str, state: TaskState
) -> None:
    calls = full_for(monkeypatch, TaskQueue, verb, 3)

    async def scene() -> None:
        async with manager(tmp_path) as m:
            task = await add(m, tmp_path, script)
            async for _ in m.events(task.id):
                pass
            after = m.get_task(task.id)
            assert (after.state, after.attempt) == (state, 1)

    run(scene())
    assert len(calls) == 4
    assert left_behind(tmp_path) == []


def test_stems_that_cannot_be_moved_are_moved_when_there_is_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = full_for(monkeypatch, publication, "publish", 3)

    async def scene() -> None:
        async with manager(tmp_path) as m:
            await m.wait((await add(m, tmp_path, "succeed")).id)
            assert (tmp_path / "out" / "vocals.wav").exists()

    run(scene())
    assert len(calls) == 4
    assert left_behind(tmp_path) == []


def test_stopped_before_they_could_be_moved_the_next_start_that_can_moves_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stopped_too_early() -> str:
        async with manager(tmp_path) as m:
            task = await add(m, tmp_path, "succeed")
            waiting = asyncio.create_task(m.wait(task.id))
            while not calls:
                await asyncio.sleep(0.01)
        with pytest.raises(ShuttingDown):
            await waiting
        return task.id

    async def still_full() -> None:
        async with manager(tmp_path) as m:
            assert m.get_status()["accepting"]

    async def with_room(task_id: str) -> None:
        async with manager(tmp_path) as m:
            assert (await m.wait(task_id)).state is TaskState.COMPLETED

    with monkeypatch.context() as full:
        calls = full_for(full, publication, "publish", 10**6)
        task_id = run(stopped_too_early())
        run(still_full())
        assert not (tmp_path / "out" / "vocals.wav").exists()
        with TaskReader(tmp_path / "data" / "queue.db") as reader:
            assert len(reader.pending_publications()) == 1
    run(with_room(task_id))
    assert (tmp_path / "out" / "vocals.wav").read_bytes() == b"the whole stem"
    assert left_behind(tmp_path) == []


def test_a_submission_to_a_full_disk_is_refused_and_nothing_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full_for(monkeypatch, TaskQueue, "put_all", 1)

    async def scene() -> None:
        async with manager(tmp_path) as m:
            with pytest.raises(DiskFull):
                await add(m, tmp_path, "succeed")
            assert m.list_tasks().tasks == ()
            event = asyncio.create_task(until(m, EventKind.COMPLETED))
            await asyncio.sleep(0)
            await add(m, tmp_path, "succeed")
            await event

    run(scene())
