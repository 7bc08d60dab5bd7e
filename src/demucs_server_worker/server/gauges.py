"""What Prometheus reads off the server at the moment it asks."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from demucs_server_worker.pool.base import WorkerState
from demucs_server_worker.server.metrics import PREFIX


class StatusCollector(Collector):
    """The figures of `get_status()`, and of what the server keeps beside the manager."""

    def __init__(self, status: Callable[[], Mapping[str, Any]], beside: Mapping[str, Callable[[], float]]) -> None:
        """Args: status: gives what `get_status()` does; beside: `event_listeners` and `webhook_pending`."""
        self._status = status
        self._beside = beside

    def collect(self) -> Iterator[Metric]:
        """All families, now."""
        status = self._status()
        yield from _server(status)
        yield from _queue(status["queue"], status["totals"])
        yield from _workers(status["workers"])
        yield from _machine(status["machine"])
        yield _gauge("event_listeners", "Clients that wait for events", self._beside["event_listeners"]())
        yield _gauge("webhook_pending", "Deliveries that webhooks have not taken", self._beside["webhook_pending"]())


def _server(status: Mapping[str, Any]) -> Iterator[Metric]:
    build = GaugeMetricFamily(f"{PREFIX}_build_info", "What runs; always 1", labels=["version", "python"])
    build.add_metric([status["version"], platform.python_version()], 1)
    yield build
    began = time.time() - status["uptime_seconds"]
    yield _gauge("start_time_seconds", "When the worker manager started, in epoch seconds", round(began, 1))
    yield _gauge("accepting", "1 while new tasks are taken", status["accepting"])
    yield _gauge("healthy", "1 while the status names no problem", status["health"]["ok"])
    yield _gauge("health_problems", "Problems that the status names", len(status["health"]["problems"]))


def _queue(queue: Mapping[str, Any], totals: Mapping[str, int]) -> Iterator[Metric]:
    queued = GaugeMetricFamily(f"{PREFIX}_tasks_queued", "Tasks that wait", labels=["priority"])
    for priority, count in queue["by_priority"].items():
        queued.add_metric([priority], count)
    yield queued
    tasks = GaugeMetricFamily(
        f"{PREFIX}_tasks",
        "Tasks in the queue's database by state, deleted ones among those that ended",
        labels=["state"],
    )
    for state in ("queued", "running"):
        tasks.add_metric([state], queue[state])
    for state in ("completed", "failed", "cancelled"):
        tasks.add_metric([state], totals[state])
    yield tasks


def _workers(workers: list[Mapping[str, Any]]) -> Iterator[Metric]:
    states = GaugeMetricFamily(f"{PREFIX}_workers", "Workers by state", labels=["state"])
    for state in WorkerState:
        states.add_metric([state.value], sum(worker["state"] == state.value for worker in workers))
    yield states
    cpu = GaugeMetricFamily(f"{PREFIX}_worker_cpu_ratio", "Cores that a worker keeps busy", labels=["worker"])
    memory = GaugeMetricFamily(f"{PREFIX}_worker_memory_bytes", "Resident memory of a worker", labels=["worker"])
    busy = GaugeMetricFamily(f"{PREFIX}_worker_busy", "1 while a worker has a task", labels=["worker"])
    done = CounterMetricFamily(f"{PREFIX}_worker_tasks_done", "Tasks that a worker completed", labels=["worker"])
    restarts = CounterMetricFamily(f"{PREFIX}_worker_restarts", "How often a worker was replaced", labels=["worker"])
    for worker in workers:
        if worker["cpu_percent"] is not None:
            cpu.add_metric([worker["id"]], worker["cpu_percent"] / 100)
        if worker["rss_bytes"] is not None:
            memory.add_metric([worker["id"]], worker["rss_bytes"])
        busy.add_metric([worker["id"]], worker["state"] == WorkerState.BUSY)
        done.add_metric([worker["id"]], worker["tasks_done"])
        restarts.add_metric([worker["id"]], worker["restarts"])
    yield from (cpu, memory, busy, done, restarts)


def _machine(machine: Mapping[str, Any]) -> Iterator[Metric]:
    if machine["cpu_percent"] is not None:
        yield _gauge("machine_cpu_ratio", "Part of all cores that is busy", machine["cpu_percent"] / 100)
    for key, name, doc in (
        ("memory_total_bytes", "machine_memory_bytes", "Memory that the machine or its container has"),
        ("memory_available_bytes", "machine_memory_available_bytes", "Memory that is free or can be freed"),
        ("disk_free_bytes", "machine_disk_free_bytes", "Free on the disk of the data folder"),
    ):
        if machine[key] is not None:
            yield _gauge(name, doc, machine[key])
    yield from _gpus(machine["gpus"])


def _gpus(gpus: list[Mapping[str, Any]]) -> Iterator[Metric]:
    labels = ["gpu", "name"]
    total = GaugeMetricFamily(f"{PREFIX}_gpu_memory_bytes", "Memory of a GPU", labels=labels)
    used = GaugeMetricFamily(f"{PREFIX}_gpu_memory_used_bytes", "Memory of a GPU that is in use", labels=labels)
    load = GaugeMetricFamily(f"{PREFIX}_gpu_utilization_ratio", "Part of the time that a GPU computes", labels=labels)
    for number, gpu in enumerate(gpus):
        values = ((total, gpu["memory_total_bytes"], 1), (used, gpu["memory_used_bytes"], 1),
                  (load, gpu["utilization_percent"], 100))  # fmt: skip
        for family, value, scale in values:
            if value is not None:
                family.add_metric([str(number), gpu["name"]], value / scale)
    yield from (total, used, load)


def _gauge(name: str, doc: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", doc, value=float(value))
