"""Tasks as the routes answer with them."""

from __future__ import annotations

from demucs_server_worker.server.services import Services
from demucs_server_worker.task import Task, TaskState
from demucs_server_worker.wire.task import API, TaskBody, task_body


def body_of(services: Services, task: Task) -> TaskBody:
    """The task for an HTTP client, with its place in the queue and the time that it will take."""
    manager = services.manager
    position = manager.queue_position(task.id) if task.state is TaskState.QUEUED else None
    return task_body(task, eta_seconds=manager.eta_seconds(task.id), queue_position=position, remote=True)


def location_of(task: Task) -> dict[str, str]:
    """The header that tells where a task is found."""
    return {"Location": f"{API}/tasks/{task.id}"}
