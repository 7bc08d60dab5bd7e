"""The local pool, with real processes that follow a script."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from demucs_server_worker.pool.backoff import Backoff
from demucs_server_worker.pool.base import WorkerState
from demucs_server_worker.pool.local import LocalPool, PoolConfig
from demucs_server_worker.task import Completed, Failed
from tests.local_scenes import LocalScenes
from tests.pool_conformance import Running, eventually, is_alive, left_behind
from tests.workers import job, scripted


class TestConformance(LocalScenes):
    """Every test of the suite."""


class TestBoot:
    """What happens to workers that do not come up."""

    scenes = LocalScenes()

    @pytest.mark.parametrize(
        ("start", "words"),
        [("broken", "no module named torch"), ("dead", "exit code 3; it last said: no module named torch")],
    )
    def test_the_status_says_why_and_acquire_keeps_waiting(self, start: str, words: str) -> None:
        async def scene(running: Running) -> None:
            waiter = asyncio.create_task(running.pool.acquire())
            await eventually(lambda: running.worker().state is WorkerState.DEAD)
            assert words in (running.worker().problem or "")
            await eventually(lambda: len(running.events) >= 3)
            assert {event.kind for event in running.events} == {"worker_died"}
            assert not waiter.done()
            waiter.cancel()

        self.scenes.play(scene, command=scripted(start))

    def test_a_model_that_is_missing_is_named(self) -> None:
        async def scene(running: Running) -> None:
            await eventually(lambda: running.worker().problem)
            assert "The model missing is not on this machine" in (running.worker().problem or "")

        self.scenes.play(scene, model="missing")

    def test_a_worker_that_is_never_ready_is_killed(self) -> None:
        async def scene(running: Running) -> None:
            await eventually(lambda: running.worker().problem)
            assert running.worker().problem == "it was not ready within 0.2 seconds"
            assert not is_alive(running.events[0].pid or 0)

        self.scenes.play(scene, command=scripted("mute"), ready_seconds=0.2)

    def test_a_worker_that_fetches_its_model_may_take_longer_than_the_deadline(self) -> None:
        async def scene(running: Running) -> None:
            assert await running.pool.acquire() == "worker-1"
            assert running.worker().restarts == 0

        self.scenes.play(scene, command=scripted("fetching"), ready_seconds=3.0)

    def test_a_program_that_does_not_exist_is_a_problem_and_no_crash(self) -> None:
        async def scene(running: Running) -> None:
            await eventually(lambda: running.worker().problem)
            assert "cannot be started" in (running.worker().problem or "")

        self.scenes.play(scene, command=("/no/such/program",))

    def test_restarts_back_off_even_when_the_worker_was_ready_for_a_moment(self) -> None:
        async def scene(running: Running) -> None:
            await eventually(lambda: running.worker().state is WorkerState.DEAD)
            assert running.worker().restarts == 0
            assert "exit code 9" in (running.worker().problem or "")

        self.scenes.play(scene, command=scripted("short-lived"), first_delay_seconds=600)

    def test_delays_grow_from_failure_to_failure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        delays: list[float] = []
        delay = Backoff.delay
        monkeypatch.setattr(Backoff, "delay", lambda self: delays.append(delay(self)) or delays[-1])

        async def scene(running: Running) -> None:
            await eventually(lambda: len(delays) >= 4)
            assert delays[:4] == [0.01, 0.02, 0.04, 0.08]

        self.scenes.play(scene, command=scripted("dead"))

    def test_a_worker_that_comes_up_at_last_takes_jobs_and_has_no_problem(self, tmp_path: Path) -> None:
        switch = tmp_path / "repaired"
        command = ("/bin/sh", "-c", f'test -e "{switch}" || exit 4; exec "$0" "$@"', *scripted())

        async def scene(running: Running) -> None:
            await eventually(lambda: "exit code 4" in (running.worker().problem or ""))
            switch.touch()
            assert isinstance(await running.run(job("succeed", tmp_path)), Completed)
            assert running.worker().problem is None

        self.scenes.play(scene, command=command)

    def test_stop_while_workers_start_leaves_no_process(self) -> None:
        async def whole() -> None:
            pool = LocalPool(PoolConfig(size=3, command=scripted("mute")))
            await pool.start()
            await eventually(lambda: all(worker.pid for worker in pool.workers()))
            pids = [worker.pid or 0 for worker in pool.workers()]
            await pool.stop(600)
            assert [is_alive(pid) for pid in pids] == [False] * 3

        asyncio.run(whole())

    def test_stop_before_the_first_process_is_made_starts_none(self) -> None:
        async def whole() -> list[int]:
            pool = LocalPool(PoolConfig(size=3, command=scripted("mute")))
            await pool.start()
            await pool.stop(600)
            return [worker.restarts for worker in pool.workers() if worker.pid]

        assert asyncio.run(whole()) == []


class TestProcess:
    """What a worker's process is given and what becomes of what it prints."""

    scenes = LocalScenes()

    def test_what_a_worker_prints_reaches_the_log_with_worker_and_task(self, tmp_path: Path) -> None:
        async def scene(running: Running) -> None:
            with capture_logs() as lines:
                await running.run(job("print \x1b[31mhello from inside", tmp_path))
                await eventually(lambda: lines)
            assert lines[0]["event"] == "hello from inside"
            assert (lines[0]["worker"], lines[0]["task"]) == ("worker-1", "task-1")

        self.scenes.play(scene)

    @pytest.mark.parametrize(
        ("what", "told"),
        [
            ("OMP_NUM_THREADS", "3"),
            ("MALLOC_ARENA_MAX", "2"),
            ("DEMUCS_WORKER_API_KEYS", "–"),
            ("nice", "5"),
            ("oom", "500"),
        ],
    )
    def test_its_surroundings(self, what: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DEMUCS_WORKER_API_KEYS", "secret")

        async def scene(running: Running) -> None:
            await running.run(job(f"tell {what}", tmp_path))
            assert (tmp_path / "told").read_text() == told

        self.scenes.play(scene, threads=3, nice=5, environment={"MALLOC_ARENA_MAX": "2"})

    @pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this kernel does not share by sessions")
    def test_its_niceness_counts_beyond_its_own_session(self, tmp_path: Path) -> None:
        async def scene(running: Running) -> None:
            await running.run(job("tell session nice", tmp_path))
            assert (tmp_path / "told").read_text() == "5"

        self.scenes.play(scene, nice=5)

    def test_threads_set_while_the_process_is_being_made_are_not_lost(self, tmp_path: Path) -> None:
        async def scene(running: Running) -> None:
            await asyncio.sleep(0)  # the keeper has composed the first message by now, and waits for the process
            assert running.worker().pid is None
            running.pool.set_threads(7)
            await running.run(job("tell threads", tmp_path))
            assert (tmp_path / "told").read_text() == "7"

        self.scenes.play(scene, threads=2)

    def test_devices_are_dealt_round_robin(self, tmp_path: Path) -> None:
        pool = LocalPool(PoolConfig(size=3, devices=("cuda:0", "cuda:1")))
        assert [pool._place_config(index).boot.device for index in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]

    @pytest.mark.parametrize("script", ["garble", "flood"])
    def test_a_worker_that_breaks_the_protocol_is_replaced(self, script: str, tmp_path: Path) -> None:
        async def scene(running: Running) -> None:
            run = job(script, tmp_path)
            outcome = await running.run(run)
            assert isinstance(outcome, Failed)
            assert outcome.error.code == "worker_crashed"
            assert "message" in outcome.error.message
            assert not left_behind(run)
            assert isinstance(await running.run(job("succeed", tmp_path, claim=2)), Completed)

        self.scenes.play(scene)

    def test_a_worker_reads_nothing_from_the_pipe_by_accident(self, tmp_path: Path) -> None:
        async def scene(running: Running) -> None:
            await running.run(job("tell input", tmp_path))
            assert (tmp_path / "told").read_text() == "–"

        self.scenes.play(scene)


def test_a_process_with_a_pool_imports_no_audio_library() -> None:
    code = (
        "import sys, demucs_server_worker.pool.local; "
        "print(sorted({'torch', 'numpy', 'av', 'demucs'} & sys.modules.keys()))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
