"""The limits of a container: what Linux control groups, version 2 or 1, allow this process. Nothing elsewhere."""

from __future__ import annotations

import math
import re
from pathlib import Path

from psutil import virtual_memory

ROOT = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")

_INACTIVE_FILE = re.compile(r"^(?:total_)?inactive_file (\d+)$", re.MULTILINE)


def memory_left(root: Path = ROOT, own_groups: Path = OWN_GROUPS) -> tuple[int, int] | None:
    """The tightest memory limit above this process, and what is left of it.

    Args:
        root: where the control groups are mounted.
        own_groups: the file that names the groups of this process.

    Returns:
        (limit, left) in bytes; None without a limit. Files that the kernel only caches, and gives up when memory is
        wanted, count as left.
    """
    limits = [
        (limit, max(0, limit - max(0, used - _inactive_file(folder))))
        for folder, prefix in _folders("memory", root, own_groups)
        if (limit := _number(folder / ("memory.max" if prefix else "memory.limit_in_bytes"))) is not None
        and (used := _number(folder / ("memory.current" if prefix else "memory.usage_in_bytes"))) is not None
        and limit < virtual_memory().total  # version 1 says "none" with a number past any memory
    ]
    return min(limits, key=lambda pair: pair[1]) if limits else None


def cores(root: Path = ROOT, own_groups: Path = OWN_GROUPS) -> int | None:
    """The cores' worth of time that the groups of this process may use, rounded up; None without a limit."""
    quotas = []
    for folder, is_v2 in _folders("cpu", root, own_groups):
        if is_v2:
            quota, _, period = _text(folder / "cpu.max").partition(" ")
        else:
            quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period):
            quotas.append(max(1, math.ceil(int(quota) / int(period))))
    return min(quotas, default=None)


def _folders(controller: str, root: Path, own_groups: Path) -> list[tuple[Path, bool]]:
    """(folder, is version 2) of each group of this process that `controller` can limit, up to the outermost."""
    found = []
    for line in _text(own_groups).splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")
        if not controllers:
            top, is_v2 = root, True
        elif controller in controllers.split(","):
            top, is_v2 = root / controllers, False
        else:
            continue
        group = top / path.strip("/")
        # Inside a container the path may be the host's, which is not mounted there: its own group is the top one.
        found += [(folder, is_v2) for folder in (group, *group.parents) if folder == top or top in folder.parents]
    return found


def _inactive_file(folder: Path) -> int:
    found = _INACTIVE_FILE.findall(_text(folder / "memory.stat"))
    return int(found[-1]) if found else 0


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
