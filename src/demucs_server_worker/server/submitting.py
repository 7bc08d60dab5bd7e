"""A submission on its way from the request into the queue: uploaded songs, and songs that lie on the server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
from starlette.requests import Request

from demucs_server_worker.errors import InputNotFound, InvalidOption, QueueFull, ShuttingDown
from demucs_server_worker.server.allowances import Stems, below_a_root, check_model, check_stems
from demucs_server_worker.server.form_fields import task_form
from demucs_server_worker.server.receiving import Body, Received, receive_song
from demucs_server_worker.server.services import Services
from demucs_server_worker.song_files import sha256_of
from demucs_server_worker.task import Origin, Task, TaskRequest
from demucs_server_worker.webhooks.rules import webhook_of
from demucs_server_worker.wire.submission import Submission, TaskForm, WebhookForm

IDEMPOTENCY_KEY = "idempotency-key"


def check_room(services: Services) -> None:
    """Refuse a submission before its body is read, where the queue would refuse it afterwards.

    Raises:
        ShuttingDown, QueueFull: see there.
    """
    status = services.manager.get_status()
    if not status["accepting"]:
        raise ShuttingDown
    if status["queue"]["queued"] >= services.settings.max_queued:
        raise QueueFull(queued=status["queue"]["queued"])


async def submit_upload(services: Services, request: Request, body: Body) -> tuple[Task, bool]:
    """Receive a song with its fields, look into it, and queue it.

    Returns:
        The task, and whether it is new. What was uploaded for one that exists is removed.

    Raises:
        DemucsWorkerError: it is not taken, and nothing of it is left.
        pydantic.ValidationError: likewise, for a field whose type does not fit.
    """
    content_type = request.headers.get("content-type", "")
    received = await receive_song(body, content_type, services.uploads, services.settings.max_file_size)
    # From here on it is carried out whole, whoever waits for it: a client that goes away must leave neither a song
    # without a task nor a task without its song.
    return await asyncio.shield(asyncio.ensure_future(_queue_upload(services, request, received)))


async def submit_path(services: Services, request: Request, content: bytes) -> tuple[Task, bool]:
    """Look into a song that lies on the server, and queue it.

    Args:
        services: of the server.
        request: with the headers; paths that may be told back are noted in its state.
        content: its body, JSON.

    Returns:
        The task, and whether it is new.

    Raises:
        DemucsWorkerError, pydantic.ValidationError: it is not taken.
    """
    form = Submission.model_validate_json(content)
    request.state.named_paths = (form.input_path, form.output_dir)
    given, stems = await _given(services, request, form)
    for name, told in (("input_path", "inputPath"), ("output_dir", "outputDir")):
        given[name] = await asyncio.to_thread(below_a_root, told, given[name], services.settings)
    wanted = _with_webhook(services, form, _parsed(given, stems))
    seconds = await length_of(services, given["input_path"], wanted.input_name)
    sha256 = await _hash_of(given["input_path"], wanted.input_name)
    return await services.manager.submit(msgspec.structs.replace(wanted, duration_seconds=seconds, input_sha256=sha256))


async def _hash_of(song: Path, name: str) -> str:
    """The hash of the song, by which the stems of an earlier task are found."""
    try:
        return await asyncio.to_thread(sha256_of, song)
    except OSError as error:
        raise InputNotFound(path=name) from error


async def _queue_upload(services: Services, request: Request, received: Received) -> tuple[Task, bool]:
    folders = received.incoming.folders
    try:
        wanted = await _upload_request(services, request, received)
        seconds = await length_of(services, folders.song, wanted.input_name)
        task, is_new = await services.manager.submit(msgspec.structs.replace(wanted, duration_seconds=seconds))
    except Exception:
        # Not when cancelled, as the event loop ends: the task may have been stored. The next start sweeps.
        await received.incoming.discard()
        raise
    if not is_new:
        await received.incoming.discard()
    return task, is_new


async def _upload_request(services: Services, request: Request, received: Received) -> TaskRequest:
    form = task_form(received.fields)
    given, stems = await _given(services, request, form)
    given.setdefault("input_name", received.name)
    folders = received.incoming.folders
    wanted = _parsed({**given, "input_path": folders.song, "output_dir": folders.results}, stems)
    uploaded = msgspec.structs.replace(wanted, origin=Origin.UPLOAD, input_sha256=received.incoming.sha256)
    return _with_webhook(services, form, uploaded)


async def _given(services: Services, request: Request, form: TaskForm) -> tuple[dict[str, Any], Stems]:
    """The fields for `TaskRequest.parse`, the model among them, and the key of the request as its `file_id`; and the
    stems of that model."""
    given = form.given()
    name = given.setdefault("model", services.settings.model)
    stems = await asyncio.to_thread(check_model, name, services.settings)
    key = request.headers.get(IDEMPOTENCY_KEY)
    if key and given.setdefault("file_id", key) != key:
        raise InvalidOption(option="fileId", value=given["file_id"], allowed="the Idempotency-Key header says another")
    return given, stems


def _parsed(given: dict[str, Any], stems: Stems) -> TaskRequest:
    wanted = TaskRequest.parse(given)
    check_stems(wanted.options, stems)
    return wanted


def _with_webhook(services: Services, form: TaskForm, wanted: TaskRequest) -> TaskRequest:
    wish = form.webhook.model_dump() if isinstance(form.webhook, WebhookForm) else form.webhook
    return msgspec.structs.replace(wanted, webhook=webhook_of(wish, services.webhook_rules))


async def length_of(services: Services, song: Path, name: str) -> float | None:
    """Seconds of the song as its header has it; None where that says nothing, or nobody could look."""
    settings = services.settings
    probed = await services.assistant.probe(
        song, name, max_file_bytes=settings.max_file_size, max_duration_seconds=settings.max_duration
    )
    return probed.duration_seconds if probed is not None else None
