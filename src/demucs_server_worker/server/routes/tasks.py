"""Tasks: the list, one of them, and what can be done with it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from demucs_server_worker.errors import IllegalTransition, ShuttingDown, TaskNotFound
from demucs_server_worker.server.bodies import body_of, location_of
from demucs_server_worker.server.openapi import refusals
from demucs_server_worker.server.services import Given
from demucs_server_worker.task import TaskState
from demucs_server_worker.wire.task import TaskBody, TaskPage

router = APIRouter(tags=["tasks"])

TaskId = Annotated[str, Path(description="the task's id")]
"""The parameter `task_id` of a route."""

# A page of the longest tasks stays below a few megabytes.
MOST_TASKS = 500
_NEWEST = 2**63 - 1

_UNKNOWN = TaskNotFound(task_id="0b9e1c6e5a634d2c9a6f5f0c2d1e4f7a")
_ENDED = IllegalTransition(task_id="0b9e1c6e5a634d2c9a6f5f0c2d1e4f7a", state="completed", verb="cancelled")


@router.get("/tasks", summary="List tasks, newest first", response_model=TaskPage)
async def list_tasks(
    services: Given,
    state: Annotated[TaskState | None, Query(description="only tasks in this state")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_TASKS, description="most tasks to give")] = 100,
    cursor: Annotated[int | None, Query(ge=0, le=_NEWEST, description="`cursor` of the page before")] = None,
) -> Response:
    """What is added while a client turns the pages does not shift them."""
    return Response(await services.listing.page(state, limit=limit, cursor=cursor), media_type="application/json")


@router.get("/tasks/{task_id}", summary="One task, as it is now", responses=refusals(_UNKNOWN))
async def get_task(task_id: TaskId, services: Given) -> TaskBody:
    """With the progress of its running attempt."""
    return body_of(services, services.manager.get_task(task_id))


@router.post("/tasks/{task_id}/cancel", summary="Cancel a task", responses=refusals(_UNKNOWN, _ENDED))
async def cancel_task(task_id: TaskId, services: Given) -> TaskBody:
    """Queued or running; answers once its worker is free of it."""
    return body_of(services, await services.manager.cancel(task_id))


@router.post(
    "/tasks/{task_id}/retry", summary="Queue a failed or cancelled task again", status_code=202,
    responses=refusals(_UNKNOWN, _ENDED, ShuttingDown()),
)  # fmt: skip
async def retry_task(task_id: TaskId, services: Given, response: Response) -> TaskBody:
    """With a fresh count of attempts."""
    task = await services.manager.retry(task_id)
    response.headers.update(location_of(task))
    return body_of(services, task)
