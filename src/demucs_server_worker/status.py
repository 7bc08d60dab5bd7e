"""The status that can be polled: queue, workers and machine as one plain dict."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from demucs_server_worker.health.readings import MachineReading, Sample, WorkerReading
from demucs_server_worker.pool.base import WorkerInfo
from demucs_server_worker.queue.reader import QueueCounts


def status_of(
    *, version: str, accepting: bool, uptime_seconds: float, counts: QueueCounts, workers: Sequence[WorkerInfo],
    sample: Sample, problems: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    """The status as `get_status` gives it, ready for JSON. Figures that nobody could read are None."""
    return {
        "version": version,
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
        "workers": [_worker(worker, sample.workers.get(worker.id)) for worker in workers],
        "machine": _machine(sample.machine),
        "health": {"ok": not problems, "problems": list(problems)},
    }


def _worker(worker: WorkerInfo, reading: WorkerReading | None) -> dict[str, Any]:
    if reading is not None and reading.pid != worker.pid:
        # Of the worker that was here before.
        reading = None
    return {
        "id": worker.id,
        "pid": worker.pid,
        "state": worker.state.value,
        "device": worker.device,
        "task_id": worker.task_id,
        "progress": round(worker.progress, 4),
        "tasks_done": worker.tasks_done,
        "restarts": worker.restarts,
        "rss_bytes": reading.rss_bytes if reading else None,
        "cpu_percent": reading.cpu_percent if reading else None,
        "uptime_seconds": round(worker.uptime_seconds, 3),
    }


def _machine(reading: MachineReading) -> dict[str, Any]:
    return {
        "cpu_percent": reading.cpu_percent,
        "memory_total_bytes": reading.memory_total_bytes,
        "memory_available_bytes": reading.memory_available_bytes,
        "disk_free_bytes": reading.disk_free_bytes,
        "gpus": [dataclasses.asdict(gpu) for gpu in reading.gpus],
    }
