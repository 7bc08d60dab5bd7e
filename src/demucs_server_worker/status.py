"""The status that can be polled: queue, workers and machine as one plain dict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil

from demucs_server_worker.pool.base import WorkerInfo
from demucs_server_worker.queue.reader import QueueCounts


class Status:
    """Puts the status together. Keeps each worker's process at hand: its CPU share is counted between two looks."""

    def __init__(self, version: str, data_dir: Path) -> None:
        """Args: version: of this package; data_dir: the folder whose disk is reported."""
        self._version = version
        self._data_dir = data_dir
        self._processes: dict[int, psutil.Process] = {}

    def snapshot(
        self, *, accepting: bool, uptime_seconds: float, counts: QueueCounts, workers: list[WorkerInfo]
    ) -> dict[str, Any]:
        """The status as `get_status` gives it, ready for JSON."""
        problems = [f"{worker.id} does not start: {worker.problem}" for worker in workers if worker.problem]
        self._forget_the_dead({worker.pid for worker in workers})
        return {
            "version": self._version,
            "uptime_seconds": round(uptime_seconds, 3),
            "accepting": accepting,
            "queue": {
                "queued": counts.queued,
                "running": counts.running,
                "by_priority": {priority.value: count for priority, count in counts.by_priority.items()},
            },
            "totals": {
                "completed": counts.completed,
                "failed": counts.failed,
                "cancelled": counts.cancelled,
                "retried": counts.retried,
            },
            "workers": [self._worker(worker) for worker in workers],
            "machine": self._machine(),
            "health": {"ok": not problems, "problems": problems},
        }

    def _worker(self, worker: WorkerInfo) -> dict[str, Any]:
        rss_bytes, cpu_percent = self._measure(worker.pid)
        return {
            "id": worker.id,
            "pid": worker.pid,
            "state": worker.state.value,
            "device": worker.device,
            "task_id": worker.task_id,
            "progress": round(worker.progress, 4),
            "tasks_done": worker.tasks_done,
            "restarts": worker.restarts,
            "rss_bytes": rss_bytes,
            "cpu_percent": cpu_percent,
            "uptime_seconds": round(worker.uptime_seconds, 3),
        }

    def _measure(self, pid: int | None) -> tuple[int | None, float | None]:
        if pid is None:
            return None, None
        try:
            process = self._processes.setdefault(pid, psutil.Process(pid))
            return process.memory_info().rss, process.cpu_percent()
        except psutil.Error:
            return None, None

    def _forget_the_dead(self, alive: set[int | None]) -> None:
        for pid in self._processes.keys() - alive:
            del self._processes[pid]

    def _machine(self) -> dict[str, Any]:
        memory = psutil.virtual_memory()
        return {
            "cpu_percent": psutil.cpu_percent(),
            "memory_total_bytes": memory.total,
            "memory_available_bytes": memory.available,
            "disk_free_bytes": psutil.disk_usage(str(self._data_dir)).free,
            "gpus": [],
        }
