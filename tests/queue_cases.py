"""Requests, outcomes and errors for tests of tasks and of the queue."""

from __future__ import annotations

from typing import Any

from demucs_server_worker.errors import ErrorInfo
from demucs_server_worker.queue import TaskQueue
from demucs_server_worker.task import Completed, Stem, Task, TaskRequest

ERROR = ErrorInfo(code="worker_crashed", message="It died.", retryable=True)
FINAL_ERROR = ErrorInfo(code="no_audio", message="There is no sound.", retryable=False)
STEM = Stem(
    name="vocals", path="/out/vocals.wav", format="wav", sample_rate=44_100, channels=2, duration_seconds=3.5,
    bytes=617_444, sha256="0" * 64, peak=0.9,
)  # fmt: skip


def request(name: str = "song", **values: Any) -> TaskRequest:
    return TaskRequest.parse({"input_path": f"/music/{name}.mp3", "output_dir": "/out", **values})


def completed(staging: str = "/out/.staging") -> Completed:
    return Completed(
        staging=staging, output_dir="/out", files=("vocals.wav", "manifest.json"), stems=(STEM,), duration_seconds=3.5
    )


def add(queue: TaskQueue, name: str = "song", **values: object) -> Task:
    task, created = queue.put(request(name, **values), now=10.0, max_attempts=3, max_queued=None)
    assert created
    return task


def take(queue: TaskQueue, now: float = 20.0) -> Task:
    task = queue.claim("w1", now)
    assert task is not None
    return task
