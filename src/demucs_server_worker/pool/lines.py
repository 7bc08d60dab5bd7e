"""Splits what comes up a pipe into lines, whatever the process at its other end writes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class LineReader(asyncio.Protocol):
    """Reads a pipe: calls `on_line` with each line, without its newline, as soon as it is whole.

    A line longer than `longest` bytes is handed to `on_line` in pieces, unless `on_overflow` is given: then that is
    called instead, and the rest of the pipe is read and dropped, so that its writer never blocks on us.
    """

    def __init__(
        self, on_line: Callable[[bytes], None], *, longest: int, on_overflow: Callable[[], None] | None = None
    ) -> None:
        """Args: on_line: takes a line; longest: bytes of a line; on_overflow: called once for a longer one."""
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._on_line = on_line
        self._on_overflow = on_overflow
        self._longest = longest
        self._rest = b""
        self._dropping = False

    def data_received(self, data: bytes) -> None:
        if self._dropping:
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(line)
        if len(self._rest) > self._longest:
            piece, self._rest = self._rest, b""
            self._take(piece)

    def _take(self, line: bytes) -> None:
        if len(line) <= self._longest:
            self._on_line(line)
        elif self._on_overflow is None:
            for start in range(0, len(line), self._longest):
                self._on_line(line[start : start + self._longest])
        elif not self._dropping:
            self._dropping = True
            self._on_overflow()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._rest and not self._dropping:
            self._take(self._rest)
        if not self.ended.done():
            self.ended.set_result(None)
