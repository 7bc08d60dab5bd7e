"""One worker process: its pipes, its life and its death. Knows nothing of tasks; whoever owns it decides."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import msgspec
import structlog

from demucs_server_worker.machine.openmp import openmp_environment
from demucs_server_worker.pool.lines import LineReader
from demucs_server_worker.pool.output import LONGEST_LINE_BYTES, Output, last_words
from demucs_server_worker.worker.messages import Boot, FromWorker, ToWorker, decode_from_worker, encode

# -P: a file named like a module in the folder where the manager was started must not be imported in its place.
WORKER_COMMAND = (sys.executable, "-P", "-m", "demucs_server_worker.worker")
LONGEST_MESSAGE_BYTES = 1_048_576
# What a worker said before it died is read to its end; one of its children that fled the process group and holds the
# pipe must not delay that for ever.
LAST_WORDS_SECONDS = 2.0
# A process that SIGKILL has not ended by then sits in the kernel, on a disk or a network that does not answer.
KILL_SECONDS = 10.0
# When the machine is short of memory, the kernel is to take a worker, which is replaced, and not the manager.
# Of -1000 to 1000, where each step counts like a thousandth of the machine's memory.
OOM_SCORE_ADJUSTMENT = 500
# A worker decodes hostile files: it gets no secret, by these words in a variable's name.
SECRET_WORDS = ("API_KEY", "SECRET", "PASSWORD")

_log = structlog.get_logger("demucs_server_worker.pool")


@dataclass(frozen=True)
class Launch:
    """How a worker process is started.

    Attributes:
        command: program and arguments; the number of the protocol pipe is appended.
        environment: variables set for it, beside those of this process.
        nice: added to its niceness, 0 to 19.
    """

    command: tuple[str, ...] = WORKER_COMMAND
    environment: Mapping[str, str] = field(default_factory=dict)
    nice: int = 0


@dataclass(frozen=True)
class Exit:
    """How a worker process ended.

    Attributes:
        returncode: its exit code, or minus the signal that killed it.
        killed_because: why this side killed it, or None.
        last_lines: what it printed last.
    """

    returncode: int
    killed_because: str | None
    last_lines: tuple[str, ...]

    def describe(self) -> str:
        """The end in words: why it was killed, or the exit code or signal, and its last words."""
        if self.killed_because is not None:
            return self.killed_because
        words = last_words(self.last_lines)
        return f"{_ending(self.returncode)}; it last said: {words}" if words else _ending(self.returncode)


def _ending(returncode: int) -> str:
    if returncode >= 0:
        return f"it ended with exit code {returncode}"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        return f"it was killed by signal {-returncode}"
    words = signal.strsignal(-returncode)
    return f"it was killed by {name} ({words.lower()})" if words else f"it was killed by {name}"


class WorkerProcess:
    """A running worker process. Made by `spawn`; over when `exit` is done."""

    exit: asyncio.Task[Exit]

    def __init__(self, process: asyncio.subprocess.Process, output: Output, clock: Callable[[], float]) -> None:
        self.pid = process.pid
        self.output = output
        self.started_at = clock()
        self.last_heard = clock()
        self._process = process
        self._clock = clock
        self._killed_because: str | None = None
        self._garbled = False
        self._closing: list[asyncio.BaseTransport] = []
        self._readers: list[LineReader] = []
        self._stdin: asyncio.WriteTransport | None = None

    @classmethod
    async def spawn(
        cls, launch: Launch, boot: Boot, on_message: Callable[[FromWorker], None], clock: Callable[[], float]
    ) -> WorkerProcess:
        """Start a worker in a process group of its own, and send it `boot`.

        Args:
            launch: what to start.
            boot: its first message.
            on_message: called with everything it says, on the event loop.
            clock: monotonic seconds.

        Raises:
            OSError: when no process or pipe can be made.
        """
        with _Pipes() as pipes:
            stdin_read, stdin_write = pipes.make()
            protocol_read, protocol_write = pipes.make()
            output_read, output_write = pipes.make()
            # The pipes are ours and not asyncio's: a child of the worker that outlives it and keeps a pipe open would
            # keep asyncio from telling us that the worker has ended.
            process = await asyncio.create_subprocess_exec(
                *launch.command,
                str(protocol_write),
                stdin=stdin_read,
                stdout=output_write,
                stderr=output_write,
                pass_fds=(protocol_write,),
                start_new_session=True,
                env=_environment(launch, boot.threads),
            )
            self = cls(process, Output(boot.worker_id, clock), clock)
            self.exit = asyncio.create_task(self._live())
            try:
                _step_back(process.pid, launch.nice)
                await self._connect(pipes, stdin_write, protocol_read, output_read, on_message)
            except BaseException:
                self.kill("it could not be connected")
                raise
        self.send(boot)
        return self

    async def _connect(
        self, pipes: _Pipes, stdin: int, protocol: int, output: int, on_message: Callable[[FromWorker], None]
    ) -> None:
        loop = asyncio.get_running_loop()

        def take(line: bytes) -> None:
            self._take(line, on_message)

        messages = LineReader(take, longest=LONGEST_MESSAGE_BYTES, on_overflow=self._overflow)
        printed = LineReader(self.output.take, longest=LONGEST_LINE_BYTES)
        for reader, fd in ((messages, protocol), (printed, output)):
            transport, _ = await loop.connect_read_pipe(partial(_same, reader), pipes.hand_over(fd, "rb"))
            self._closing.append(transport)
            self._readers.append(reader)
        self._stdin, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, pipes.hand_over(stdin, "wb"))
        self._closing.append(self._stdin)

    @property
    def is_killed(self) -> bool:
        """Whether this side has killed it; its end may take a moment yet."""
        return self._killed_because is not None

    def send(self, message: ToWorker) -> None:
        """Send a message; one to a worker that is gone is dropped, as its `exit` says so anyway."""
        if self._stdin is not None and not self._stdin.is_closing():
            self._stdin.write(encode(message))

    def kill(self, because: str) -> None:
        """Kill the process group at once, without asking. `because` says why, in words; the first reason stays."""
        if not self.exit.done():
            self._killed_because = self._killed_because or because
            self._kill_group()

    async def die(self) -> None:
        """Wait for the end of a process that was killed, but not for ever."""
        await first_of(self.exit, within=KILL_SECONDS)
        if not self.exit.done():
            _log.error("worker cannot be killed", worker_pid=self.pid)

    @property
    def ending(self) -> Exit:
        """How it ended; or, after `die` has waited in vain, that it did not."""
        if self.exit.done():
            return self.exit.result()
        words = "it cannot be killed: a disk or a network that it uses does not answer"
        return Exit(-signal.SIGKILL, words, self.output.last_lines)

    def _take(self, line: bytes, on_message: Callable[[FromWorker], None]) -> None:
        if self._garbled:
            return
        self.last_heard = self._clock()
        try:
            message = decode_from_worker(line)
        except msgspec.DecodeError as error:
            _log.warning("worker sent garbage", worker_pid=self.pid, line=repr(line[:200]), detail=str(error))
            self._garbled = True
            self.kill("it sent a line that is no message")
            return
        on_message(message)

    def _overflow(self) -> None:
        _log.warning("worker sent a message that is too long", worker_pid=self.pid)
        self._garbled = True
        self.kill("it sent a message that is too long")

    async def _live(self) -> Exit:
        """Wait for the end, and clean up after it. Cancelled (the event loop closes), it kills at once."""
        try:
            returncode = await self._process.wait()
        finally:
            # Its children die with it. The number of the group cannot be another's yet: that takes all other numbers
            # to be used up within the moment since the process was reaped.
            self._kill_group()
            try:
                await self._read_to_the_end()
            finally:
                for transport in self._closing:
                    transport.close()
        return Exit(returncode, self._killed_because, self.output.last_lines)

    async def _read_to_the_end(self) -> None:
        endings = [reader.ended for reader in self._readers]
        if endings:
            await asyncio.wait(endings, timeout=LAST_WORDS_SECONDS)

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


def _environment(launch: Launch, threads: int) -> dict[str, str]:
    """The child's variables."""
    own = {name: value for name, value in os.environ.items() if not any(word in name for word in SECRET_WORDS)}
    return {
        **openmp_environment(own, threads),
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
        **launch.environment,
    }


def _step_back(pid: int, nice: int) -> None:
    """Let others go first: with the processor as far as `nice` says, and with memory."""
    if nice:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, pid, nice)
        with suppress(OSError):
            # Where the kernel shares by sessions (sched(7), autogroup), niceness counts only within one, and a worker
            # has one of its own.
            Path(f"/proc/{pid}/autogroup").write_text(str(nice))
    with suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text(str(OOM_SCORE_ADJUSTMENT))


async def first_of(*ends: asyncio.Future[Any], within: float | None = None) -> None:
    """Wait until one of `ends` is done, or for `within` seconds."""
    await asyncio.wait(ends, timeout=within, return_when=asyncio.FIRST_COMPLETED)


def _same(reader: LineReader) -> LineReader:
    return reader


class _Pipes:
    """Makes pipes, and closes what was not handed over when the block ends, however it ends."""

    def __init__(self) -> None:
        self._open: set[int] = set()

    def __enter__(self) -> _Pipes:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._open:
            os.close(fd)

    def make(self) -> tuple[int, int]:
        read, write = os.pipe()
        self._open |= {read, write}
        return read, write

    def hand_over(self, fd: int, mode: str) -> IO[bytes]:
        self._open.discard(fd)
        return cast(IO[bytes], os.fdopen(fd, mode, buffering=0))
