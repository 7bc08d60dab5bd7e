"""New tasks."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from demucs_server_worker.errors import (
    DemucsWorkerError,
    DiskFull,
    Forbidden,
    InputTooLarge,
    InputTooLong,
    InputUnreadable,
    InvalidOption,
    InvalidRequest,
    NoAudio,
    QueueFull,
    ShuttingDown,
    TaskConflict,
    TooSlow,
    UnknownModel,
    UnsupportedFormat,
)
from demucs_server_worker.server.bodies import body_of, location_of
from demucs_server_worker.server.closing import ClosingResponse, is_sending
from demucs_server_worker.server.intake import is_form
from demucs_server_worker.server.openapi import refusals
from demucs_server_worker.server.pace import Pace
from demucs_server_worker.server.problems import problem_of, problem_response
from demucs_server_worker.server.receiving import Body
from demucs_server_worker.server.services import Given, Services
from demucs_server_worker.server.submitting import check_room, submit_path, submit_upload
from demucs_server_worker.task import Task
from demucs_server_worker.wire.submission import TaskForm
from demucs_server_worker.wire.task import TaskBody

router = APIRouter(tags=["tasks"])


def _upload_schema() -> dict[str, Any]:
    """The form of an upload: the song, and the fields of `TaskForm`."""
    form = TaskForm.model_json_schema(ref_template="#/components/schemas/{model}")
    song = {"type": "string", "format": "binary", "description": "the song, in any format that is accepted"}
    options = {"type": "string", "description": "a JSON object of further fields, instead of or beside single ones"}
    return {
        "type": "object",
        "required": ["file"],
        "additionalProperties": False,
        "properties": {"file": song, **{k: _given(v) for k, v in form["properties"].items()}, "options": options},
    }


def _given(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a field that is there: a form has no null."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
    return {**rest, **(kinds[0] if len(kinds) == 1 else {"anyOf": kinds})} if kinds else rest


_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": _upload_schema()},
            "application/json": {"schema": {"$ref": "#/components/schemas/Submission"}},
        },
    },
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "the same as `fileId`: sent again with the same request, it gives the task that exists",
            "schema": {"type": "string", "minLength": 1, "maxLength": 512},
        }
    ],
}

_NAME = "song.mp3"
_REFUSALS = refusals(
    InvalidRequest(detail="it broke off."),
    Forbidden(detail="outputDir is not below a folder that DEMUCS_WORKER_ALLOWED_ROOTS names."),
    TooSlow(bytes=30_000, seconds=30),
    TaskConflict(file_id="file123"),
    InputTooLarge(name=_NAME, size=120_000_000, limit=100_000_000),
    InputTooLong(name=_NAME, limit=21_600),
    UnsupportedFormat(name=_NAME, detail="its content is none of these formats"),
    NoAudio(name=_NAME, detail="it has no sound track"),
    InputUnreadable(name=_NAME, detail="its header is damaged or cut off"),
    InvalidOption(option="format", value="xyz", allowed="one of wav, flac, mp3, m4a, ogg, opus"),
    UnknownModel(model="xyz"),
    QueueFull(queued=10_000),
    ShuttingDown(),
    DiskFull("The server's disk is full, so nothing of the upload was kept. Try again later."),
)


@router.post(
    "/tasks", summary="Have a song separated", status_code=202, response_model=TaskBody, openapi_extra=_BODY,
    responses={200: {"model": TaskBody, "description": "the task that exists, for a known fileId"}, **_REFUSALS},
)  # fmt: skip
async def submit(request: Request, services: Given) -> Response:
    """A song that is uploaded in a form, or one that lies on the server below a folder that it allows.

    The song is looked into at once: what is no song is refused here. 202 means that the task is on disk.
    """
    body = Body(request, Pace(services.settings.upload_patience))
    try:
        check_room(services)
        if is_form(request.headers):
            task, is_new = await submit_upload(services, request, body)
        else:
            task, is_new = await submit_path(services, request, await _json(request))
    except ValidationError as error:
        raise RequestValidationError([{**e, "loc": ("body", *e["loc"])} for e in error.errors()]) from None
    except DemucsWorkerError as error:
        if body.was_read or not is_form(request.headers):
            raise
        still_sends = is_sending(request.scope, has_begun=body.has_begun) and not isinstance(error, TooSlow)
        return ClosingResponse(problem_response(problem_of(error)), linger=still_sends)
    return _answer(services, task, is_new)


async def _json(request: Request) -> bytes:
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise InvalidRequest(detail=f"send multipart/form-data or application/json, not {kind[:100]}.")
    return await request.body()


def _answer(services: Services, task: Task, is_new: bool) -> Response:
    return Response(
        body_of(services, task).model_dump_json(), 202 if is_new else 200, location_of(task), "application/json"
    )
