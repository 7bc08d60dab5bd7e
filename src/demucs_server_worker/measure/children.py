"""Processes that compute as workers do, and tell how long it took: this process loads neither torch nor a model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from threading import Timer
from typing import Any

from demucs_server_worker.errors import DemucsWorkerError
from demucs_server_worker.machine.openmp import openmp_environment

# -P: as for workers, a file named like a module in the current folder must not be imported in its place.
COMMAND = (sys.executable, "-P", "-m", "demucs_server_worker.separation.speed")
# Reading, converting and compiling a model takes half a minute; past this a child hangs.
LIMIT_SECONDS = 900.0

OnConverting = Callable[[float], None]


class CannotBeMeasured(DemucsWorkerError):
    """{detail}"""


class Child:
    """One of them."""

    def __init__(self, task: Mapping[str, Any]) -> None:
        """Start it. Args: task: the fields of `separation.speed.Task`."""
        self._process = subprocess.Popen(
            [*COMMAND, json.dumps(task)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
            # In a session of its own, Ctrl-C reaches this process alone, which then ends the child.
            start_new_session=True,
            env=openmp_environment(os.environ, task["threads"]),  # as the pool does for workers
        )  # fmt: skip
        self._limit = Timer(LIMIT_SECONDS, self.end)
        self._limit.daemon = True
        self._limit.start()

    def hear(self, on_converting: OnConverting = lambda seconds: None) -> dict[str, Any]:
        """What it says next, but for news of a conversion.

        Raises:
            CannotBeMeasured: it says why it cannot, or ended.
        """
        assert self._process.stdout is not None  # noqa: S101 (a pipe, by the constructor)
        for line in self._process.stdout:
            said: dict[str, Any] = json.loads(line)
            if said["event"] == "failed":
                raise CannotBeMeasured(said["message"])
            if said["event"] != "converting":
                return said
            on_converting(said["seconds"])
        raise CannotBeMeasured(self._last_words())

    def run(self, seconds: float) -> None:
        """Have it compute for so long, or until it has done two passes."""
        assert self._process.stdin is not None  # noqa: S101 (a pipe, by the constructor)
        with suppress(BrokenPipeError):  # what it died of is heard next
            self._process.stdin.write(f"{seconds}\n")
            self._process.stdin.flush()

    def end(self) -> None:
        """Kill it, with the processes that it started, and wait."""
        self._limit.cancel()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _last_words(self) -> str:
        assert self._process.stderr is not None  # noqa: S101 (a pipe, by the constructor)
        printed = self._process.stderr.read().strip().splitlines()
        code = self._process.wait()
        return f"a measuring process ended with {code}: {printed[-1] if printed else 'it said nothing'}"


@contextmanager
def children(count: int, task: Mapping[str, Any], on_converting: OnConverting) -> Iterator[list[Child]]:
    """So many, all ready; none is left when the block ends, however it ends.

    Raises:
        CannotBeMeasured: one of them is not.
    """
    with ExitStack() as stack:
        started = [_until_the_end(stack, task) for _ in range(count)]
        for child in started:
            child.hear(on_converting)
        yield started


def ask(task: Mapping[str, Any]) -> dict[str, Any]:
    """The one thing that a child has to say.

    Raises:
        CannotBeMeasured: it says why it cannot.
    """
    with ExitStack() as stack:
        return _until_the_end(stack, task).hear()


def _until_the_end(stack: ExitStack, task: Mapping[str, Any]) -> Child:
    """Start one that the stack ends."""
    # Ctrl-C waits until it is known: in between, its process would be there and nobody would end it.
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        child = Child(task)
        stack.callback(child.end)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
    return child
