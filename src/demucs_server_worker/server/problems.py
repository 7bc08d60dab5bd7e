"""Errors as HTTP answers: which status each code has, and `application/problem+json` for all of them."""

from __future__ import annotations

import http
import math
from collections.abc import Mapping
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from demucs_server_worker.errors import DemucsWorkerError, InvalidOption, InvalidRequest, TaskNotFound
from demucs_server_worker.wire.problem import PROBLEM_TYPE, Problem
from demucs_server_worker.wire.redaction import without_paths

STATUS: Mapping[str, int] = {
    "invalid_request": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "too_slow": 408,
    "task_conflict": 409,
    "gone": 410,
    "input_too_large": 413,
    "input_too_long": 413,
    "unsupported_format": 415,
    "input_unreadable": 415,
    "no_audio": 415,
    "not_in_range": 416,
    "invalid_option": 422,
    "unknown_model": 422,
    "input_not_found": 422,
    "output_not_writable": 422,
    "assistant_failed": 503,
    "model_unavailable": 503,
    "not_ready": 503,
    "out_of_memory": 503,
    "queue_full": 503,
    "queue_locked": 503,
    "shutting_down": 503,
    "disk_full": 507,
}
"""The status of each code; one that is not here is 500."""

# A queue that is full empties by a task every few seconds to minutes; a server that restarts is back in less.
RETRY_AFTER_SECONDS = {
    "assistant_failed": 5,
    "queue_full": 30,
    "not_ready": 5,
    "shutting_down": 10,
    "queue_locked": 10,
    "model_unavailable": 60,
    "out_of_memory": 30,
}

UNFORESEEN = Problem(
    title="Internal Server Error", status=500, code="internal", retryable=False,
    detail="Something went wrong in the server; its log says what, under the id that X-Request-ID tells.",
)  # fmt: skip
"""The answer to an error that nobody foresaw: it says nothing of the inside."""

_log = structlog.get_logger("demucs_server_worker.server")


def status_of_code(code: str) -> int:
    """The HTTP status for an error code."""
    return STATUS.get(code, 500)


def problem_of(error: DemucsWorkerError, *, named: tuple[str, ...] = (), task_id: str | None = None) -> Problem:
    """The error for the wire. Args: named: paths that the client named; task_id: the task that it is about."""
    status = status_of_code(error.code)
    return Problem(
        title=http.HTTPStatus(status).phrase, status=status, detail=without_paths(error.message, named=named),
        code=error.code, retryable=error.retryable, task_id=task_id,
    )  # fmt: skip


def problem_response(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """The answer that tells the problem, with the headers that go with its code."""
    extra = dict(headers or {})
    if problem.code == "unauthorized":
        extra["WWW-Authenticate"] = 'Bearer realm="demucs-server-worker"'
    if problem.code in RETRY_AFTER_SECONDS:
        extra.setdefault("Retry-After", str(math.ceil(RETRY_AFTER_SECONDS[problem.code])))
    body = problem.model_dump_json(exclude={"task_id"} if problem.task_id is None else None)
    return Response(body, status_code=problem.status, media_type=PROBLEM_TYPE, headers=extra)


def answer_with_problems(app: FastAPI) -> None:
    """Have every error of the app answered as a problem."""
    app.add_exception_handler(DemucsWorkerError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, DemucsWorkerError)  # noqa: S101 - registered for it
    if status_of_code(error.code) == 500:
        _log.error("request failed", code=error.code, reason=error.message)
    named = getattr(request.state, "named_paths", ())
    return problem_response(problem_of(error, named=named, task_id=request.path_params.get("task_id")))


async def _on_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it
    return problem_response(problem_of(_first_fault(error.errors())))


def _first_fault(faults: Any) -> DemucsWorkerError:
    """What is wrong, naming the field."""
    first = faults[0]
    reason = first["msg"].removeprefix("Value error, ")
    reason = reason[:1].lower() + reason[1:]
    where = [str(part) for part in first["loc"][1:]]
    if first["type"] == "json_invalid":
        return InvalidOption("The body is no JSON: " + str(first.get("ctx", {}).get("error", reason)).lower() + ".")
    if not where:
        return InvalidOption(f"The {first['loc'][0]} is not valid: {reason}.")
    if first["type"] == "missing":
        return InvalidOption(f"{where[0]} is missing.")
    if first["type"] == "extra_forbidden":
        return InvalidOption(option=where[0], value=_shown(first.get("input")), allowed="there is no such field")
    return InvalidOption(option=where[0], value=_shown(first.get("input")), allowed=reason.rstrip("."))


def _shown(value: object) -> str:
    text = str(value).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 100 else text[:99] + "…"


async def _on_http(request: Request, error: Exception) -> Response:
    """What routing refuses: no such address, or no such method there; and what broke off the reading of a body."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    if isinstance(error.__cause__, DemucsWorkerError):
        return await _on_error(request, error.__cause__)
    status, path = error.status_code, request.url.path
    match status:
        case 404:
            unknown = TaskNotFound(f"There is nothing at {path}. /docs lists what there is.")
            return problem_response(problem_of(unknown, named=(path, "/docs")))
        case 405:
            detail, headers = f"{request.method} is not possible at {path}.", {"Allow": ", ".join(_methods(request))}
        case _:
            detail, headers = f"{error.detail}.", dict(error.headers or {})
    problem = problem_of(InvalidRequest(detail), named=(path,))
    title = http.HTTPStatus(status).phrase
    return problem_response(problem.model_copy(update={"status": status, "title": title}), headers)


def _methods(request: Request) -> list[str]:
    """All that are possible at the address: routing itself stops at the first route that fits."""
    return [
        method for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in request.app.routes)
    ]  # fmt: skip
