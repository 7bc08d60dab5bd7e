"""The main loop of an assistant's child: one chore after the other, until its standard input ends."""

from __future__ import annotations

import importlib
import os
import resource
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Any, NoReturn

from demucs_server_worker.assistant.messages import (
    Answer,
    Chore,
    Draw,
    FromChild,
    Probe,
    Ready,
    Reencode,
    Refused,
    decode_chore,
    encode,
)
from demucs_server_worker.errors import DemucsWorkerError
from demucs_server_worker.worker.failures import error_info
from demucs_server_worker.worker.lifeline import die_with_parent, give_way

# Chore: (module of this room, function in it).
CHORES: dict[type[Chore], tuple[str, str]] = {
    Probe: ("probing", "probe"),
    Reencode: ("reencoding", "reencode"),
    Draw: ("drawing", "draw"),
}

# Address space, most of it never touched: Python with NumPy and FFmpeg maps 0.6 GB. A header that makes a decoder ask
# for gigabytes is told that there are none, and ends this chore or this child, not the machine.
MEMORY_BYTES = 2 * 1024**3

# Before the workers, for somebody waits for its answers; after the server, who answers everybody.
NICENESS = 2

STDIN, STDOUT, STDERR = 0, 1, 2


def main() -> NoReturn:
    """Be a child of an `Assistant`; does not return."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the parent, which then ends us.
    # A service manager may send SIGTERM to all processes at once, while the server still answers.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    die_with_parent()
    give_way(NICENESS)
    _limit_resources()
    pipe = Pipe()
    importlib.import_module(_module(Probe))  # the most common one: warm before anybody waits for it
    pipe.send(Ready())
    for chore in pipe.chores():
        pipe.send(do(chore))
    sys.stderr.flush()
    os._exit(0)


def do(chore: Chore) -> Answer:
    """The answer to `chore`, whatever happens to it short of the end of this process."""
    try:
        module = importlib.import_module(_module(type(chore)))
        answer: Answer = getattr(module, CHORES[type(chore)][1])(chore)
        return answer
    except DemucsWorkerError as error:
        return Refused(error=error.info)
    except Exception as error:
        traceback.print_exc()
        return Refused(error=error_info(error, getattr(chore, "output", "")))


def _module(chore: type[Chore]) -> str:
    return f"{__package__}.{CHORES[chore][0]}"


class Pipe:
    """Chores in from standard input, answers out to what was standard output."""

    def __init__(self) -> None:
        """Take both away from everything else in this process: what is printed goes to standard error."""
        self._in: IO[bytes] = os.fdopen(os.dup(STDIN), "rb")
        self._out = os.dup(STDOUT)
        empty = os.open(os.devnull, os.O_RDONLY)
        os.dup2(empty, STDIN)
        os.close(empty)
        os.dup2(STDERR, STDOUT)

    def send(self, message: FromChild) -> None:
        """Write one message, whole; where nobody listens any more, end."""
        line = memoryview(encode(message))
        try:
            while line:
                line = line[os.write(self._out, line) :]
        except OSError:
            os._exit(1)

    def chores(self) -> Iterator[Any]:
        """What there is to do, until the parent is gone."""
        for line in self._in:
            yield decode_chore(line)


def _limit_resources() -> None:
    """No core files of other people's songs, and an end to memory. Time is the parent's to keep."""
    for kind, amount in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_AS, MEMORY_BYTES)):
        with suppress(ValueError, OSError):  # a lower limit is set already, or the system has none
            resource.setrlimit(kind, (amount, amount))
