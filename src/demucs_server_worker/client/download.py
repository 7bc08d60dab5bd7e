"""Stems from the server into files: taken up where a connection broke off, checked against their hash, then renamed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from demucs_server_worker.client import calls, files
from demucs_server_worker.client.answers import refuse, unreachable
from demucs_server_worker.client.effects import Close, Flow, Reply, Sleep, Stream, Unanswered, do, opened, read, rest_of
from demucs_server_worker.client.requests import Request, get
from demucs_server_worker.client.server import Server, pause_before, retry_after
from demucs_server_worker.errors import DownloadDamaged, IllegalTransition, InvalidOption
from demucs_server_worker.task import TaskState
from demucs_server_worker.wire.task import StemBody, TaskBody

# A stem in another format is encoded before its first byte comes.
SILENCE_SECONDS = 300.0
DAMAGED_TRIES = 2

_PROBLEM_BYTES = 64_000
_RANGE_START = re.compile(r"bytes ([0-9]+)-")


def download(
    server: Server, task: str | TaskBody, output_dir: str | os.PathLike[str], stems: Iterable[str] | None,
    format: str | None, as_zip: bool,
) -> Flow[list[Path]]:  # fmt: skip
    """Fetch the stems of a finished task into a folder. See `Client.download`."""
    body = yield from _finished(server, task)
    folder = Path(output_dir).expanduser().absolute()
    if as_zip:
        for option, value in (("stems", stems), ("format", format)):
            if value is not None:
                raise InvalidOption(option=option, value=value, allowed="an archive has all stems, as they are")
        return [(yield from _archive(server, body, folder))]
    paths = []
    for each in _chosen(body, stems):
        target = folder / files.stem_file(each.name, format or each.format, server.url)
        paths.append((yield from _stem(server, body.id, each, target, format)))
    return paths


def download_stem(
    server: Server, task: str | TaskBody, name: str, path: str | os.PathLike[str], format: str | None
) -> Flow[Path]:
    """Fetch one stem of a finished task to a path. See `Client.download_stem`."""
    body = yield from _finished(server, task)
    (stem,) = _chosen(body, [name])
    target = Path(path).expanduser().absolute()
    return (yield from _stem(server, body.id, stem, target, format))


def _finished(server: Server, task: str | TaskBody) -> Flow[TaskBody]:
    body = task if isinstance(task, TaskBody) else (yield from calls.task(server, task))
    if body.state is not TaskState.COMPLETED:
        raise IllegalTransition(task_id=body.id, state=body.state.value, verb="downloaded")
    return body


def _chosen(task: TaskBody, names: Iterable[str] | None) -> list[StemBody]:
    by_name = {stem.name: stem for stem in task.stems}
    wanted = list(by_name) if names is None else [names] if isinstance(names, str) else list(names)
    for name in wanted:
        if name not in by_name:
            raise InvalidOption(option="stems", value=name, allowed=f"this task has {', '.join(by_name)}")
    return [by_name[name] for name in wanted]


def _stem(server: Server, task_id: str, stem: StemBody, target: Path, format: str | None) -> Flow[Path]:
    same = format is None or format == stem.format
    sha256 = files.checked_hash(stem.sha256, server.url) if same else None
    if sha256 is not None and (yield from do(lambda: files.has_hash(target, sha256))):
        return target
    request = get("tasks", task_id, "stems", stem.name, query={"format": None if same else format})
    part = files.Part(target, sha256)
    yield from do(part.open)
    try:
        for _ in range(DAMAGED_TRIES):
            etag = yield from _fill(server, request, part, resume=True)
            # A strong tag of our server is the hash of the bytes: all that is known of what it encoded anew.
            expected = sha256 or files.hash_in(etag)
            if (yield from do(lambda expected=expected: part.finish(expected))):  # type: ignore[misc]
                return target
            part.restart()
    finally:
        part.leave(for_later=True)
    raise DownloadDamaged(name=target.name, times=DAMAGED_TRIES)


def _archive(server: Server, task: TaskBody, folder: Path) -> Flow[Path]:
    target = folder / files.zip_file(task)
    request = get("tasks", files.checked_id(task.id, server.url), "stems.zip")
    part = files.Part(target, None)
    yield from do(part.open)
    try:
        for _ in range(DAMAGED_TRIES):
            yield from _fill(server, request, part, resume=False)
            yield from do(part.flush)
            if (yield from do(lambda: files.is_whole_zip(part.path))):
                yield from do(lambda: part.finish(None))
                return target
            part.restart()
    finally:
        part.leave(for_later=False)
    raise DownloadDamaged(name=target.name, times=DAMAGED_TRIES)


def _fill(server: Server, request: Request, part: files.Part, *, resume: bool) -> Flow[str]:
    """Let all bytes come, over as many connections as that takes; gives the tag that the server knows them by."""
    began, vain, etag = server.clock(), 0, ""
    while True:
        before = part.size
        try:
            stream = yield from opened(_rest(request, part.size, etag), SILENCE_SECONDS)
            pause = yield from _judge(server, stream, part)
            if pause is None:
                etag = stream.headers.get("etag", "")
                while (chunk := (yield from read(stream))) is not None:
                    yield from do(lambda chunk=chunk: part.write(chunk))  # type: ignore[misc]
                return etag
        except Unanswered as lost:
            trouble, pause = unreachable(lost, server), None
            if part.size > before:
                began, vain = server.clock(), 0
            if not resume:
                part.restart()
        else:
            trouble = unreachable(Unanswered("it is busy", sent=True), server)
        if server.clock() - began > server.patience.away_seconds:
            raise trouble
        vain += 1
        yield Sleep(pause or pause_before(vain))


def _rest(request: Request, start: int, etag: str) -> Request:
    # Compressed on the way, a range of bytes would be one of other bytes.
    request = request.with_headers(Accept_Encoding="identity")
    if not start:
        return request
    request = request.with_headers(Range=f"bytes={start}-")
    return request.with_headers(If_Range=etag) if etag.startswith('"') else request


def _judge(server: Server, stream: Stream, part: files.Part) -> Flow[float | None]:
    """None when the bytes that part lacks come next; else the seconds after which to ask again.

    Raises:
        DemucsWorkerError: the server will not give them.
    """
    start = _RANGE_START.match(stream.headers.get("content-range", ""))
    if stream.status == 206 and start is not None and int(start[1]) == part.size:
        return None
    if stream.status == 200:
        part.restart()
        return None
    if stream.status in (206, 416):
        # What is here is not the beginning of what is there.
        yield Close(stream)
        part.restart()
        return pause_before(1)
    reply = Reply(stream.status, stream.headers, (yield from rest_of(stream, _PROBLEM_BYTES)))
    pause = retry_after(reply.headers) if reply.status == 503 else None
    if pause is None:
        refuse(reply, server)
    return pause
