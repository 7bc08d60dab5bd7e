"""What is wrong, in words. Pure: figures in, sentences out; the only memory is what keeps them from wavering."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from demucs_server_worker.health.readings import MachineReading, size_in_words
from demucs_server_worker.pool.base import WorkerInfo, WorkerState

# Each pair: where a problem begins, and how far back the figure must go before it is over.
SHORT_MEMORY_SHARES = (0.05, 0.08)  # of the machine's memory, available
FULL_DISK_BYTES = (1_000_000_000, 1_500_000_000)  # free
MANY_FILES_SHARES = (0.9, 0.8)  # of the descriptors that the process may open, in use
FULL_QUEUE_SHARES = (0.9, 0.8)  # of DEMUCS_WORKER_MAX_QUEUED, queued

# Workers take seconds to start, at first and after a crash. Only past this is it a problem that none is ready.
NO_WORKER_SECONDS = 30.0
# A problem that comes and goes is told once: it counts as over when it has stayed away for as long as this.
OVER_SECONDS = 10.0

Problems = dict[str, str]
"""Sentences, by keys that stay the same while the figures in the sentences change."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is judged.

    Attributes:
        now: monotonic seconds.
        machine: the latest reading.
        workers: as the pool knows them.
        queued, max_queued: tasks that wait, and how many may.
        reported: problems that others have found, by their keys.
    """

    now: float
    machine: MachineReading
    workers: Sequence[WorkerInfo]
    queued: int = 0
    max_queued: int = 10_000
    reported: Mapping[str, str] = field(default_factory=dict)


class Judge:
    """Finds the problems in one set of facts after the other."""

    def __init__(self) -> None:
        self._beyond: set[str] = set()
        self._none_ready_since: float | None = None

    def __call__(self, facts: Facts) -> Problems:
        """The problems there are, the gravest first."""
        return {
            **_broken_workers(facts.workers),
            **self._no_worker(facts),
            **facts.reported,
            **self._memory(facts.machine),
            **self._disks(facts.machine),
            **self._files(facts.machine),
            **self._queue(facts),
        }

    def _no_worker(self, facts: Facts) -> Problems:
        ready = any(worker.state in (WorkerState.IDLE, WorkerState.BUSY) for worker in facts.workers)
        if ready or not facts.queued:
            self._none_ready_since = None
            return {}
        if self._none_ready_since is None:
            self._none_ready_since = facts.now
        if facts.now - self._none_ready_since < NO_WORKER_SECONDS:
            return {}
        return {"no worker": f"No worker is ready, and {facts.queued} tasks wait."}

    def _memory(self, machine: MachineReading) -> Problems:
        total, available = machine.memory_total_bytes, machine.memory_available_bytes
        if not total or available is None or not self._falls_below("memory", available / total, SHORT_MEMORY_SHARES):
            return {}
        figures = f"{size_in_words(available)} of {size_in_words(total)} are left"
        return {"memory": f"The machine is short of memory: {figures}. Lower MAX_WORKERS, or end other programs."}

    def _disks(self, machine: MachineReading) -> Problems:
        found = {}
        disks = {"the data folder": machine.disk_free_bytes, **machine.folders_free_bytes}
        for place, free in disks.items():
            if free is not None and self._falls_below(f"disk {place}", free, FULL_DISK_BYTES):
                found[f"disk {place}"] = f"The disk of {place} is nearly full: {size_in_words(free)} are left."
        return found

    def _files(self, machine: MachineReading) -> Problems:
        used, limit = machine.open_files, machine.open_files_limit
        if used is None or not limit or not self._rises_above("files", used / limit, MANY_FILES_SHARES):
            return {}
        return {"files": f"{used} of the {limit} files that this process may open are open. Raise `ulimit -n`."}

    def _queue(self, facts: Facts) -> Problems:
        if not self._rises_above("queue", facts.queued / facts.max_queued, FULL_QUEUE_SHARES):
            return {}
        words = f"{facts.queued} tasks wait, of the {facts.max_queued} that DEMUCS_WORKER_MAX_QUEUED allows"
        return {"queue": f"The queue is nearly full: {words}."}

    def _falls_below(self, key: str, value: float, limits: tuple[float, float]) -> bool:
        return self._rises_above(key, -value, (-limits[0], -limits[1]))

    def _rises_above(self, key: str, value: float, limits: tuple[float, float]) -> bool:
        """Whether `value` is beyond the first limit, or was and is not back behind the second."""
        begins, ends = limits
        if value >= begins or (key in self._beyond and value > ends):
            self._beyond.add(key)
            return True
        self._beyond.discard(key)
        return False


class Announcer:
    """Decides when the set of problems has changed enough to tell everyone."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._gone_since: dict[str, float] = {}

    def has_changed(self, problems: Problems, now: float) -> bool:
        """Whether there is a problem that was not told yet, or one that was told has stayed away for long enough."""
        news = problems.keys() - self._told
        self._gone_since = {key: self._gone_since.get(key, now) for key in self._told - problems.keys()}
        over = {key for key, since in self._gone_since.items() if now - since >= OVER_SECONDS}
        self._told = (self._told | news) - over
        return bool(news or over)


def _broken_workers(workers: Sequence[WorkerInfo]) -> Problems:
    return {
        f"start of {worker.id}": f"{worker.id} does not start: {worker.problem}" for worker in workers if worker.problem
    }
