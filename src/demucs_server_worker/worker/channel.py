"""The worker's end of the pipes to its pool."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from typing import IO

from demucs_server_worker.worker.messages import FromWorker, ToWorker, decode_to_worker, encode

STDIN, STDOUT, STDERR = 0, 1, 2


class Channel:
    """Messages in from standard input, messages out to the protocol pipe. `send` may be called by any thread."""

    def __init__(self, protocol_fd: int) -> None:
        """Take both pipes away from everything else in this process and its children.

        What is printed goes to standard error, whoever prints it; a child that reads its standard input finds it empty.

        Args:
            protocol_fd: the file descriptor that leads up to the pool.
        """
        self._out = os.dup(protocol_fd)
        if protocol_fd > STDERR:
            os.close(protocol_fd)
        self._in: IO[bytes] = os.fdopen(os.dup(STDIN), "rb")
        empty = os.open(os.devnull, os.O_RDONLY)
        os.dup2(empty, STDIN)
        os.close(empty)
        sys.stdout.flush()
        os.dup2(STDERR, STDOUT)
        self._lock = threading.Lock()

    def send(self, message: FromWorker) -> None:
        """Write one message, whole, before that of any other thread.

        Raises:
            BrokenPipeError: when the pool is gone.
        """
        line = memoryview(encode(message))
        with self._lock:
            while line:
                line = line[os.write(self._out, line) :]

    def messages(self) -> Iterator[ToWorker]:
        """What the pool says, until it is gone.

        Raises:
            msgspec.DecodeError: for a line that is no message.
        """
        for line in self._in:
            yield decode_to_worker(line)
