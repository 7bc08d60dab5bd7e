"""The one thread that owns the queue: SQLite's connection belongs to it, and it waits for the disk so that no other
does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from demucs_server_worker.errors import ShuttingDown

P = ParamSpec("P")
T = TypeVar("T")


class QueueThread:
    """Carries out verbs of the queue, one after the other."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "queue")

    async def run(self, verb: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a verb and give what it gives. Once begun it is carried out, cancelled or not.

        Raises:
            ShuttingDown: the thread has ended.
        """
        return await asyncio.wrap_future(self.submit(verb, *args, **kwargs))

    def submit(self, verb: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As `run`, for a caller who does not wait."""
        try:
            return self._thread.submit(verb, *args, **kwargs)
        except RuntimeError:
            raise ShuttingDown from None

    def shutdown(self) -> None:
        """End it, once what was asked for is done."""
        self._thread.shutdown()
