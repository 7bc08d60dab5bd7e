"""The API's description of itself, complete: who may ask, and how every error looks."""

from __future__ import annotations

import http
from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from demucs_server_worker.errors import (
    DemucsWorkerError,
    Forbidden,
    InvalidOption,
    InvalidRequest,
    ShuttingDown,
    Unauthorized,
)
from demucs_server_worker.server.examples import TASK, TASK_PAGE
from demucs_server_worker.server.paths import OPEN_PATHS, SESSION_COOKIE
from demucs_server_worker.server.problems import RETRY_AFTER_SECONDS, UNFORESEEN, problem_of, status_of_code
from demucs_server_worker.wire.event import EventBody
from demucs_server_worker.wire.problem import PROBLEM_TYPE, Problem
from demucs_server_worker.wire.submission import Submission

Responses = dict[int | str, dict[str, Any]]

_DESCRIPTION = """\
Separates songs into stems. A song becomes a task; its stems are there once the task is `completed`.

Names are in camelCase; snake_case is accepted too. Every error is `application/problem+json` with a `code` for programs
and a `detail` for people; `retryable` says whether the same request can succeed later.
"""

_HEADERS = {
    "X-Request-ID": {
        "description": "what the log calls this request; a client may send its own",
        "schema": {"type": "string"},
    },
    "Location": {"description": "where the task is found", "schema": {"type": "string"}},
    "Retry-After": {"description": "seconds after which to try again", "schema": {"type": "integer"}},
    "WWW-Authenticate": {"description": "how to authenticate", "schema": {"type": "string"}},
}

_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "an API key of the server"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "the same key"},
    "session": {
        "type": "apiKey", "in": "cookie", "name": SESSION_COOKIE,
        "description": "what POST /api/v1/session sets: for pages in a browser",
    },
}  # fmt: skip

_METHODS = ("get", "put", "post", "delete", "patch", "head")


def refusals(*errors: DemucsWorkerError) -> Responses:
    """The answers of a route that are errors, for the `responses` of its decorator: one example for each error."""
    by_status: dict[int, list[Problem]] = {}
    for error in errors:
        by_status.setdefault(status_of_code(error.code), []).append(problem_of(error))
    return {status: _refusal(problems) for status, problems in sorted(by_status.items())}


def _refusal(problems: list[Problem]) -> dict[str, Any]:
    examples = {
        problem.code: {"summary": problem.code, "value": problem.model_dump(mode="json", exclude_none=True)}
        for problem in problems
    }
    return {
        "description": http.HTTPStatus(problems[0].status).phrase,
        "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}},
    }


# What can happen to a request before its route has it.
_EVERYWHERE = {
    **refusals(
        InvalidRequest(detail="it has more than 100 headers."),
        Forbidden(detail="a page of another site may change nothing here."),
        ShuttingDown(),
    ),
    500: _refusal([UNFORESEEN]),
}
_WITH_KEY = refusals(Unauthorized())
_WITH_INPUT = refusals(InvalidOption(option="limit", value="0", allowed="input should be greater than or equal to 1"))


def describe(app: FastAPI) -> None:
    """Have the app describe itself so."""
    made: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not made:
            made.update(completed(get_openapi(title=app.title, version=app.version, routes=app.routes)))
        return made

    app.openapi = openapi  # type: ignore[method-assign]


def completed(description: dict[str, Any]) -> dict[str, Any]:
    """FastAPI's description with what it does not know: keys, problems, headers and examples."""
    description["info"] |= {"description": _DESCRIPTION, "license": {"name": "MIT", "identifier": "MIT"}}
    description["servers"] = [{"url": "/"}]
    description["security"] = [{name: []} for name in _SCHEMES]
    components = description.setdefault("components", {})
    components["securitySchemes"] = _SCHEMES
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    # Shapes that no route names to FastAPI.
    shapes: list[Any] = [(Submission, "validation"), (Problem, "serialization"), (EventBody, "serialization")]
    schemas |= models_json_schema(shapes, ref_template="#/components/schemas/{model}")[1]["$defs"]
    for name, example in {"TaskBody": TASK, "TaskPage": TASK_PAGE}.items():
        if name in schemas:
            schemas[name]["examples"] = [example]
    for path, operation in _operations(description):
        _complete(path, operation)
    return description


def _operations(description: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in description["paths"].items():
        for method in _METHODS:
            if method in item:
                yield path, item[method]


def _complete(path: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    takes_input = "422" in responses or "parameters" in operation or "requestBody" in operation
    if PROBLEM_TYPE not in responses.get("422", {}).get("content", {}):
        responses.pop("422", None)  # FastAPI's own shape, which no answer has
    for each in (_EVERYWHERE, {} if path in OPEN_PATHS else _WITH_KEY, _WITH_INPUT if takes_input else {}):
        _merge(responses, each)
    if path in OPEN_PATHS:
        operation["security"] = []
    for status, response in responses.items():
        response["headers"] = {**response.get("headers", {}), **_headers(status, response)}
    operation["responses"] = dict(sorted(responses.items()))


def _merge(responses: dict[str, Any], more: Responses) -> None:
    for status, response in more.items():
        there = responses.get(str(status))
        if there is None:
            content = {
                kind: {**media, "examples": {**media["examples"]}} for kind, media in response["content"].items()
            }
            responses[str(status)] = {**response, "content": content}
        elif PROBLEM_TYPE in there.get("content", {}):
            examples = there["content"][PROBLEM_TYPE].setdefault("examples", {})
            for code, example in response["content"][PROBLEM_TYPE]["examples"].items():
                examples.setdefault(code, example)


def _headers(status: str, response: Mapping[str, Any]) -> dict[str, Any]:
    names = ["X-Request-ID"]
    if status == "202":
        names.append("Location")
    if status == "401":
        names.append("WWW-Authenticate")
    examples = response.get("content", {}).get(PROBLEM_TYPE, {}).get("examples", {})
    if any(code in RETRY_AFTER_SECONDS for code in examples):
        names.append("Retry-After")
    return {name: _HEADERS[name] for name in names}
