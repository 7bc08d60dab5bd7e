"""Takes the readings. Blocking, though short: the monitor calls it on a thread of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

import psutil

from demucs_server_worker.health.readings import MachineReading, WorkerReading
from demucs_server_worker.machine import basics
from demucs_server_worker.machine.gpus import Gpus

T = TypeVar("T")

Readings = tuple[dict[str, WorkerReading], MachineReading]
Sampler = Callable[[Mapping[str, int], Collection[str]], Readings]


class SystemSampler:
    """Reads processes and machine through psutil and NVML. What cannot be read is left out, and never raised."""

    def __init__(self, data_dir: Path, gpus: Gpus) -> None:
        """Args: data_dir: the folder whose disk is watched; gpus: those to read."""
        self._data_dir = data_dir
        self._gpus = gpus
        # Kept from look to look: psutil counts a process's share of the CPU between two looks at the same object.
        self._processes: dict[int, psutil.Process] = {}

    def __call__(self, pids: Mapping[str, int], folders: Collection[str]) -> Readings:
        """Take all readings.

        Args:
            pids: the workers' process ids, by the workers' ids; each leads a process group.
            folders: that running tasks write to.
        """
        families = _families(set(pids.values()))
        readings = {worker: self._worker(pid, families[pid]) for worker, pid in pids.items()}
        for gone in self._processes.keys() - set().union(*families.values()):
            del self._processes[gone]
        return {worker: reading for worker, reading in readings.items() if reading}, self._machine(folders)

    def _worker(self, leader: int, family: set[int]) -> WorkerReading | None:
        """The sum over a process group, or None when there is no process of it any more."""
        figures = {pid: figure for pid in family if (figure := self._process(pid)) is not None}
        if not figures:
            return None
        cpu = [share for _, share in figures.values() if share is not None]
        children = sum(rss for pid, (rss, _) in figures.items() if pid != leader)
        total = sum(rss for rss, _ in figures.values())
        return WorkerReading(leader, total, sum(cpu) if cpu else None, children)

    def _process(self, pid: int) -> tuple[int, float | None] | None:
        try:
            known = self._processes.get(pid)
            process = known or self._processes.setdefault(pid, psutil.Process(pid))
            with process.oneshot():
                share = process.cpu_percent()
                return process.memory_info().rss, share if known else None
        except (psutil.Error, OSError):
            return None

    def _machine(self, folders: Collection[str]) -> MachineReading:
        memory = _try(basics.memory)
        files = _try(basics.open_files)
        free = {folder: _try(partial(_disk_free, Path(folder))) for folder in folders}
        return MachineReading(
            cpu_percent=_try(psutil.cpu_percent),
            memory_total_bytes=memory.total if memory else None,
            memory_available_bytes=memory.available if memory else None,
            disk_free_bytes=_try(partial(_disk_free, self._data_dir)),
            folders_free_bytes={folder: size for folder, size in free.items() if size is not None},
            gpus=self._gpus.read(),
            open_files=files[0] if files else None,
            open_files_limit=files[1] if files else None,
        )


def _families(leaders: set[int]) -> dict[int, set[int]]:
    """The processes in each leader's group: those that would be killed with it."""
    families: dict[int, set[int]] = {leader: {leader} for leader in leaders}
    if not leaders:
        return families
    for pid in _try(psutil.pids) or []:
        try:
            group = os.getpgid(pid)
        except OSError:
            continue
        if group in families:
            families[group].add(pid)
    return families


def _disk_free(folder: Path) -> int:
    """Free bytes where the folder is, or where it would be made."""
    existing = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    return psutil.disk_usage(str(existing)).free


def _try(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except (psutil.Error, OSError, RuntimeError, ValueError):
        return None
