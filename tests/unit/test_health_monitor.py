"""The monitor on a clock, a pool and readings of the test."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec
import psutil
import pytest
from structlog.testing import capture_logs

from demucs_server_worker.errors import DemucsWorkerError
from demucs_server_worker.health.estimate import CONVERSION_BYTES, table_estimate
from demucs_server_worker.health.monitor import HealthConfig, HealthMonitor
from demucs_server_worker.health.problems import OVER_SECONDS
from demucs_server_worker.health.readings import MachineReading, WorkerReading
from demucs_server_worker.health.sampler import Readings, SystemSampler
from demucs_server_worker.machine.gpus import Gpus
from demucs_server_worker.options import SeparationOptions
from demucs_server_worker.pool.base import Pool, WorkerInfo, WorkerState
from demucs_server_worker.task import Task, TaskRequest
from tests.managers import run

GB = 10**9
NEED = table_estimate(SeparationOptions(), "cpu")


class FakePool:
    """Workers as the test says; remembers which were to be replaced, and why."""

    def __init__(self, *states: WorkerState) -> None:
        self.replaced: list[tuple[str, str]] = []
        self.infos = [
            WorkerInfo(
                id=f"worker-{i}", pid=100 + i, state=state, device="cpu", task_id=None, progress=0.0, tasks_done=0,
                restarts=0, uptime_seconds=1.0,
            )
            for i, state in enumerate(states, 1)
        ]  # fmt: skip

    def set(self, index: int, **fields: Any) -> None:
        self.infos[index] = msgspec.structs.replace(self.infos[index], **fields)

    def workers(self) -> list[WorkerInfo]:
        return self.infos

    def recycle(self, worker_id: str, reason: DemucsWorkerError) -> None:
        self.replaced.append((worker_id, reason.message))


class Scene:
    """A monitor, and all that it depends on."""

    def __init__(self, *states: WorkerState, **config: Any) -> None:
        self.now = 0.0
        self.pool = FakePool(*(states or (WorkerState.IDLE, WorkerState.IDLE)))
        self.rss: dict[str, int] = {}
        self.children_bytes = 0  # of each worker
        self.machine = {"memory_total_bytes": 16 * GB, "memory_available_bytes": 16 * GB}
        self.told: list[str] = []
        self.looks = 0
        self.has_looked = asyncio.Event()
        self.queued = 0
        self.folders: Collection[str] = ()
        self.monitor = HealthMonitor(
            HealthConfig(**config), pool=cast(Pool, self.pool), sampler=self.sample, queued=lambda: self.queued,
            on_change=self.told.append, on_look=self.looked, clock=lambda: self.now,
        )  # fmt: skip

    def sample(self, pids: Mapping[str, int], folders: Collection[str]) -> Readings:
        self.folders = folders
        readings = {
            name: WorkerReading(pid, self.rss.get(name, 0), 1.0, self.children_bytes) for name, pid in pids.items()
        }
        return readings, MachineReading(**self.machine)

    def looked(self) -> None:
        self.looks += 1
        self.has_looked.set()

    async def look(self, seconds: float = 2.0, **rss: int) -> None:
        self.now += seconds
        self.rss |= {name.replace("_", "-"): size for name, size in rss.items()}
        await self.monitor.look()

    def begin(self, its: Task, index: int = 0) -> None:
        self.pool.set(index, state=WorkerState.BUSY, task_id=its.id)
        self.monitor.begin(its, f"worker-{index + 1}")

    def end(self, its: Task, index: int = 0, completed: bool = True) -> None:
        self.monitor.end(its.id, completed=completed)
        self.pool.set(index, state=WorkerState.IDLE, task_id=None)


def task(id: str = "a", **options: Any) -> Task:
    request = TaskRequest(
        input_path="/in/song", output_dir="/out", input_name="song.mp3", options=SeparationOptions(**options)
    )
    return Task(id=id, request=request)


def test_the_history_is_bounded_and_the_latest_reading_is_at_hand() -> None:
    async def play() -> None:
        scene = Scene(sample_seconds=2.0, history_seconds=10.0)
        assert scene.monitor.latest.machine == MachineReading()
        for _ in range(12):
            await scene.look(worker_1=GB)
        assert [sample.at for sample in scene.monitor.history] == [16.0, 18.0, 20.0, 22.0, 24.0]
        assert scene.monitor.latest is scene.monitor.history[-1]
        assert scene.monitor.latest.workers["worker-1"] == WorkerReading(101, GB, 1.0)
        assert scene.looks == 12
        await scene.monitor.stop()

    run(play())


def test_a_busy_worker_past_its_limit_is_replaced_with_the_figures() -> None:
    async def play() -> None:
        scene = Scene(worker_memory=2 * GB)
        await scene.look(worker_1=GB)
        scene.begin(task())
        await scene.look(worker_1=2 * GB)
        assert scene.folders == {"/out"}
        assert scene.pool.replaced == []
        await scene.look(worker_1=int(2.5 * GB), worker_2=GB)
        [(worker, words)] = scene.pool.replaced
        assert worker == "worker-1"
        assert "2.5 GB, past the 2.0 GB that a worker may have, see DEMUCS_WORKER_WORKER_MEMORY" in words
        await scene.monitor.stop()

    run(play())


def test_a_worker_that_converts_a_model_is_not_past_its_limit() -> None:
    async def play() -> None:
        scene = Scene(worker_memory=2 * GB)
        scene.begin(task())
        scene.children_bytes = CONVERSION_BYTES
        await scene.look(worker_1=int(2.5 * GB))
        assert scene.pool.replaced == []
        scene.children_bytes = 0
        await scene.look()
        assert [worker for worker, _ in scene.pool.replaced] == ["worker-1"]
        await scene.monitor.stop()

    run(play())


def test_an_idle_worker_past_its_limit_is_replaced_if_its_tasks_made_it_so_large() -> None:
    async def play() -> None:
        scene = Scene(worker_memory=GB)
        scene.begin(task())
        await scene.look(worker_1=GB // 2, worker_2=GB // 2)
        scene.end(task())
        await scene.look(worker_1=2 * GB, worker_2=2 * GB)
        assert [worker for worker, _ in scene.pool.replaced] == ["worker-1"]
        # The other has had no task: a new one would be no smaller.
        [problem] = scene.monitor.problems
        assert problem.startswith("worker-2 is past its limit before it has a task: it had 2.0 GB, past the 1.0 GB")
        scene.pool.set(0, pid=999)
        await scene.look(worker_2=0)
        assert len(scene.pool.replaced) == 1
        assert scene.monitor.problems == [problem.replace("worker-2", "worker-1")]
        await scene.look(worker_1=0)
        assert scene.monitor.problems == []
        await scene.monitor.stop()

    run(play())


def test_a_reading_of_the_worker_before_is_not_held_against_the_next() -> None:
    async def play() -> None:
        scene = Scene(worker_memory=GB)
        await scene.look(worker_1=GB // 2)
        scene.begin(task())
        before = scene.sample

        def slow(pids: Mapping[str, int], folders: Collection[str]) -> Readings:
            readings = before(pids, folders)
            scene.pool.set(0, pid=999)
            return readings

        scene.monitor._sampler = slow
        await scene.look(worker_1=5 * GB)
        assert scene.pool.replaced == []
        await scene.monitor.stop()

    run(play())


def test_a_task_waits_for_memory_and_the_status_says_why() -> None:
    async def play() -> None:
        scene = Scene()
        await scene.look()
        assert scene.monitor.admits(task("a"), "worker-1")
        scene.begin(task("a"))
        scene.machine["memory_available_bytes"] = 3 * GB
        await scene.look(worker_1=NEED)
        assert scene.monitor.admits(task("b"), "worker-2")
        scene.machine["memory_available_bytes"] = int(1.5 * GB)
        await scene.look()
        assert not scene.monitor.admits(task("b"), "worker-2")
        assert scene.monitor.problems == [
            "Task b (song.mp3) waits for memory: it needs about 1.2 GB more than its worker has, and 700 MB are to be "
            "had beside what running tasks will take."
        ]
        assert scene.told == scene.monitor.problems
        scene.end(task("a"))
        # On the worker that is large already, there is enough.
        assert scene.monitor.admits(task("b"), "worker-1")
        assert scene.monitor.problems == []
        assert len(scene.told) == 1
        await scene.look(OVER_SECONDS)
        await scene.look(OVER_SECONDS)
        assert scene.told[1:] == ["All is well again."]
        await scene.monitor.stop()

    run(play())


def test_a_task_that_waited_and_is_gone_is_no_problem_any_more() -> None:
    async def play() -> None:
        scene = Scene()
        await scene.look()
        scene.machine["memory_available_bytes"] = 0
        await scene.look()
        assert not scene.monitor.admits(task("b"), "worker-2")
        scene.monitor.no_task_waits()
        assert not any("waits" in problem for problem in scene.monitor.problems)
        await scene.monitor.stop()

    run(play())


def test_a_task_too_large_for_the_machine_is_started_alone_and_with_one_warning() -> None:
    async def play() -> None:
        scene = Scene(worker_memory=8 * GB)
        scene.machine = {"memory_total_bytes": GB, "memory_available_bytes": GB // 2}
        await scene.look()
        scene.begin(task("a", model="demo"))
        assert not scene.monitor.admits(task("b"), "worker-2")
        scene.end(task("a"))
        with capture_logs() as logs:
            assert scene.monitor.admits(task("b"), "worker-2")
            assert scene.monitor.admits(task("c"), "worker-2")
        [line] = logs
        assert (line["log_level"], line["task"], line["model"]) == ("warning", "b", "htdemucs")
        assert scene.pool.replaced == []
        await scene.monitor.stop()

    run(play())


def test_memory_that_idle_workers_keep_is_freed_for_a_task_that_waits_while_nothing_runs() -> None:
    async def play() -> None:
        scene = Scene(WorkerState.IDLE, WorkerState.IDLE, WorkerState.IDLE)
        await scene.look()
        scene.begin(task("a"), 1)
        scene.end(task("a"), 1)
        scene.machine["memory_available_bytes"] = GB
        await scene.look(worker_1=0, worker_2=3 * GB, worker_3=3 * GB)
        assert not scene.monitor.admits(task("b"), "worker-1")
        assert [worker for worker, _ in scene.pool.replaced] == ["worker-2"]  # worker-3 was born so large
        await scene.monitor.stop()

    run(play())


def test_problems_that_others_found_are_told_and_end_when_they_say_so() -> None:
    async def play() -> None:
        scene = Scene()
        await scene.look()
        scene.monitor.report("dispatch", "No task can be started: too many files")
        assert scene.monitor.problems == scene.told == ["No task can be started: too many files"]
        scene.monitor.report("dispatch", None)
        assert scene.monitor.problems == []
        await scene.monitor.stop()

    run(play())


def test_when_no_thread_can_be_started_that_is_a_problem_and_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        scene = Scene()
        with monkeypatch.context() as broken:

            def refuse(*_: object) -> None:
                raise RuntimeError("can't start new thread")

            broken.setattr(scene.monitor._thread, "submit", refuse)
            await scene.look()
            assert "No thread can be started" in scene.monitor.problems[0]
        await scene.look()
        assert scene.monitor.problems == []
        await scene.monitor.stop()

    run(play())


def test_a_look_that_fails_does_not_end_the_watch() -> None:
    async def play() -> None:
        scene = Scene(sample_seconds=0.001)
        await scene.monitor.start()
        good = scene.sample

        def broken(pids: Mapping[str, int], folders: Collection[str]) -> Readings:
            scene.monitor._sampler = good
            raise ZeroDivisionError

        with capture_logs() as logs:
            scene.monitor._sampler = broken
            scene.has_looked.clear()
            await scene.has_looked.wait()
            await scene.monitor.stop()
        assert [line["log_level"] for line in logs] == ["error"]

    run(play())


def test_the_real_readings_of_a_process_and_this_machine(tmp_path: Path) -> None:
    child = subprocess.Popen(["/bin/sh", "-c", "sleep 60 & wait"], start_new_session=True)
    try:
        sampler = SystemSampler(tmp_path, Gpus(visible=""))
        gone = subprocess.Popen(["/bin/true"])
        gone.wait()
        pids = {"worker-1": child.pid, "worker-2": gone.pid, "worker-3": os.getpid()}
        first, machine = sampler(pids, [str(tmp_path / "not" / "there")])
        assert first["worker-1"].cpu_percent is None
        assert "worker-2" not in first
        assert first["worker-3"].rss_bytes > 10_000_000
        second, _ = sampler(pids, [])
        assert (second["worker-1"].cpu_percent or 0) >= 0
        leader = psutil.Process(child.pid)
        while not leader.children():
            pass
        family, _ = sampler(pids, [])
        assert family["worker-1"].rss_bytes >= leader.memory_info().rss + leader.children()[0].memory_info().rss
        assert family["worker-1"].own_bytes == leader.memory_info().rss
        assert machine.memory_total_bytes > machine.memory_available_bytes > 0  # type: ignore[operator]
        assert machine.disk_free_bytes == pytest.approx(
            machine.folders_free_bytes[str(tmp_path / "not" / "there")], rel=0.1
        )
        assert machine.open_files_limit is not None
        assert 3 <= (machine.open_files or 0) < machine.open_files_limit
    finally:
        os.killpg(child.pid, 9)
        child.wait()
