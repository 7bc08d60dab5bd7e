"""What was measured, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from demucs_server_worker.machine.gpus import Gpu


@dataclass(frozen=True)
class WorkerReading:
    """A worker's process and its children: resident memory, and CPU in percent of one core since the last reading.

    `cpu_percent` is None at the first reading of a process. Of the memory, `children_bytes` are its children's: a child
    is what converts a model.
    """

    pid: int
    rss_bytes: int
    cpu_percent: float | None
    children_bytes: int = 0

    @property
    def own_bytes(self) -> int:
        """What the process has by itself."""
        return self.rss_bytes - self.children_bytes


@dataclass(frozen=True, kw_only=True)
class MachineReading:
    """The machine, as far as a container's limits let us have it; None where it cannot be told.

    Attributes:
        cpu_percent: of all cores, since the last reading.
        memory_total_bytes, memory_available_bytes: as `machine.basics.Memory`.
        disk_free_bytes: on the disk of the data folder.
        folders_free_bytes: on the disks of the folders that running tasks write to, by folder.
        gpus: those that workers can compute on.
        open_files, open_files_limit: descriptors of the manager's process.
    """

    cpu_percent: float | None = None
    memory_total_bytes: int | None = None
    memory_available_bytes: int | None = None
    disk_free_bytes: int | None = None
    folders_free_bytes: Mapping[str, int] = field(default_factory=dict)
    gpus: tuple[Gpu, ...] = ()
    open_files: int | None = None
    open_files_limit: int | None = None


@dataclass(frozen=True)
class Sample:
    """All readings of one moment. `at` is in monotonic seconds; `workers` goes by the workers' ids."""

    at: float
    workers: Mapping[str, WorkerReading]
    machine: MachineReading


def size_in_words(size_bytes: float) -> str:
    """A size for people: `1.5 GB`, `150 MB`."""
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.0f} MB"
