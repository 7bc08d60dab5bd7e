"""Evidence that the kernel killed a process for memory: its counters of such kills, and how short memory is now."""

from __future__ import annotations

import re
from pathlib import Path

import psutil

# Below this part of the machine's memory, a SIGKILL that nobody here sent is put down to memory.
SHORT_MEMORY_SHARE = 0.03

_COUNTER = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


def oom_kills() -> int:
    """How many processes the kernel has killed for memory, in this control group where it can be told, else anywhere.

    Only a rise between two calls means something. 0 where there is no such counter (not Linux).
    """
    for source in _sources():
        try:
            found = _COUNTER.search(source.read_text())
        except OSError:
            continue
        if found:
            return int(found[1])
    return 0


def is_short() -> bool:
    """Whether the machine has next to no memory left."""
    memory = psutil.virtual_memory()
    return bool(memory.available < memory.total * SHORT_MEMORY_SHARE)


def _sources() -> list[Path]:
    """Where the counter can stand: control groups v2 and v1, each as seen from the host and from inside a container,
    and the whole machine."""
    root = Path("/sys/fs/cgroup")
    sources = []
    for line in _own_groups():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            sources += [root / path.lstrip("/") / "memory.events", root / "memory.events"]
        elif "memory" in controllers.split(","):
            sources += [root / "memory" / path.lstrip("/") / "memory.oom_control"]
            sources += [root / "memory" / "memory.oom_control"]
    return [*sources, Path("/proc/vmstat")]


def _own_groups() -> list[str]:
    try:
        return Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
