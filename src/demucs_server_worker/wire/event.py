"""An event as Server-Sent Events and webhooks tell it."""

from __future__ import annotations

from pydantic import Field

from demucs_server_worker.events import Event, EventKind
from demucs_server_worker.wire.base import Moment, Shape, moment
from demucs_server_worker.wire.problem import ErrorBody, error_body
from demucs_server_worker.wire.redaction import without_paths
from demucs_server_worker.wire.task import TaskBody, task_body


class EventBody(Shape):
    """One event."""

    event: EventKind = Field(description="what happened")
    at: Moment
    task_id: str | None = Field(default=None, description="the task it is about")
    task: TaskBody | None = Field(default=None, description="that task as it is after the event")
    worker_id: str | None = Field(default=None, description="the worker it is about")
    error: ErrorBody | None = Field(default=None, description="why, for retrying and failed")
    detail: str | None = Field(default=None, description="a sentence, for events of workers and of the server's health")


def event_body(event: Event, *, queue_position: int | None = None) -> EventBody:
    """The event for an HTTP client."""
    task = None
    if event.task is not None:
        task = task_body(event.task, eta_seconds=event.eta_seconds, queue_position=queue_position, remote=True)
    # The task's own error has lost the server's paths where the client may not know them.
    redacted = task.error if task is not None and event.error is not None and task.error is not None else None
    when = moment(event.at)
    assert when is not None  # noqa: S101 - every event has a time
    return EventBody(
        event=event.kind, at=when, task_id=event.task_id, task=task, worker_id=event.worker_id,
        error=redacted or error_body(event.error), detail=None if event.detail is None else without_paths(event.detail),
    )  # fmt: skip
