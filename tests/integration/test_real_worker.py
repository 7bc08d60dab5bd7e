"""The real worker, with Demucs and the `demo` model, in the local pool."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import soundfile

from demucs_server_worker.options import SeparationOptions
from demucs_server_worker.pool.base import Limits, Pool, WorkerEvent
from demucs_server_worker.pool.local import LocalPool, PoolConfig
from demucs_server_worker.task import Cancelled, Completed, Failed, Stage
from demucs_server_worker.worker.messages import Run
from tests import workers
from tests.pool_conformance import PoolConformance, Running, eventually, left_behind, written

STEMS = ("drums", "bass", "other", "vocals")


class RealScenes(PoolConformance):
    """A pool of real workers. The conformance suite itself needs scripted ones."""

    def make_pool(self, size: int, on_event: Callable[[WorkerEvent], None], **settings: Any) -> Pool:
        defaults: dict[str, Any] = {"model": "demo", "devices": ("cpu",), "first_delay_seconds": 0.01}
        return LocalPool(PoolConfig(size=size, **{**defaults, **settings}), on_event)


scenes = RealScenes()


def song(path: Path, seconds: float) -> Path:
    """A song of two notes and some noise."""
    rate = 44_100
    time = np.arange(int(seconds * rate)) / rate
    left = 0.3 * np.sin(2 * np.pi * 110 * time) + 0.05 * np.random.default_rng(1).standard_normal(len(time))
    right = 0.3 * np.sin(2 * np.pi * 440 * time)
    soundfile.write(path, np.stack([left, right], axis=1), rate)
    return path


def job(folder: Path, seconds: float, task_id: str = "task-1", **options: Any) -> Run:
    """A job on a song of `seconds`."""
    run = workers.job("a song.wav", folder, task_id)
    return msgspec.structs.replace(
        run,
        input_path=str(song(folder / f"{task_id}.wav", seconds)),
        options=SeparationOptions(model="demo", **options),
    )


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_song_becomes_stems_and_progress_runs_through_the_stages(tmp_path: Path) -> None:
    async def scene(running: Running) -> None:
        outcome = await running.run(job(tmp_path, 5.0))
        assert isinstance(outcome, Completed)
        assert tuple(stem.name for stem in outcome.stems) == STEMS
        assert outcome.duration_seconds == pytest.approx(5.0, abs=0.001)
        assert len(outcome.files) == 5
        assert "manifest" in outcome.files[-1]
        for stem in outcome.stems:
            relative = Path(stem.path).relative_to(outcome.output_dir)
            assert str(relative) in outcome.files
            assert sha256(Path(outcome.staging, relative)) == stem.sha256
        figures = [message.progress for message in running.progress]
        assert figures == sorted(figures)
        assert figures[-1] == 1.0
        assert Stage.SEPARATING in {message.stage for message in running.progress}
        assert running.worker().device == "cpu"

    scenes.play(scene)


def test_two_songs_on_two_workers(tmp_path: Path) -> None:
    async def scene(running: Running) -> None:
        runs = [job(tmp_path, 3.0, f"task-{number}") for number in range(3)]
        outcomes = await asyncio.gather(*(running.run(run) for run in runs))
        assert all(isinstance(outcome, Completed) for outcome in outcomes)
        assert sum(worker.tasks_done for worker in running.pool.workers()) == 3

    scenes.play(scene, size=2)


def test_cancelling_takes_effect_on_the_live_worker(tmp_path: Path) -> None:
    async def scene(running: Running) -> None:
        run = job(tmp_path, 60.0, shifts=20)
        task = await running.begin(run, Limits(grace_seconds=60))
        await running.pool.cancel(run.task_id)
        assert await task == Cancelled()
        assert not left_behind(run)
        assert running.worker().restarts == 0
        outcome = await running.run(job(tmp_path, 1.0, "task-2", stems=("vocals",)))
        assert isinstance(outcome, Completed)
        assert [stem.name for stem in outcome.stems] == ["vocals"]

    scenes.play(scene)


def test_kill_9_while_it_computes(tmp_path: Path) -> None:
    async def scene(running: Running) -> None:
        run = job(tmp_path, 60.0, shifts=20)
        task = await running.begin(run)
        assert left_behind(run)
        os.kill(running.worker().pid or 0, signal.SIGKILL)
        outcome = await task
        assert isinstance(outcome, Failed)
        assert outcome.error.code == "worker_crashed"
        assert not left_behind(run)
        again = await running.run(job(tmp_path, 1.0, "task-2"))
        assert isinstance(again, Completed)
        assert written(again)

    scenes.play(scene)


def test_a_bad_file_fails_its_task_and_spares_the_worker(tmp_path: Path) -> None:
    async def scene(running: Running) -> None:
        text = tmp_path / "text.mp3"
        text.write_text("this is no music")
        for bad, code in ((text, {"input_unreadable", "unsupported_format"}), (tmp_path / "gone", {"input_not_found"})):
            run = msgspec.structs.replace(job(tmp_path, 1.0), input_path=str(bad))
            outcome = await running.run(run)
            assert isinstance(outcome, Failed)
            assert outcome.error.code in code
            assert not outcome.error.retryable
            assert not left_behind(run)
        assert isinstance(await running.run(job(tmp_path, 1.0, "task-2")), Completed)
        assert running.worker().restarts == 0

    scenes.play(scene)


def test_11_a_model_that_cannot_be_loaded_is_the_problem_on_the_status(tmp_path: Path) -> None:
    async def scene(running: Running) -> None:
        await eventually(lambda: running.worker().problem)
        assert "nosuchmodel" in (running.worker().problem or "")
        assert {event.kind for event in running.events} <= {"worker_died"}

    scenes.play(scene, model="nosuchmodel", model_repo=tmp_path)
