"""Answers whose body is a file, or made on the way: read off the event loop, and ended when the client leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterable, Mapping
from contextlib import ExitStack
from io import FileIO

import anyio
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from demucs_server_worker.errors import NotInRange
from demucs_server_worker.server.conditional import Part, Unsatisfiable, is_known, wanted_part
from demucs_server_worker.server.problems import problem_of, problem_response

BLOCK_BYTES = 256 * 1024
# A browser asks again each time, and is told in a few bytes that it has the file already.
CACHING = "private, no-cache"


class _Opened(StreamingResponse):
    """A streamed answer that closes what it reads from, whether it was sent, broken off or never begun."""

    def __init__(
        self, blocks: AsyncIterator[bytes], opened: ExitStack, status: int, headers: Mapping[str, str], media_type: str
    ) -> None:
        super().__init__(blocks, status_code=status, headers=headers, media_type=media_type)
        self._opened = opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._opened:
            await super().__call__(scope, receive, send)


def file_answer(request: Request, file: FileIO, *, etag: str, media_type: str, headers: Mapping[str, str]) -> Response:
    """The file, or the part of it that the request wants, or that the client has it already.

    Args:
        request: its method and headers decide.
        file: at its beginning; the answer closes it.
        etag: what the file is known by, without quotes: another for other bytes.
        media_type: of the file.
        headers: further ones.
    """
    opened = ExitStack()
    opened.callback(file.close)
    try:
        size = file.seek(0, 2)
        tag = f'"{etag}"'
        common = {**headers, "ETag": tag, "Accept-Ranges": "bytes", "Cache-Control": CACHING}
        if is_known(tag, request.headers.get("if-none-match")):
            return Response(status_code=304, headers=common)
        try:
            part = _part(request, size, tag)
        except Unsatisfiable:
            return problem_response(problem_of(NotInRange(size=size)), {"Content-Range": f"bytes */{size}"})
        span = part or Part(0, size)
        common["Content-Length"] = str(span.length)
        if part is not None:
            common["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
        status = 200 if part is None else 206
        if request.method == "HEAD":
            return Response(status_code=status, headers=common, media_type=media_type)
        return _Opened(_blocks(file, span), opened.pop_all(), status, common, media_type)
    finally:
        opened.close()


def _part(request: Request, size: int, tag: str) -> Part | None:
    if request.method != "GET":
        return None
    return wanted_part(size, tag, request.headers.get("range"), request.headers.get("if-range"))


async def _blocks(file: FileIO, span: Part) -> AsyncIterator[bytes]:
    file.seek(span.start)
    left = span.length
    while left:
        # Not abandoned when the client leaves: the file is closed after that, and must not be read then.
        block = await anyio.to_thread.run_sync(file.read, min(BLOCK_BYTES, left))
        if not block:
            return  # it was cut meanwhile, which breaks the connection off
        left -= len(block)
        yield block


def made_answer(
    request: Request, pieces: Iterable[bytes], opened: ExitStack, *, length: int, etag: str, media_type: str,
    headers: Mapping[str, str],
) -> Response:  # fmt: skip
    """What `pieces` gives one after the other, or that the client has it already.

    Args:
        request: its method and headers decide.
        pieces: the body, made while it is sent, on other threads than the event loop's.
        opened: what the pieces are read from; the answer closes it.
        length: bytes in all.
        etag: what its content is known by, without quotes: not every byte (times, say) need be the same for it.
        media_type, headers: as for `file_answer`.
    """
    try:
        common = {**headers, "ETag": f'W/"{etag}"', "Cache-Control": CACHING, "Accept-Ranges": "none"}
        if is_known(f'"{etag}"', request.headers.get("if-none-match")):
            return Response(status_code=304, headers=common)
        common["Content-Length"] = str(length)
        if request.method == "HEAD":
            return Response(headers=common, media_type=media_type)
        return _Opened(_off_the_loop(pieces), opened.pop_all(), 200, common, media_type)
    finally:
        opened.close()


async def _off_the_loop(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    waiting = iter(_gathered(pieces))
    while (block := await anyio.to_thread.run_sync(next, waiting, b"")) != b"":
        yield block


def _gathered(pieces: Iterable[bytes]) -> Generator[bytes, None, None]:
    """The pieces in blocks that are worth a turn of the event loop; none is empty."""
    block = bytearray()
    for piece in pieces:
        block += piece
        if len(block) >= BLOCK_BYTES:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)
