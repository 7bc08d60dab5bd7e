"""The health monitor in a manager: real workers that take memory, and a machine that the test makes short of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from demucs_server_worker import dispatch
from demucs_server_worker.errors import TaskFailed
from demucs_server_worker.events import EventKind
from demucs_server_worker.machine import basics
from demucs_server_worker.manager import WorkerManager
from demucs_server_worker.pool.backoff import Backoff
from demucs_server_worker.task import TaskState
from tests.managers import add, heard, left_behind, manager, run, until
from tests.pool_conformance import eventually

MB = 10**6
GB = 10**9
OFTEN = 0.02  # seconds between two looks


class Machine:
    """Memory as the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, available: int = 16 * GB) -> None:
        self.available = available
        monkeypatch.setattr(basics, "memory", lambda: basics.Memory(16 * GB, self.available))

    async def seen_by(self, m: WorkerManager) -> None:
        await eventually(lambda: m.get_status()["machine"]["memory_available_bytes"] == self.available)


def problems(m: WorkerManager) -> list[str]:
    found: list[str] = m.get_status()["health"]["problems"]
    assert m.get_status()["health"]["ok"] is (found == [])
    return found


def test_a_task_that_takes_too_much_memory_loses_its_worker_and_an_attempt_each_time(tmp_path: Path) -> None:
    async def scene() -> None:
        limits: dict[str, Any] = {"worker_memory": "150MB", "max_attempts": 2}
        async with manager(tmp_path, sample_seconds=OFTEN, **limits) as m, heard(m) as events:
            task = await add(m, tmp_path, f"grow {200 * MB}")
            with pytest.raises(TaskFailed, match="past the 150 MB that a worker may have") as failed:
                await m.wait(task.id)
            assert failed.value.error.code == "out_of_memory"
            history = m.get_task(task.id).history
            assert [(a.number, a.error and a.error.code) for a in history] == [
                (1, "out_of_memory"),
                (2, "out_of_memory"),
            ]
            done = await m.wait((await add(m, tmp_path, "succeed")).id)
            assert done.state is TaskState.COMPLETED
            assert m.get_status()["workers"][0]["restarts"] == 2
        deaths = [e.detail or "" for e in events if e.kind is EventKind.WORKER_DIED]
        assert len(deaths) == 2
        assert all("it was replaced: The worker ran out of memory" in detail for detail in deaths)

    run(scene())
    assert left_behind(tmp_path) == []


def test_a_worker_that_keeps_too_much_of_its_last_task_is_replaced(tmp_path: Path) -> None:
    async def scene() -> None:
        async with manager(tmp_path, sample_seconds=600, worker_memory="150MB") as m:
            await m.wait((await add(m, tmp_path, f"keep {200 * MB}")).id)
            died = asyncio.create_task(until(m, EventKind.WORKER_DIED))
            started = asyncio.create_task(until(m, EventKind.WORKER_STARTED))
            await asyncio.sleep(0)
            m._health.nudge()
            assert "past the 150 MB" in ((await died).detail or "")
            await started
            await eventually(lambda: 0 < (m.get_status()["workers"][0]["rss_bytes"] or 0) < 150 * MB)
            assert (await m.wait((await add(m, tmp_path, "succeed")).id)).attempt == 1

    run(scene())


def test_a_task_waits_until_there_is_memory_for_it_and_nobody_overtakes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch)

    async def scene() -> None:
        settings = {"workers": 2, "sample_seconds": OFTEN, "backend": "torch"}
        async with manager(tmp_path, **settings) as m, heard(m) as events:
            first = await add(m, tmp_path, "busy")
            await until(m, EventKind.STARTED, first)
            machine.available = int(2.9 * GB)  # enough for the first and half of another
            await machine.seen_by(m)
            large = await add(m, tmp_path, "print large")
            small = await add(m, tmp_path, "print small", model="demo")
            await eventually(lambda: problems(m))
            [problem] = problems(m)
            assert f"Task {large.id} (print large) waits for memory: it needs about 1.2 GB" in problem
            assert m.get_status()["queue"]["queued"] == 2
            machine.available = 16 * GB
            (tmp_path / "out" / "go").touch()
            await asyncio.gather(*(m.wait(task.id) for task in (first, large, small)))
            assert problems(m) == []
        started = [e.task_id for e in events if e.kind is EventKind.STARTED]
        assert started == [first.id, large.id, small.id]
        assert [e.detail for e in events if e.kind is EventKind.HEALTH_CHANGED] == [problem]

    run(scene())


def test_a_task_that_waits_for_memory_is_let_through_when_a_look_finds_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch)

    async def scene() -> None:
        async with manager(tmp_path, sample_seconds=OFTEN) as m:
            await machine.seen_by(m)
            machine.available = 1 * GB
            await machine.seen_by(m)
            task = await add(m, tmp_path, "succeed")
            await eventually(lambda: any("waits for memory" in problem for problem in problems(m)))
            assert m.get_task(task.id).state is TaskState.QUEUED
            machine.available = 4 * GB
            assert (await m.wait(task.id)).state is TaskState.COMPLETED

    run(scene())


def test_cancelling_the_task_that_waits_for_memory_frees_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch)

    async def scene() -> None:
        async with manager(tmp_path, sample_seconds=OFTEN) as m:
            await machine.seen_by(m)
            machine.available = int(1.6 * GB)
            await machine.seen_by(m)
            large = await add(m, tmp_path, "succeed")
            await eventually(lambda: problems(m))
            small = await add(m, tmp_path, "succeed", model="demo")
            await m.cancel(large.id)
            assert (await m.wait(small.id)).state is TaskState.COMPLETED
            assert problems(m) == []

    run(scene())


def test_a_task_that_the_machine_can_never_hold_is_started_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Machine(monkeypatch, available=1 * GB)

    async def scene() -> None:
        async with manager(tmp_path, workers=2, sample_seconds=OFTEN) as m, heard(m) as events:
            tasks = [await add(m, tmp_path, f"print {i}") for i in range(4)]
            await asyncio.gather(*(m.wait(task.id) for task in tasks))
        kinds = [e.kind for e in events if e.kind in (EventKind.STARTED, EventKind.COMPLETED)]
        assert kinds == [EventKind.STARTED, EventKind.COMPLETED] * 4

    run(scene())


def test_a_worker_that_does_not_start_changes_the_health_once(tmp_path: Path) -> None:
    async def scene() -> None:
        async with manager(tmp_path, start="broken", sample_seconds=OFTEN) as m, heard(m) as events:
            await eventually(lambda: len([e for e in events if e.kind is EventKind.WORKER_DIED]) >= 4)
            assert "no module named torch" in problems(m)[0]
        changes = [e.detail or "" for e in events if e.kind is EventKind.HEALTH_CHANGED]
        assert len(changes) == 1
        assert changes[0].startswith("worker-1 does not start:")

    run(scene())


def test_a_completed_task_says_how_much_memory_its_worker_took(tmp_path: Path) -> None:
    async def scene() -> None:
        async with manager(tmp_path, sample_seconds=OFTEN) as m, heard(m) as events:
            task = await add(m, tmp_path, "busy")
            await until(m, EventKind.STARTED, task)
            await eventually(lambda: m._health.peak(task.id))
            (tmp_path / "out" / "go").touch()
            await m.wait(task.id)
        [completed] = [e for e in events if e.kind is EventKind.COMPLETED]
        assert 10 * MB < (completed.peak_memory_bytes or 0) < GB

    run(scene())


def test_the_loop_that_starts_tasks_outlives_what_goes_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "Backoff", lambda: Backoff(first_seconds=0.01, longest_seconds=0.01))

    async def scene() -> None:
        async with manager(tmp_path) as m, heard(m) as events:
            claim = m._queue.claim

            def refuse(*_: object) -> None:
                raise OSError(24, "Too many open files")

            m._queue.claim = refuse  # type: ignore[method-assign, assignment]
            task = await add(m, tmp_path, "succeed")
            await eventually(lambda: problems(m))
            assert problems(m) == ["No task can be started: [Errno 24] Too many open files"]
            m._queue.claim = claim  # type: ignore[method-assign]
            assert (await m.wait(task.id)).attempt == 1
            await eventually(lambda: not problems(m))
        assert [e.detail for e in events if e.kind is EventKind.HEALTH_CHANGED] == [
            "No task can be started: [Errno 24] Too many open files"
        ]

    run(scene())


def test_an_idle_manager_looks_and_says_nothing(tmp_path: Path) -> None:
    async def scene() -> None:
        async with manager(tmp_path, sample_seconds=0.001) as m, heard(m) as events:
            await eventually(lambda: [e.kind for e in events] == [EventKind.WORKER_STARTED])
            del events[:]
            before = m._health.latest.at
            with capture_logs() as logs:
                await eventually(lambda: m._health.history[0].at > before)  # as many looks as in five minutes
            assert (logs, events) == ([], [])

    run(scene())


def test_the_status_is_made_from_readings_that_are_there_already(tmp_path: Path) -> None:
    async def scene() -> None:
        async with manager(tmp_path, sample_seconds=OFTEN) as m:
            await eventually(lambda: m.get_status()["workers"][0]["cpu_percent"] is not None)
            await m._health.stop()
            machine = m._health.latest.machine
            m._health._sampler = None  # type: ignore[assignment]
            shown = m.get_status()["machine"]
            assert shown["memory_available_bytes"] == machine.memory_available_bytes
            assert shown["gpus"] == [] or shown["gpus"][0]["name"]

    run(scene())
