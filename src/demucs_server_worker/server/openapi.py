"""The API's description of itself, complete: who may ask, and how every error looks."""

from __future__ import annotations

import http
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from demucs_server_worker.errors import DemucsWorkerError
from demucs_server_worker.server.problems import problem_of, status_of_code
from demucs_server_worker.wire.problem import PROBLEM_TYPE

Responses = dict[int | str, dict[str, Any]]


def refusals(*errors: DemucsWorkerError) -> Responses:
    """The answers of a route that are errors, for the `responses` of its decorator: one example for each error."""
    by_status: dict[int, dict[str, DemucsWorkerError]] = {}
    for error in errors:
        by_status.setdefault(status_of_code(error.code), {})[error.code] = error
    return {status: _refusal(status, examples) for status, examples in sorted(by_status.items())}


def _refusal(status: int, errors: Mapping[str, DemucsWorkerError]) -> dict[str, Any]:
    examples = {
        code: {"summary": code, "value": problem_of(error).model_dump(mode="json", exclude_none=True)}
        for code, error in errors.items()
    }
    return {
        "description": f"{http.HTTPStatus(status).phrase}: {', '.join(errors)}",
        "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}},
    }


def describe(app: FastAPI) -> None:
    """Have the app describe itself so."""
    made: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not made:
            made.update(_description(app))
        return made

    app.openapi = openapi  # type: ignore[method-assign]


def _description(app: FastAPI) -> dict[str, Any]:
    return get_openapi(title=app.title, version=app.version, routes=app.routes)
