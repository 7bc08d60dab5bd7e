"""What the server answered, as the shapes of the wire or as an error. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn, TypeVar

from pydantic import ValidationError

from demucs_server_worker.client.effects import Reply, Unanswered
from demucs_server_worker.client.server import Server
from demucs_server_worker.errors import (
    DemucsWorkerError,
    ErrorInfo,
    IllegalTransition,
    NotOurServer,
    ServerError,
    ServerUnreachable,
    TaskNotFound,
    Unauthorized,
    error_from,
)
from demucs_server_worker.wire.base import Shape
from demucs_server_worker.wire.event import EventBody
from demucs_server_worker.wire.problem import Problem

ShapeT = TypeVar("ShapeT", bound=Shape)

# Of several classes with one code, the one that a client can meet.
_MEANT: dict[str, type[DemucsWorkerError]] = {"not_found": TaskNotFound, "task_conflict": IllegalTransition}


@dataclass(frozen=True)
class Health:
    """Whether a server can work.

    Attributes:
        ready: it takes tasks, and a worker is up.
        workers: how many are.
        detail: why it is not ready; empty when it is.
    """

    ready: bool
    workers: int
    detail: str = ""


def read_as(shape: type[ShapeT], reply: Reply, server: Server) -> ShapeT:
    """The body of a good answer.

    Raises:
        DemucsWorkerError: as `refuse`, for an answer that is not good.
        NotOurServer: it is nothing that our server would say.
    """
    if not is_good(reply.status):
        refuse(reply, server)
    try:
        return shape.model_validate_json(reply.body)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        detail = f"its answer lacks {where}" if where else "its answer is no JSON of ours"
        raise NotOurServer(url=server.url, detail=detail) from None


def is_good(status: int) -> bool:
    """Whether a status tells of success."""
    return 200 <= status < 300


def refuse(reply: Reply, server: Server) -> NoReturn:
    """Raise what the server met: the class that has the problem's code, or ServerError for a code unknown here."""
    try:
        problem = Problem.model_validate_json(reply.body)
    except ValidationError:
        if reply.status == 401:
            raise Unauthorized from None
        raise NotOurServer(url=server.url, detail=f"it answers with status {reply.status}") from None
    raise known_error(problem.error)


def known_error(info: ErrorInfo) -> DemucsWorkerError:
    """The error as the class that it has in process."""
    if info.code in _MEANT:
        return _MEANT[info.code](info.message)
    error = error_from(info)
    if type(error) is not DemucsWorkerError:
        return error
    unknown = ServerError(info.message)
    unknown.problem = info
    return unknown


def unreachable(lost: Unanswered, server: Server) -> ServerUnreachable:
    """The error for an answer that never came."""
    return ServerUnreachable(url=server.url, detail=lost.detail)


def event_of(data: str) -> EventBody | None:
    """The event in a message of the stream; None for one of a kind that this version does not know."""
    try:
        return EventBody.model_validate_json(data)
    except ValidationError:
        return None
