"""Handing a song over: as a file that goes along, or as a path that the server can reach."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from typing import IO, Any

import msgspec
from pydantic.alias_generators import to_camel

from demucs_server_worker.client.calls import ask
from demucs_server_worker.client.effects import Flow, do
from demucs_server_worker.client.requests import Request, add, add_upload
from demucs_server_worker.client.server import Server
from demucs_server_worker.client.upload import Progress, Upload
from demucs_server_worker.errors import IllegalTransition, InputNotFound, InputUnreadable, InvalidOption, TaskConflict
from demucs_server_worker.options import SeparationOptions
from demucs_server_worker.wire.task import TaskBody

File = str | os.PathLike[str] | IO[bytes]

_ABOUT_THE_TASK = ("file_id", "project_name", "priority", "input_name", "webhook")


def submit(
    server: Server, file: File | None, *, input_path: str | os.PathLike[str] | None,
    output_dir: str | os.PathLike[str] | None, on_progress: Progress | None, options: Mapping[str, Any],
) -> Flow[TaskBody]:  # fmt: skip
    """Add a task; when this returns, the server has it on disk. See `Client.submit`."""
    fields = form_fields(options)
    # Without an id of the caller's, one of our own: a request that is repeated after a broken connection finds the
    # task that the first one made.
    key = None if "fileId" in fields else uuid.uuid4().hex
    if file is None:
        request = _over_paths(fields, input_path, output_dir, key)
    else:
        if input_path is not None or output_dir is not None:
            given = "input_path" if input_path is not None else "output_dir"
            raise InvalidOption(option=given, value=str(input_path or output_dir), allowed=_EITHER)
        request = yield from do(lambda: _with_file(file, fields, key, on_progress))
    try:
        return (yield from ask(server, request, TaskBody))
    except IllegalTransition as error:
        # The two share a code; here it can only be the one about the request.
        raise TaskConflict(error.message) from None


_EITHER = "give either a file to upload, or input_path and output_dir of files on the server"


def form_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """What a task is asked for, as the server reads it: in camelCase, with what was given and nothing else.

    Args:
        options: names and values as `WorkerManager.add_task` takes them, and `webhook`.

    Raises:
        InvalidOption: a name or a value that does not fit.
    """
    given = {name: value for name, value in options.items() if value is not None}
    about = {name: given.pop(name) for name in _ABOUT_THE_TASK if name in given}
    if isinstance(about.get("webhook"), str):
        about["webhook"] = {"url": about["webhook"]}
    # The values as in process, where numbers may come as text and stems as a list or as one string.
    options_as_parsed = msgspec.to_builtins(SeparationOptions.parse(given))
    chosen = {name: options_as_parsed[name] for name in given}
    return {to_camel(name): value for name, value in {**about, **chosen}.items()}


def _over_paths(
    fields: Mapping[str, Any], input_path: str | os.PathLike[str] | None, output_dir: str | os.PathLike[str] | None,
    key: str | None,
) -> Request:  # fmt: skip
    for name, value in (("input_path", input_path), ("output_dir", output_dir)):
        if value is None:
            raise InvalidOption(option=name, value=value, allowed=_EITHER)
        if not _is_text(text := os.fspath(value)):
            shown = os.fsencode(text).decode("utf-8", "replace")
            raise InvalidOption(option=name, value=shown, allowed="a path in UTF-8, which JSON can carry")
    paths = {"inputPath": os.fspath(input_path or ""), "outputDir": os.fspath(output_dir or "")}
    return add({**fields, **paths}, key)


def _with_file(file: File, fields: Mapping[str, Any], key: str | None, on_progress: Progress | None) -> Request:
    name = str(fields.get("inputName") or _name_of(file))
    try:
        return add_upload(Upload(file, name, {field: _as_text(fields[field]) for field in fields}, on_progress), key)
    except FileNotFoundError:
        raise InputNotFound(path=file) from None
    except OSError as error:
        raise InputUnreadable(name=name, detail=error.strerror or str(error)) from None


def _name_of(file: File) -> str:
    named = file if isinstance(file, (str, os.PathLike)) else getattr(file, "name", None)
    if not isinstance(named, (str, os.PathLike)):
        return "audio"
    # A name that is not UTF-8 on this disk cannot be told to the server as it is.
    return os.fsencode(os.path.basename(os.fspath(named))).decode("utf-8", "replace")


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _as_text(value: Any) -> str:
    """A field of a form is text."""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value):
        return ",".join(value)
    return json.dumps(value)
