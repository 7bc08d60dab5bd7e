"""The state of the server as HTTP shows it: `get_status()` in camelCase."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from demucs_server_worker.wire.base import Shape
from demucs_server_worker.wire.redaction import without_paths


class PriorityCounts(Shape):
    """Waiting tasks by priority."""

    high: int
    normal: int
    low: int


class QueueBody(Shape):
    """What waits and runs."""

    queued: int
    running: int
    by_priority: PriorityCounts


class TotalsBody(Shape):
    """What has been, since the data folder was made."""

    completed: int
    failed: int
    cancelled: int
    retried: int = Field(description="attempts that ended in another attempt")


class WorkerBody(Shape):
    """One worker. Figures that nobody could read are null."""

    id: str = Field(examples=["worker-1"])
    pid: int | None
    state: Literal["starting", "idle", "busy", "stopping", "dead"]
    device: str | None = Field(examples=["cpu"])
    task_id: str | None
    progress: float = Field(ge=0, le=1)
    tasks_done: int
    restarts: int
    rss_bytes: int | None
    cpu_percent: float | None = Field(description="100 is one core")
    uptime_seconds: float


class GpuBody(Shape):
    """One NVIDIA GPU."""

    name: str
    memory_total_bytes: int | None
    memory_used_bytes: int | None
    utilization_percent: float | None


class MachineBody(Shape):
    """The machine. Figures that nobody could read are null."""

    cpu_percent: float | None
    memory_total_bytes: int | None
    memory_available_bytes: int | None
    disk_free_bytes: int | None
    gpus: tuple[GpuBody, ...]


class HealthBody(Shape):
    """Whether all is well, and in words what is not."""

    ok: bool
    problems: tuple[str, ...]


class StatusBody(Shape):
    """The state of the server."""

    version: str
    uptime_seconds: float
    accepting: bool = Field(description="whether new tasks are taken")
    queue: QueueBody
    totals: TotalsBody
    workers: tuple[WorkerBody, ...]
    machine: MachineBody
    health: HealthBody


def status_body(status: Mapping[str, Any]) -> StatusBody:
    """What `get_status` gives, for an HTTP client: without paths of the server."""
    problems = [without_paths(problem) for problem in status["health"]["problems"]]
    return StatusBody.model_validate({**status, "health": {**status["health"], "problems": problems}})


class Alive(Shape):
    """The server lives."""

    status: Literal["alive"] = "alive"


class Ready(Shape):
    """The server can work."""

    status: Literal["ready"] = "ready"
    workers: int = Field(description="how many workers are up", examples=[2])
