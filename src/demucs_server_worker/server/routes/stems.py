"""Results: stems, all of them as an archive, and pictures of them; and their end."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from demucs_server_worker.errors import (
    AssistantFailed,
    DiskFull,
    IllegalTransition,
    InvalidOption,
    NoStemsYet,
    NotInRange,
    NotReady,
    OutputNotWritable,
    StemGone,
    StemNotFound,
    TaskNotFound,
)
from demucs_server_worker.options import AudioFormat, BitDepth, SeparationOptions
from demucs_server_worker.result_key import encoding_of
from demucs_server_worker.server.answers import CACHING, file_answer
from demucs_server_worker.server.archive import archive_answer
from demucs_server_worker.server.conditional import is_known
from demucs_server_worker.server.downloads import MEDIA_TYPES, attachment, stem_name
from demucs_server_worker.server.openapi import refusals
from demucs_server_worker.server.routes.tasks import TaskId
from demucs_server_worker.server.services import Given
from demucs_server_worker.stem_files import completed, stem_of
from demucs_server_worker.wire.peaks import PeaksBody, peaks_body

router = APIRouter(tags=["results"])

MOST_POINTS = 20_000

_EXAMPLE_ID = "0b9e1c6e5a634d2c9a6f5f0c2d1e4f7a"
_NO_TASK = TaskNotFound(task_id=_EXAMPLE_ID)
_NO_STEMS = NoStemsYet(task_id=_EXAMPLE_ID, state="running")
_NO_STEM = StemNotFound(task_id=_EXAMPLE_ID, stem="guitar", stems="drums, bass, other, vocals")
_GONE = StemGone(task_id=_EXAMPLE_ID, stem="vocals", detail="its file was removed")
_NOT_MADE = (
    NotReady("As many stems as the server takes at a time are being encoded. Try again in a moment."),
    AssistantFailed(detail="it was killed by signal 9"),
    DiskFull(path="derived"),
    OutputNotWritable(path="derived", detail="permission denied"),
)
_NO_FORMAT = InvalidOption(option="bitrate", value=8, allowed="32 to 512 kbit/s")

_FILE: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_AUDIO = {kind: _FILE for name, kind in MEDIA_TYPES.items() if name != "zip"}
_TAG = {"ETag": {"description": "another for other bytes", "schema": {"type": "string"}}}
_HEADERS = {
    **_TAG,
    "Content-Disposition": {"description": "the name to save it under", "schema": {"type": "string"}},
}
_KNOWN: dict[str, Any] = {"description": "the client has it already (`If-None-Match`)", "headers": _TAG}

StemName = Annotated[str, Path(description="the stem's name", examples=["vocals"])]


def _wanted_encoding(
    format: Annotated[AudioFormat | None, Query(description="by default the one it was written in")] = None,
    bit_depth: Annotated[BitDepth | None, Query(alias="bitDepth", description="of wav and flac; 16 by default")] = None,
    bitrate: Annotated[int | None, Query(description="kbit/s of the lossy formats; 320 by default")] = None,
    mp3_preset: Annotated[int | None, Query(alias="mp3Preset", description="2 (best, the default) to 7")] = None,
    bit_depth_too: Annotated[BitDepth | None, Query(alias="bit_depth", include_in_schema=False)] = None,
    mp3_preset_too: Annotated[int | None, Query(alias="mp3_preset", include_in_schema=False)] = None,
) -> SeparationOptions | None:
    """The format that is asked for; None for that of the file."""
    given = {
        "format": format,
        "bit_depth": bit_depth or bit_depth_too,
        "bitrate": bitrate,
        "mp3_preset": mp3_preset if mp3_preset is not None else mp3_preset_too,
    }
    if format is None:
        if more := [name for name, value in given.items() if value is not None]:
            raise InvalidOption(
                option=more[0], value=given[more[0]], allowed="it goes with a format, as in ?format=mp3"
            )
        return None
    return SeparationOptions.parse(given)


@router.head("/tasks/{task_id}/stems/{stem}", include_in_schema=False)
@router.get(
    "/tasks/{task_id}/stems/{stem}", summary="A stem's sound", response_class=Response,
    responses={
        200: {"description": "the sound", "content": _AUDIO, "headers": _HEADERS},
        206: {"description": "the part of it that `Range` asks for", "content": _AUDIO, "headers": _HEADERS},
        304: _KNOWN,
        **refusals(_NO_TASK, _NO_STEM, _NO_STEMS, _GONE, NotInRange(size=32_491_244), _NO_FORMAT, *_NOT_MADE),
    },
)  # fmt: skip
async def get_stem(
    task_id: TaskId, stem: StemName, services: Given, request: Request,
    wanted: Annotated[SeparationOptions | None, Depends(_wanted_encoding)],
) -> Response:  # fmt: skip
    """The file as it was written, or, with `format`, encoded in another one, which is kept for a while.

    Single ranges, `If-Range` and `If-None-Match` are obeyed.
    """
    task = services.manager.get_task(task_id)
    found = stem_of(task, stem)
    file, etag, format = await services.stem_files.open(task, found), found.sha256, found.format
    if wanted is not None and encoding_of(wanted) != encoding_of(task.request.options):
        file.close()
        made = await services.derived.encoded(task, found, wanted)
        file, etag, format = made.file, made.sha256, wanted.format
    name = stem_name(task.request.input_name, found.name, format)
    headers = {"Content-Disposition": attachment(name)}
    return file_answer(request, file, etag=etag, media_type=MEDIA_TYPES[format], headers=headers)


@router.head("/tasks/{task_id}/stems.zip", include_in_schema=False)
@router.get(
    "/tasks/{task_id}/stems.zip", summary="All stems and the manifest", response_class=Response,
    responses={
        200: {"description": "an archive", "content": {MEDIA_TYPES["zip"]: _FILE}, "headers": _HEADERS},
        304: _KNOWN,
        **refusals(_NO_TASK, _NO_STEMS, _GONE),
    },
)  # fmt: skip
async def get_archive(task_id: TaskId, services: Given, request: Request) -> Response:
    """A ZIP of the files as they were written, made while it is sent, its length told in advance."""
    task = completed(services.manager.get_task(task_id))
    return await archive_answer(request, task, services.stem_files)


@router.head("/tasks/{task_id}/peaks/{stem}", include_in_schema=False)
@router.get(
    "/tasks/{task_id}/peaks/{stem}", summary="A stem's waveform, for drawing", response_model=PeaksBody,
    responses={
        200: {"content": {"application/octet-stream": _FILE}, "headers": _TAG},
        206: {"description": "part of the binary file", "content": {"application/octet-stream": _FILE}},
        304: _KNOWN,
        **refusals(_NO_TASK, _NO_STEM, _NO_STEMS, _GONE, NotInRange(size=8_024), *_NOT_MADE),
    },
)  # fmt: skip
async def get_peaks(
    task_id: TaskId, stem: StemName, services: Given, request: Request,
    points: Annotated[int, Query(ge=1, le=MOST_POINTS, description="most pairs to give")] = 2_000,
    format: Annotated[Literal["json", "dat"], Query(description="dat: the binary file of audiowaveform")] = "json",
) -> Response:  # fmt: skip
    """The lowest and the highest sample of each of at most `points` stretches of equal length.

    With `format=dat` as the binary file that BBC's audiowaveform writes (version 2, 16 bits), which peaks.js reads.
    """
    task = services.manager.get_task(task_id)
    found = stem_of(task, stem)
    (await services.stem_files.open(task, found)).close()
    made = await services.derived.peaks(task, found, points)
    if format == "dat":
        return file_answer(request, made.file, etag=made.sha256, media_type="application/octet-stream", headers={})
    with made.file:
        headers = {"ETag": f'"{made.sha256}-json"', "Cache-Control": CACHING}
        if is_known(headers["ETag"], request.headers.get("if-none-match")):
            return Response(status_code=304, headers=headers)
        body = peaks_body(found.name, found.duration_seconds, made.file.readall())
    return Response(body.model_dump_json(), headers=headers, media_type="application/json")


@router.delete(
    "/tasks/{task_id}", summary="Delete a task that has ended", status_code=204, response_class=Response,
    responses=refusals(_NO_TASK, IllegalTransition(task_id=_EXAMPLE_ID, state="running", verb="deleted")),
)  # fmt: skip
async def delete_task(task_id: TaskId, services: Given) -> Response:
    """With it go an uploaded song, its stems, and whatever was made of them.

    Of a song that lies on the server, song and stems stay.
    """
    await services.retention.delete(task_id)
    return Response(status_code=204)
