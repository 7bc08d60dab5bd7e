"""Workers that are killed, stopped, or orphaned. Numbers are those of the fault matrix."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from demucs_server_worker.pool import memory
from demucs_server_worker.pool.base import Limits
from demucs_server_worker.task import Cancelled, Completed, Failed
from demucs_server_worker.worker.messages import Boot, encode
from tests.local_scenes import LocalScenes
from tests.pool_conformance import DEADLINE_SECONDS, Running, eventually, is_alive, left_behind
from tests.workers import job, scripted

scenes = LocalScenes()


def test_1_kill_9_in_the_middle_of_a_separation(tmp_path: Path) -> None:
    async def scene(running: Running) -> None:
        run = job("wait", tmp_path)
        task = await running.begin(run)
        killed = running.worker().pid or 0
        os.kill(killed, signal.SIGKILL)
        outcome = await asyncio.wait_for(task, DEADLINE_SECONDS)
        assert isinstance(outcome, Failed)
        assert (outcome.error.code, outcome.error.retryable) == ("worker_crashed", True)
        assert "SIGKILL" in outcome.error.message
        assert not left_behind(run)
        assert isinstance(await running.run(job("succeed", tmp_path, claim=2)), Completed)
        assert running.worker().pid != killed

    scenes.play(scene)


def test_8_the_kernel_kills_for_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kills = iter([3, 4])
    monkeypatch.setattr(memory, "oom_kills", lambda: next(kills))

    async def scene(running: Running) -> None:
        task = await running.begin(job("wait", tmp_path))
        os.kill(running.worker().pid or 0, signal.SIGKILL)
        outcome = await asyncio.wait_for(task, DEADLINE_SECONDS)
        assert isinstance(outcome, Failed)
        assert (outcome.error.code, outcome.error.retryable) == ("out_of_memory", True)

    scenes.play(scene)


def test_10_a_stopped_worker_is_hung(tmp_path: Path) -> None:
    async def scene(running: Running) -> None:
        task = await running.begin(job("wait", tmp_path), Limits(grace_seconds=0.1))
        stopped = running.worker().pid or 0
        os.kill(stopped, signal.SIGSTOP)
        outcome = await asyncio.wait_for(task, DEADLINE_SECONDS)
        assert isinstance(outcome, Failed)
        assert outcome.error.code == "worker_hung"
        assert not is_alive(stopped)
        await running.idle()

    scenes.play(scene, heartbeat_seconds=0.05, silence_seconds=3.0)


def test_10_a_worker_stopped_while_idle_is_replaced_before_anyone_gets_it(tmp_path: Path) -> None:
    async def scene(running: Running) -> None:
        stopped = (await running.idle()).pid or 0
        os.kill(stopped, signal.SIGSTOP)
        await eventually(lambda: running.worker().pid not in (None, stopped))
        assert not is_alive(stopped)
        assert "no sign of life" in running.events[1].detail
        assert isinstance(await running.run(job("succeed", tmp_path)), Completed)

    scenes.play(scene, heartbeat_seconds=0.05, silence_seconds=3.0)


def test_the_children_of_a_worker_die_with_it(tmp_path: Path) -> None:
    async def scene(running: Running) -> None:
        task = await running.begin(job("family", tmp_path), Limits(grace_seconds=0.1))
        child = int(await eventually(lambda: _text(tmp_path / "child")))
        assert is_alive(child)
        await running.pool.cancel("task-1")
        assert await task == Cancelled()
        await eventually(lambda: not is_alive(child))

    scenes.play(scene)


def test_the_children_of_a_worker_that_crashes_die_with_it(tmp_path: Path) -> None:
    async def scene(running: Running) -> None:
        outcome = await running.run(job("orphan", tmp_path))
        assert isinstance(outcome, Failed)
        child = int(_text(tmp_path / "child"))
        await eventually(lambda: not is_alive(child))

    scenes.play(scene)


def test_a_child_that_fled_and_holds_the_pipes_delays_nothing(tmp_path: Path) -> None:
    async def scene(running: Running) -> None:
        outcome = await running.run(job("flee", tmp_path))
        assert isinstance(outcome, Failed)
        assert "exit code 7" in outcome.error.message
        os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)
        assert isinstance(await running.run(job("succeed", tmp_path, claim=2)), Completed)

    scenes.play(scene)


def test_28_sigterm_lets_a_worker_finish_its_task(tmp_path: Path) -> None:
    async def scene(running: Running) -> None:
        task = await running.begin(job("busy", tmp_path))
        pid = running.worker().pid or 0
        os.kill(pid, signal.SIGTERM)
        (tmp_path / "go").touch()
        assert isinstance(await asyncio.wait_for(task, DEADLINE_SECONDS), Completed)
        await eventually(lambda: running.worker().pid not in (None, pid))

    scenes.play(scene)


def test_28_sigterm_ends_an_idle_worker(tmp_path: Path) -> None:
    async def scene(running: Running) -> None:
        pid = (await running.idle()).pid or 0
        os.kill(pid, signal.SIGTERM)
        await eventually(lambda: running.worker().pid not in (None, pid))
        assert "exit code 0" in running.events[1].detail

    scenes.play(scene)


def test_28_sigint_is_for_the_parent(tmp_path: Path) -> None:
    async def scene(running: Running) -> None:
        task = await running.begin(job("busy", tmp_path))
        os.kill(running.worker().pid or 0, signal.SIGINT)
        (tmp_path / "go").touch()
        assert isinstance(await asyncio.wait_for(task, DEADLINE_SECONDS), Completed)
        assert running.worker().restarts == 0

    scenes.play(scene)


MANAGER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from demucs_server_worker.pool.base import Limits
from demucs_server_worker.pool.local import LocalPool, PoolConfig
from tests.workers import job, scripted

async def live():
    pool = LocalPool(PoolConfig(size=2, command=scripted()))
    await pool.start()
    busy, idle = await pool.acquire(), await pool.acquire()
    computing = asyncio.Event()
    listener = lambda progress: computing.set() if progress.computing else None
    task = asyncio.create_task(pool.run(busy, job({script!r}, Path({folder!r})), Limits(), listener))
    await computing.wait()
    print(*(worker.pid for worker in pool.workers()), flush=True)
    {then}

asyncio.run(live())
"""


def manager_code(script: str, folder: Path, then: str) -> str:
    """A manager with a busy and an idle worker, that prints their process ids and then does `then`."""
    return MANAGER.format(root=str(Path(__file__).parents[2]), folder=str(folder), script=script, then=then)


@pytest.mark.parametrize("script", ["wait", "stop", "hold"])
def test_2_workers_end_with_the_manager(script: str, tmp_path: Path) -> None:
    if script != "wait" and sys.platform != "linux":
        pytest.skip("only Linux can end a worker that cannot run its own threads")
    code = manager_code(script, tmp_path, then="await task")
    manager = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert manager.stdout is not None
    pids = [int(pid) for pid in manager.stdout.readline().split()]
    assert len(pids) == 2
    manager.kill()
    manager.wait()
    _wait_until_gone(pids)


def test_2_a_worker_whose_pipe_ends_takes_its_children_along(tmp_path: Path) -> None:
    worker = subprocess.Popen(
        [*scripted(), "1"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
    )
    assert worker.stdin is not None
    worker.stdin.write(encode(Boot(worker_id="worker-1")) + encode(job("family", tmp_path)))
    worker.stdin.flush()
    child = _wait_for_text(tmp_path / "child")
    assert is_alive(int(child))
    worker.stdin.close()
    _wait_until_gone([worker.pid, int(child)])
    worker.wait()


def test_an_event_loop_that_closes_without_stop_leaves_no_process(tmp_path: Path) -> None:
    code = manager_code("wait", tmp_path, then="raise SystemExit(0)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=180)
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2
    _wait_until_gone(pids)


def _wait_for_text(path: Path) -> str:
    end = time.monotonic() + DEADLINE_SECONDS
    while not (text := _text(path)):
        assert time.monotonic() < end, f"{path} was not written"
        time.sleep(0.01)
    return text


def _wait_until_gone(pids: list[int]) -> None:
    end = time.monotonic() + DEADLINE_SECONDS
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < end, "a process was left behind"
        time.sleep(0.01)


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
