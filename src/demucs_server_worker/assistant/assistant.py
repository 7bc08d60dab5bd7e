"""Assistant: short chores on audio, done by children that may crash, for a server that must not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import structlog

from demucs_server_worker.assistant.helper import HELPER_COMMAND, Helper, HelperLost
from demucs_server_worker.assistant.messages import Answer, Chore, Probe, Probed, Refused
from demucs_server_worker.errors import AssistantFailed, InputUnreadable, error_from
from demucs_server_worker.pool.backoff import Backoff

A = TypeVar("A", bound=Answer)

_log = structlog.get_logger("demucs_server_worker.assistant")


class Assistant:
    """Does chores in at most `size` children, each one chore at a time. They start with the first chore, stay warm,
    and are replaced when they crash, hang or swell. All methods belong to one event loop."""

    def __init__(
        self, *, size: int = 2, command: tuple[str, ...] = HELPER_COMMAND, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Args: size: most children, at least 2; command: what to start; clock: monotonic seconds."""
        self._command = command
        self._clock = clock
        self._turns = asyncio.Semaphore(size)
        self._long_turns = asyncio.Semaphore(size - 1)
        self._idle: list[Helper] = []
        self._busy: set[Helper] = set()
        self._backoff = Backoff()
        self._not_before = float("-inf")
        self._why_not = ""
        self._stopped = False

    async def probe(
        self, path: Path, name: str, *, max_file_bytes: int | None = None, max_duration_seconds: float | None = None
    ) -> Probed | None:
        """What the song at `path` says that it is; None when nobody could look (no child starts): a worker will.

        Args:
            path: the file.
            name: what errors call it.
            max_file_bytes, max_duration_seconds: limits; a length that is only guessed is no reason to refuse.

        Raises:
            InputNotFound, InputUnreadable, InputTooLarge, InputTooLong, UnsupportedFormat, NoAudio: it is hopeless;
                also when the decoder crashes or never ends on it.
        """
        chore = Probe(
            path=str(path), name=name, max_file_bytes=max_file_bytes, max_duration_seconds=max_duration_seconds
        )
        try:
            return await self.do(chore, Probed)
        except HelperLost as lost:
            _log.warning("a song took its probe down", name=name, detail=str(lost))
            raise InputUnreadable(name=name, detail="the decoder breaks down over it") from None
        except TimeoutError:
            detail = f"after {chore.deadline_seconds:g} seconds the decoder had not found its beginning"
            raise InputUnreadable(name=name, detail=detail) from None
        except AssistantFailed as error:
            _log.warning("a song was not probed", name=name, detail=str(error))
            return None

    async def do(self, chore: Chore, kind: type[A]) -> A:
        """Have a child do `chore`, when one is free.

        Args:
            chore: what to do.
            kind: its answer's type.

        Raises:
            DemucsWorkerError: what the chore raised, as the class of its code.
            HelperLost: two children died over it, one after the other.
            TimeoutError: it took longer than its deadline.
            AssistantFailed: no child can be started.
        """
        async with self._turn(chore):
            try:
                answer = await self._ask(chore)
            except HelperLost as lost:
                # It may have been killed for another's sake: for memory, or by hand. Twice in a row is no chance.
                _log.warning("assistant replaced", chore=type(chore).__name__, detail=str(lost))
                answer = await self._ask(chore)
        if isinstance(answer, Refused):
            raise error_from(answer.error)
        if not isinstance(answer, kind):
            raise HelperLost(f"it answered {type(chore).__name__} with {type(answer).__name__}")
        return answer

    async def stop(self) -> None:
        """End all children at once; chores in hand raise."""
        self._stopped = True
        helpers = [*self._idle, *self._busy]
        self._idle.clear()
        await asyncio.gather(*(helper.end() for helper in helpers))

    @asynccontextmanager
    async def _turn(self, chore: Chore) -> AsyncIterator[None]:
        """Wait for a place. Long chores never take the last one."""
        if not chore.is_long:
            async with self._turns:
                yield
            return
        async with self._long_turns, self._turns:
            yield

    async def _ask(self, chore: Chore) -> Answer:
        helper = await self._take()
        self._busy.add(helper)
        try:
            answer = await helper.ask(chore)
        except BaseException:
            # Cancelled too: the child is in the middle of a chore that nobody waits for.
            await asyncio.shield(helper.end())
            raise
        finally:
            self._busy.discard(helper)
        await self._give_back(helper)
        return answer

    async def _take(self) -> Helper:
        while self._idle:
            helper = self._idle.pop()
            if helper.is_fit:
                return helper
            await helper.end()
        return await self._start()

    async def _give_back(self, helper: Helper) -> None:
        if helper.is_fit and not self._stopped:
            self._idle.append(helper)
        else:
            await helper.end()

    async def _start(self) -> Helper:
        if self._stopped:
            raise AssistantFailed(detail="the server is stopping")
        if self._clock() < self._not_before:
            raise AssistantFailed(detail=self._why_not)
        try:
            helper = await Helper.start(self._command)
        except HelperLost as lost:
            self._why_not = str(lost)
            self._not_before = self._clock() + self._backoff.delay()
            _log.error("assistant does not start", detail=self._why_not)
            raise AssistantFailed(detail=self._why_not) from lost
        self._backoff.reset()
        return helper
