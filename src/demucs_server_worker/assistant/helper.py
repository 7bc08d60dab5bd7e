"""One child process of an assistant, seen from its parent: its pipes, its life and its death."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from contextvars import Context

import msgspec
import psutil
import structlog

from demucs_server_worker.assistant.messages import Answer, Chore, FromChild, Ready, decode_from_child, encode
from demucs_server_worker.machine.openmp import openmp_environment
from demucs_server_worker.pool.output import last_words
from demucs_server_worker.pool.process import OOM_SCORE_ADJUSTMENT, SECRET_WORDS

# -P: a file named like a module in the folder where the server was started must not be imported in its place.
HELPER_COMMAND = (sys.executable, "-P", "-m", "demucs_server_worker.assistant")
# It is up in a quarter of a second; a machine whose cores are all computing needs longer.
BOOT_SECONDS = 30.0
LONGEST_ANSWER_BYTES = 16 * 1024**2
KEPT_LINES = 20
LONGEST_LINE_BYTES = 2_000
# A libraries' memory grows with hostile files; a new child costs a quarter of a second.
SWOLLEN_BYTES = 400_000_000

_log = structlog.get_logger("demucs_server_worker.assistant")


class HelperLost(Exception):
    """A child died, hung or talked nonsense. `str` says which, for people."""


class Helper:
    """A running child. Made by `start`; does one chore at a time; `end` is to be called in the end."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._last_lines: list[str] = []
        # It outlives the request that it was started for, and listens for others.
        self._listening = asyncio.create_task(self._listen(), name=f"assistant {process.pid}", context=Context())

    @classmethod
    async def start(cls, command: tuple[str, ...] = HELPER_COMMAND) -> Helper:
        """Start a child in a process group of its own, and wait until it is ready.

        Raises:
            HelperLost: it did not come up.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=LONGEST_ANSWER_BYTES,
                start_new_session=True,
                env=_environment(),
            )
        except OSError as error:
            raise HelperLost(f"it cannot be started ({error})") from error
        helper = cls(process)
        try:
            _prefer_for_oom(process.pid)
            async with asyncio.timeout(BOOT_SECONDS):
                message = await helper._next()
            if not isinstance(message, Ready):
                raise HelperLost("it did not say that it is ready")
        except TimeoutError:
            await helper.end()
            raise HelperLost(f"it was not ready within {BOOT_SECONDS:g} s") from None
        except BaseException:
            await helper.end()
            raise
        return helper

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_fit(self) -> bool:
        """Whether it can be given another chore: it lives, and has not swollen."""
        if self._process.returncode is not None:
            return False
        try:
            return bool(psutil.Process(self.pid).memory_info().rss < SWOLLEN_BYTES)
        except psutil.Error:
            return False

    async def ask(self, chore: Chore) -> Answer:
        """Have it do `chore`. If this raises anything, or is cancelled, the child is of no more use.

        Raises:
            HelperLost: it died over it.
            TimeoutError: it took longer than the chore's deadline.
        """
        assert self._process.stdin is not None  # noqa: S101  # made with a pipe
        async with asyncio.timeout(chore.deadline_seconds):
            with suppress(ConnectionError):  # it is gone, and `_next` tells how
                self._process.stdin.write(encode(chore))
                await self._process.stdin.drain()
            message = await self._next()
        if isinstance(message, Ready):
            raise HelperLost("it started anew in the middle of a chore")
        return message

    async def end(self) -> None:
        """Kill it at once, and wait for its end."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        await self._process.wait()
        await self._listening

    async def _next(self) -> FromChild:
        assert self._process.stdout is not None  # noqa: S101  # made with a pipe
        try:
            line = await self._process.stdout.readline()
        except ValueError:
            raise HelperLost("it sent an answer that is too long") from None
        if not line.endswith(b"\n"):
            raise HelperLost(await self._ending())
        try:
            return decode_from_child(line)
        except msgspec.DecodeError as error:
            raise HelperLost(f"it sent a line that is no message ({error})") from error

    async def _ending(self) -> str:
        await self.end()
        code = self._process.returncode or 0
        how = f"it was killed by signal {-code}" if code < 0 else f"it ended with exit code {code}"
        words = last_words(tuple(self._last_lines))
        return f"{how}; it last said: {words}" if words else how

    async def _listen(self) -> None:
        """Keep the last of what it prints, and log it: a child that fills its pipe would stop."""
        assert self._process.stderr is not None  # noqa: S101  # made with a pipe
        while printed := await self._process.stderr.read(LONGEST_LINE_BYTES):
            lines = [line for line in printed.decode("utf-8", "replace").splitlines() if line.strip()]
            self._last_lines = [*self._last_lines, *lines][-KEPT_LINES:]
            for line in lines:
                _log.debug(line, assistant_pid=self.pid)


def _environment() -> dict[str, str]:
    """The child's variables: no secrets, and one thread, since NumPy would keep memory ready for every core."""
    own = {name: value for name, value in os.environ.items() if not any(word in name for word in SECRET_WORDS)}
    return {**openmp_environment(own, 1), "OPENBLAS_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}


def _prefer_for_oom(pid: int) -> None:
    """When the machine is short of memory, the kernel is to take this child and not the server."""
    with suppress(OSError), open(f"/proc/{pid}/oom_score_adj", "w") as file:
        file.write(str(OOM_SCORE_ADJUSTMENT))
