"""One request and its answer, with the patience for a server that is busy or just being started."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from demucs_server_worker.client.answers import Health, is_good, read_as, refuse, unreachable
from demucs_server_worker.client.effects import Emit, Flow, Reply, Sleep, Unanswered, send
from demucs_server_worker.client.requests import Request, change, get
from demucs_server_worker.client.server import Server, pause_before, retry_after
from demucs_server_worker.errors import NotReady, ShuttingDown
from demucs_server_worker.wire.base import Shape
from demucs_server_worker.wire.status import Ready
from demucs_server_worker.wire.task import TaskBody, TaskPage

ShapeT = TypeVar("ShapeT", bound=Shape)

PAGE_TASKS = 100


def call(server: Server, request: Request) -> Flow[Reply]:
    """Send a request until it is answered, and give the answer, good or bad.

    It is sent again when it cannot have got through, when the connection broke and hearing it twice does no harm, and
    when the server has no room and says when to come back; never after another error.

    Raises:
        ServerUnreachable: no answer came.
    """
    began, lost_tries = server.clock(), 0
    while True:
        try:
            reply = yield from send(request)
        except Unanswered as lost:
            lost_tries += 1
            again = request.repeatable or not lost.sent
            if not again or lost_tries >= server.patience.tries:
                raise unreachable(lost, server) from None
            yield Sleep(pause_before(lost_tries))
            continue
        pause = retry_after(reply.headers) if reply.status == 503 else None
        left = server.patience.busy_seconds - (server.clock() - began)
        # A file that could be read only once has been sent.
        spent = request.upload is not None and not request.upload.can_be_repeated
        if pause is None or left <= 0 or spent:
            return reply
        yield Sleep(min(pause, left))


def ask(server: Server, request: Request, shape: type[ShapeT]) -> Flow[ShapeT]:
    """Send a request and read the answer.

    Raises:
        ServerUnreachable: no answer came.
        DemucsWorkerError: what the server answered instead, as the class it has in process.
    """
    return read_as(shape, (yield from call(server, request)), server)


def health(server: Server) -> Flow[Health]:
    """Whether the server can work: asked once, since that it cannot is an answer."""
    try:
        reply = yield from send(get("health", "ready"))
    except Unanswered as lost:
        raise unreachable(lost, server) from None
    if reply.status != 503:
        return Health(ready=True, workers=read_as(Ready, reply, server).workers)
    try:
        refuse(reply, server)
    except (NotReady, ShuttingDown) as error:
        return Health(ready=False, workers=0, detail=error.message)


def task(server: Server, task_id: str) -> Flow[TaskBody]:
    """The task as it is now."""
    return (yield from ask(server, get("tasks", task_id), TaskBody))


def change_task(server: Server, task_id: str, verb: str) -> Flow[TaskBody]:
    """Cancel or retry a task, and give it as it is then."""
    return (yield from ask(server, change("POST", "tasks", task_id, verb), TaskBody))


def delete(server: Server, task_id: str) -> Flow[None]:
    """Remove a finished task and its files."""
    reply = yield from call(server, change("DELETE", "tasks", task_id))
    if not is_good(reply.status):
        refuse(reply, server)


def tasks(server: Server, state: str | None, limit: int | None) -> Flow[None]:
    """Emit tasks, newest first, page by page."""
    left, cursor = limit, None
    while left is None or left > 0:
        size = PAGE_TASKS if left is None else min(left, PAGE_TASKS)
        query: Mapping[str, Any] = {"state": state, "limit": str(size), "cursor": cursor}
        page = yield from ask(server, get("tasks", query=query), TaskPage)
        for each in page.tasks[:left]:
            yield Emit(each)
        left = None if left is None else left - len(page.tasks)
        if page.cursor is None or not page.tasks:
            return
        cursor = str(page.cursor)
