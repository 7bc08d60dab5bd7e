"""What ties a worker to its parent, which it must never outlive, nor keep from answering."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies, where it can (Linux).

    The end of standard input says the same on every system, but is read by a thread, which a SIGSTOP, or a native
    call that hangs with Python's lock held, keeps from running. SIGKILL leaves children behind, where the end of
    standard input would not: a separation starts none, and a worker that hangs holds gigabytes.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def end_with_children() -> NoReturn:
    """The parent is gone: end at once and take every child along, with no clean-up that could hang.

    A worker that was started by hand leads no process group, and ends alone.
    """
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def give_way(niceness: int) -> None:
    """Let processes of a lower niceness go first where all want the processor: the server answers in milliseconds, what
    it started works for seconds. With nobody else about, it costs nothing."""
    with suppress(OSError):
        os.nice(niceness)
    with suppress(OSError):
        # Where the kernel shares by sessions (sched(7), autogroup), niceness alone counts only within this one.
        Path("/proc/self/autogroup").write_text(str(niceness))
