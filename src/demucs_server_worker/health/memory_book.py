"""Who has how much memory, who will want more, and whether there is enough for one more. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from demucs_server_worker.health.estimate import CONVERSION_BYTES, MODELS, Estimates, may_convert
from demucs_server_worker.health.problems import SHORT_MEMORY_SHARES
from demucs_server_worker.health.readings import MachineReading, WorkerReading
from demucs_server_worker.task import Task

# A worker's limit by itself (DEMUCS_WORKER_WORKER_MEMORY=auto) is the larger of these two: so much of its share of the
# machine, and so many times what its task should take. It is there to catch what runs away; with less, tasks that are
# merely large would be stopped on machines where they fit as long as fewer run at once.
AUTO_LIMIT_SHARE = 0.9
AUTO_LIMIT_TIMES = 3
# A task's figure says nothing of its model when the worker had grown as large with the task before.
GROWTH = 1.05


@dataclass(frozen=True)
class Lack:
    """A task has to wait: bytes that it needs, and bytes that are free beside what running tasks will still take."""

    needed_bytes: int
    free_bytes: int


@dataclass
class _Entry:
    task: Task
    worker_id: str
    device: str | None
    first_bytes: int | None
    peak_bytes: int | None = None
    own_peak_bytes: int | None = None  # without children: a conversion says nothing of the next such task


class MemoryBook:
    """The books of one pool."""

    def __init__(
        self, limit: int | Literal["auto"], *, openvino: bool = False, preloaded: str | None = None
    ) -> None:  # fmt: skip
        """Open the books.

        Args:
            limit: of a worker in bytes, or `auto`.
            openvino: whether workers may compute with it, and so convert models.
            preloaded: the model that workers have ready before they take tasks.
        """
        self._limit = limit
        self._openvino = openvino
        # Of a bag of several members none is loaded before a task says which it needs.
        self._converted = {preloaded} if preloaded in MODELS and MODELS[preloaded].members == 1 else set()
        self._workers = 1
        self._estimates = Estimates(openvino=openvino)
        self._running: dict[str, _Entry] = {}
        self._readings: Mapping[str, WorkerReading] = {}
        self._machine = MachineReading()
        self._most_bytes = 0  # that there was for workers at any time, what they had themselves included

    # --- what happens ------------------------------------------------------------------------------------------------

    def take(self, readings: Mapping[str, WorkerReading], machine: MachineReading, *, workers: int) -> None:
        """Enter the latest readings, and how many workers share the machine, those not running counted."""
        self._readings, self._machine, self._workers = readings, machine, max(1, workers)
        for entry in self._running.values():
            if reading := readings.get(entry.worker_id):
                entry.peak_bytes = max(entry.peak_bytes or 0, reading.rss_bytes)
                entry.own_peak_bytes = max(entry.own_peak_bytes or 0, reading.own_bytes)
        if machine.memory_available_bytes is not None:
            own = sum(reading.rss_bytes for reading in readings.values())
            self._most_bytes = max(self._most_bytes, machine.memory_available_bytes + own)

    def begin(self, task: Task, worker_id: str, device: str | None) -> None:
        """A worker gets the task now."""
        reading = self._readings.get(worker_id)
        self._running[task.id] = _Entry(task, worker_id, device, reading.own_bytes if reading else None)

    def end(self, task_id: str, *, completed: bool) -> None:
        """The task's attempt has ended: what it took counts for those like it."""
        entry = self._running.pop(task_id, None)
        if entry is None:
            return
        options = entry.task.request.options
        if completed:
            self._converted.add(options.model)
        if entry.own_peak_bytes is None:
            return
        peak = entry.own_peak_bytes
        known = self._estimates.bytes(options, entry.device)
        if entry.first_bytes is not None and peak <= entry.first_bytes * GROWTH:
            peak = min(peak, known)
        # One that broke off may have been short of its peak, but not past it.
        if completed or peak > known:
            self._estimates.learn(options, entry.device, peak)

    # --- what is asked -----------------------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether no task runs."""
        return not self._running

    @property
    def output_dirs(self) -> set[str]:
        """The folders that running tasks write to."""
        return {entry.task.request.output_dir for entry in self._running.values()}

    def peak(self, task_id: str) -> int | None:
        """The most memory that the worker of a running task was seen with since, in bytes."""
        entry = self._running.get(task_id)
        return entry.peak_bytes if entry else None

    def limit(self, task_id: str | None) -> int | None:
        """The limit of a worker with this task, or with none, in bytes; None when there is nothing to set it by."""
        entry = self._running.get(task_id) if task_id else None
        return self._limit_for(self._estimates.of_table(entry.task.request.options, entry.device) if entry else 0)

    @staticmethod
    def weighed(reading: WorkerReading) -> int:
        """What of a worker's memory counts against its limit: all but a conversion of the usual size."""
        return reading.rss_bytes - min(reading.children_bytes, CONVERSION_BYTES)

    def _limit_for(self, estimate: int) -> int | None:
        if self._limit != "auto":
            return self._limit
        total = self._machine.memory_total_bytes
        if total is None:
            return None
        usable = int(total * AUTO_LIMIT_SHARE)
        return min(usable, max(usable // self._workers, estimate * AUTO_LIMIT_TIMES))

    def lack(self, task: Task, worker_id: str, device: str | None) -> Lack | None:
        """What is missing to start `task` on a worker; None when there is enough, or nobody can tell."""
        available = self._machine.memory_available_bytes
        if available is None:
            return None
        promised = sum(self._still_to_come(its.task, its.worker_id, its.device) for its in self._running.values())
        needed = self._still_to_come(task, worker_id, device)
        # Workers take turns at converting: however many will, the memory for it is wanted once.
        if any(self._may_convert(its.task, its.device) for its in self._running.values()):
            promised += max(0, CONVERSION_BYTES - self._converting_bytes)
        elif self._may_convert(task, device):
            needed += CONVERSION_BYTES
        free = max(0, available - promised - self._reserve)
        return Lack(needed, free) if needed > free else None

    def can_never_fit(self, task: Task, device: str | None) -> bool:
        """Whether a task should take more, even alone, than there ever was for workers: waiting would not help it."""
        conversion = CONVERSION_BYTES if self._may_convert(task, device) else 0
        return self._total_for(task, device) + conversion > self._most_bytes - self._reserve

    def _may_convert(self, task: Task, device: str | None) -> bool:
        options = task.request.options
        return self._openvino and options.model not in self._converted and may_convert(options, device)

    @property
    def _converting_bytes(self) -> int:
        """What conversions that are under way have already."""
        return sum(reading.children_bytes for reading in self._readings.values())

    @property
    def _reserve(self) -> int:
        """What is left alone, so that starting a task does not make the machine short of memory."""
        return int((self._machine.memory_total_bytes or 0) * SHORT_MEMORY_SHARES[0])

    def _still_to_come(self, task: Task, worker_id: str, device: str | None) -> int:
        """What a worker will take for a task beyond what it has already."""
        reading = self._readings.get(worker_id)
        return max(0, self._total_for(task, device) - (reading.own_bytes if reading else 0))

    def _total_for(self, task: Task, device: str | None) -> int:
        """A worker never gets past its limit, whatever its task would take."""
        estimate = self._estimates.bytes(task.request.options, device)
        limit = self._limit_for(self._estimates.of_table(task.request.options, device))
        return min(estimate, limit) if limit is not None else estimate
