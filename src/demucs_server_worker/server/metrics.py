"""What is counted for Prometheus: fed by the manager's events, by each request and by the courier of webhooks.

Names follow https://prometheus.io/docs/practices/naming/: base units, `_total` for counters. No label holds what a
client can make up without end.
"""

from __future__ import annotations

from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from demucs_server_worker.answers import ANSWERER
from demucs_server_worker.events import FINAL_KINDS, Event, EventKind
from demucs_server_worker.task import Priority, Task

PREFIX = "demucs_worker"

# Seconds: songs wait and run from a moment to hours.
_LONG = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600, 10_800)
_SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
# Seconds of work a second of audio: below 1 is faster than the music plays.
_FACTORS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2, 5, 10)

# Clients may name models on the hub; past so many, the rest are counted together.
MOST_MODELS = 20
OTHER = "other"


class _Run(NamedTuple):
    """A task that runs: since when (epoch seconds), and whether a worker has it, or it is answered at once."""

    priority: Priority
    since: float
    by_worker: bool


class Metrics:
    """All counters of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._tasks(self.registry)
        self._requests(self.registry)
        ProcessCollector(namespace=PREFIX, registry=self.registry)
        self._models: set[str] = set()
        self._queued_at: dict[str, float] = {}
        self._running: dict[str, _Run] = {}
        for priority in Priority:
            self._running_by_priority.labels(priority.value)

    def _tasks(self, registry: CollectorRegistry) -> None:
        def counter(name: str, doc: str, *labels: str) -> Counter:
            return Counter(f"{PREFIX}_{name}", doc, labels, registry=registry)

        def histogram(name: str, doc: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"{PREFIX}_{name}", doc, labels, buckets=buckets, registry=registry)

        self.submitted = counter("tasks_submitted", "Tasks that were queued by a caller, retries by callers among them",
                                 "priority")  # fmt: skip
        self.finished = counter("tasks_finished", "Tasks that reached a final state", "state", "priority")
        self._running_by_priority = Gauge(
            f"{PREFIX}_tasks_running", "Tasks that a worker has", ["priority"], registry=registry
        )
        self.cached = counter("tasks_cached", "Tasks whose stems were those of an earlier task")
        self.retries = counter("retries", "Attempts that ended in another attempt", "code")
        self.failures = counter("failures", "Tasks that failed for good", "code")
        self.wait = histogram("queue_wait_seconds", "From when a task could start to its start", _LONG, "priority")
        self.run = histogram("task_run_seconds", "One attempt of a worker, from its start to its end", _LONG, "outcome")
        self.audio = counter("audio_seconds", "Seconds of audio that were separated", "model")
        self.factor = histogram("real_time_factor", "Seconds of an attempt a second of its audio", _FACTORS, "model")

    def _requests(self, registry: CollectorRegistry) -> None:
        self.requests = Histogram(
            f"{PREFIX}_http_request_seconds", "From a request to the beginning of its answer",
            ["method", "route", "status"], buckets=_SHORT, registry=registry,
        )  # fmt: skip
        self.in_flight = Gauge(f"{PREFIX}_http_requests_in_flight", "Requests that are being answered",
                               registry=registry)  # fmt: skip
        self.received = Counter(
            f"{PREFIX}_http_received_bytes", "Bytes of requests' bodies, uploads among them", ["route"],
            registry=registry,
        )  # fmt: skip
        self.sent = Counter(f"{PREFIX}_http_sent_bytes", "Bytes of answers' bodies", ["route"], registry=registry)
        self.streams = Counter(
            f"{PREFIX}_event_streams_closed", "Streams of events that ended, by why: done, gone, stalled", ["reason"],
            registry=registry,
        )  # fmt: skip
        self.deliveries = Counter(
            f"{PREFIX}_webhook_deliveries", "Tries to tell a webhook, by how they ended: delivered, failed, given_up",
            ["result"], registry=registry,
        )  # fmt: skip
        self.delivery = Histogram(
            f"{PREFIX}_webhook_delivery_seconds", "One try to tell a webhook", buckets=_SHORT, registry=registry
        )
        for result in ("delivered", "failed", "given_up"):
            self.deliveries.labels(result)
        for reason in ("done", "gone", "stalled"):
            self.streams.labels(reason)

    # --- what is told to it -------------------------------------------------------------------------------------------

    def hear(self, event: Event) -> None:
        """Something happened."""
        task = event.task
        if task is None:
            return
        match event.kind:
            case EventKind.QUEUED:
                # One that could not be answered at once after all comes back to the queue, and nobody submitted it.
                if self._no_longer_running(task) is None:
                    self.submitted.labels(task.request.priority.value).inc()
                self._queued_at[task.id] = event.at
            case EventKind.STARTED:
                self._started(task, event.at)
            case EventKind.RETRYING:
                self.retries.labels(event.error.code if event.error else OTHER).inc()
                self._ended(task, event)
                self._queued_at[task.id] = max(event.at, task.not_before)
            case kind if kind in FINAL_KINDS:
                self._finished(task, event)

    def told(self, result: str, seconds: float) -> None:
        """A webhook was tried. See `Courier`."""
        self.deliveries.labels(result).inc()
        self.delivery.observe(seconds)

    def stream_closed(self, reason: str) -> None:
        """A stream of events ended. See `EventStreamResponse`."""
        self.streams.labels(reason).inc()

    def _started(self, task: Task, now: float) -> None:
        self._running[task.id] = _Run(task.request.priority, now, by_worker=task.worker_id != ANSWERER)
        self._running_by_priority.labels(task.request.priority.value).inc()
        # Of one that waited before this server started, only the first wait is known.
        since = self._queued_at.pop(task.id, task.created_at if task.claim == 1 else None)
        if since is not None:
            self.wait.labels(task.request.priority.value).observe(max(now - since, 0.0))

    def _no_longer_running(self, task: Task) -> _Run | None:
        """How the task ran; None when it did not."""
        run = self._running.pop(task.id, None)
        if run is not None:
            self._running_by_priority.labels(run.priority.value).dec()
        return run

    def _ended(self, task: Task, event: Event) -> float | None:
        """An attempt is over. Returns how many seconds a worker took; None when none computed it."""
        run = self._no_longer_running(task)
        # The moment that an answer with earlier stems takes says nothing about how long a song takes.
        if run is None or not run.by_worker or (event.kind is EventKind.COMPLETED and task.cached):
            return None
        seconds = max(event.at - run.since, 0.0)
        self.run.labels(event.kind.value).observe(seconds)
        return seconds

    def _finished(self, task: Task, event: Event) -> None:
        self._queued_at.pop(task.id, None)
        self.finished.labels(task.state.value, task.request.priority.value).inc()
        seconds = self._ended(task, event)
        if event.kind is EventKind.FAILED:
            self.failures.labels(event.error.code if event.error else OTHER).inc()
        if event.kind is EventKind.COMPLETED and task.cached:
            self.cached.inc()
        elif event.kind is EventKind.COMPLETED and task.duration_seconds:
            model = self._model(task)
            self.audio.labels(model).inc(task.duration_seconds)
            if seconds is not None:
                self.factor.labels(model).observe(seconds / task.duration_seconds)

    def _model(self, task: Task) -> str:
        name = task.request.options.model
        if name not in self._models and len(self._models) >= MOST_MODELS:
            return OTHER
        self._models.add(name)
        return name
