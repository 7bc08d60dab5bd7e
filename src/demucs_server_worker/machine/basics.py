"""Cores and memory, and how near the process is to its own limits."""

from __future__ import annotations

import errno
import os
import resource
from dataclasses import dataclass

import psutil

from demucs_server_worker.machine import control_group


@dataclass(frozen=True)
class Memory:
    """Memory in bytes: of the machine, or of the container's limit where that is less."""

    total: int
    available: int


def cores() -> int:
    """Cores that this process may use: a container's share may be less than the machine has."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(own, control_group.cores() or own)


def memory() -> Memory:
    """The memory there is, and what of it can be had without swapping."""
    machine = psutil.virtual_memory()
    group = control_group.memory_left()
    if group is None:
        return Memory(machine.total, machine.available)
    limit, left = group
    return Memory(min(machine.total, limit), min(machine.available, left))


def open_files() -> tuple[int, int]:
    """(open file descriptors of this process, how many it may open).

    Raises:
        OSError: they cannot be counted here.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        # The listing itself holds one of them.
        return len(os.listdir("/dev/fd")) - 1, limit
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            return limit, limit
        raise
