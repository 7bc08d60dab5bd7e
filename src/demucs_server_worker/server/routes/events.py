"""What happens, as Server-Sent Events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response

from demucs_server_worker.errors import ShuttingDown, TaskNotFound
from demucs_server_worker.server.openapi import Responses, refusals
from demucs_server_worker.server.routes.tasks import TaskId
from demucs_server_worker.server.services import Given, Services
from demucs_server_worker.server.sse import MEDIA_TYPE, EventStreamResponse

router = APIRouter(tags=["events"])

_AFTER = (
    "resume after this event; an id of an earlier life of the server, or one too old, gives the present state instead"
)
LastId = Annotated[str | None, Header(alias="Last-Event-ID", max_length=100, description=_AFTER)]
LastIdAsked = Annotated[
    str | None, Query(alias="lastEventId", max_length=100, description="the same, for clients that cannot set a header")
]

_EXAMPLE = (
    'event: progress\ndata: {"event":"progress","at":"2026-05-01T12:00:00.000Z","taskId":"0b9e1c6e","task":{…}}\n'
    "id: 5f0c2d1e-42\n\n"
)
_STREAM: dict[str, Any] = {
    "description": "The stream. Each event's data is an EventBody; comments are heartbeats",
    "content": {MEDIA_TYPE: {"schema": {"type": "string"}, "example": _EXAMPLE}},
}
_NOTHING_MORE: Responses = {204: {"description": "The task's final event is the one that the client resumes after"}}
_UNKNOWN = TaskNotFound(task_id="0b9e1c6e5a634d2c9a6f5f0c2d1e4f7a")


@router.get(
    "/events", summary="Follow everything", response_class=EventStreamResponse, status_code=200,
    responses={200: _STREAM, **refusals(ShuttingDown())},
)  # fmt: skip
async def all_events(services: Given, last_id: LastId = None, last_id_asked: LastIdAsked = None) -> Response:
    """What happens to tasks and workers, from now on or from `Last-Event-ID` on."""
    return _answer(services, services.feed.of_all(last_id or last_id_asked))


@router.get(
    "/tasks/{task_id}/events", summary="Follow one task", response_class=EventStreamResponse, status_code=200,
    responses={200: _STREAM, **_NOTHING_MORE, **refusals(_UNKNOWN, ShuttingDown())},
)  # fmt: skip
async def task_events(
    task_id: TaskId, services: Given, last_id: LastId = None, last_id_asked: LastIdAsked = None
) -> Response:
    """Its present state first, then what happens to it; the stream ends with its final event."""
    frames = services.feed.of_task(task_id, last_id or last_id_asked)
    # A browser opens a stream that has ended again, unless it is told that there is nothing more.
    return Response(status_code=204) if frames is None else _answer(services, frames)


def _answer(services: Services, frames: AsyncIterator[bytes]) -> Response:
    return EventStreamResponse(frames, services.metrics.stream_closed)
