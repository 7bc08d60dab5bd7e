"""A server as its user starts it: the real command in a process of its own, on a data folder of its own."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import psutil
import soundfile

from demucs_server_worker.queue.reader import TaskReader
from demucs_server_worker.queue.task_queue import TaskQueue
from demucs_server_worker.task import Task, TaskRequest, TaskState

DEADLINE_SECONDS = 120.0
RATE_HZ = 8_000


def noise(path: Path, seconds: float) -> Path:
    """A quiet mono song of noise; at 8 kHz, so that a long one is a small file."""
    samples = np.random.default_rng(7).normal(0, 0.05, int(seconds * RATE_HZ))
    soundfile.write(path, samples, RATE_HZ, subtype="PCM_16")
    return path


def enqueue(data: Path, song: Path, out: Path, **fields: Any) -> Task:
    """Put a task for the model `demo` into the queue of a data folder on which no server runs."""
    data.mkdir(parents=True, exist_ok=True)
    tasks = TaskQueue(data / "queue.db")
    try:
        request = TaskRequest.parse({"input_path": song, "output_dir": out, "model": "demo", **fields})
        return tasks.put(request, now=time.time(), max_attempts=3, max_queued=None)[0]
    finally:
        tasks.close()


def stored(data: Path, task: Task) -> Task:
    """The task as it is on disk."""
    with TaskReader(data / "queue.db") as reader:
        found = reader.get(task.id)
    assert found is not None
    return found


def until(happened: Callable[[], bool], what: str) -> None:
    """Poll, within a deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not happened():
        assert time.monotonic() < deadline, f"in vain waited until {what}"
        time.sleep(0.02)


def until_state(data: Path, task: Task, state: TaskState) -> Task:
    """Wait until the task is in that state."""
    until(lambda: stored(data, task).state is state, f"the task is {state}")
    return stored(data, task)


class Server:
    """`demucs-server-worker serve` with JSON logs, a free port, one worker and the model `demo`; killed at the end."""

    def __init__(self, data: Path, *arguments: str, **environment: str) -> None:
        """Args: data: its data folder; arguments: more flags; environment: more variables."""
        command = [
            sys.executable, "-m", "demucs_server_worker", "serve", "--data-dir", str(data), "--model", "demo",
            "--max-workers", "1", "--log-format", "json", *arguments,
        ]  # fmt: skip
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "DEMUCS_WORKER_PORT": "0", **environment},
        )
        self.lines: list[dict[str, Any]] = []
        self._unread: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._unread.put(line)
        self._unread.put(None)

    def log(self, event: str) -> dict[str, Any]:
        """The next line of its log with that event."""
        while (line := self._unread.get(timeout=DEADLINE_SECONDS)) is not None:
            self.lines.append(json.loads(line))
            if self.lines[-1]["event"] == event:
                return self.lines[-1]
        raise AssertionError(f"it ended before it said {event}: {self.lines}")

    def rest_of_the_log(self) -> list[dict[str, Any]]:
        """What it said up to its end and was not read yet."""
        rest = []
        while (line := self._unread.get(timeout=DEADLINE_SECONDS)) is not None:
            rest.append(json.loads(line))
        self.lines += rest
        return rest

    def tell(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def ended(self) -> int:
        """Its exit code, once it has ended; and see that no process of its own outlives it."""
        return self.process.wait(timeout=DEADLINE_SECONDS)

    def family(self) -> list[psutil.Process]:
        """Its children and theirs."""
        return psutil.Process(self.process.pid).children(recursive=True)


def until_gone(processes: list[psutil.Process]) -> None:
    """Wait until none of the processes lives."""
    until(
        lambda: not [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE],
        "the processes have ended",
    )
