"""Uploads as they come: held to a size and a pace, streamed to disk and never whole in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.requests import Request

from demucs_server_worker.errors import InputTooLarge, InvalidRequest
from demucs_server_worker.server.disposition import display_name
from demucs_server_worker.server.multipart import FileBegins, FileData, FormReader, boundary_of
from demucs_server_worker.server.pace import Pace
from demucs_server_worker.server.uploads import Incoming, UploadStore

# What a form may hold beside its file: fields, headers and boundaries.
FORM_BYTES = 1024 * 1024
NAMELESS = "song"


@dataclass(frozen=True)
class Received:
    """A form with its song.

    Attributes:
        incoming: the song, whole and on disk.
        name: the song's name for people.
        fields: the other fields, each with the values that it was given.
    """

    incoming: Incoming
    name: str
    fields: dict[str, list[str]]


class Body:
    """The body of one request.

    Attributes:
        has_begun: whether anything of it was asked for.
        was_read: whether its end has come; if not, the connection is of no use for another request.
        declared_bytes: what the client says it is, or None.
    """

    def __init__(self, request: Request, pace: Pace) -> None:
        """Args: request: nothing of its body has been read; pace: that the client must keep."""
        self.has_begun = False
        self.was_read = False
        self.declared_bytes = _declared(request)
        self._request = request
        self._pace = pace

    async def pieces(self, most_bytes: int) -> AsyncIterator[bytes]:
        """The body, piece by piece.

        Args:
            most_bytes: of it.

        Raises:
            InputTooLarge: it is more.
            TooSlow: the client does not keep the pace.
            InvalidRequest: it broke off.
        """
        size = 0
        while not self.was_read:
            piece = await self._next()
            size += len(piece)
            if size > most_bytes:
                raise InputTooLarge(name="The upload", size=f"more than {most_bytes}", limit=most_bytes)
            if piece:
                yield piece

    async def _next(self) -> bytes:
        began = time.monotonic()
        self.has_begun = True
        try:
            async with asyncio.timeout(self._pace.patience_seconds):
                message = await self._request.receive()
        except TimeoutError:
            raise self._pace.too_slow() from None
        if message["type"] == "http.disconnect":
            raise InvalidRequest(detail="it broke off.")
        piece: bytes = message.get("body", b"")
        self.was_read = not message.get("more_body", False)
        if not self.was_read:
            self._pace.came(len(piece), time.monotonic() - began)
        return piece


async def receive_song(body: Body, content_type: str, store: UploadStore, max_file_bytes: int) -> Received:
    """A form with a song in it, streamed to disk. Where this raises, nothing is left there.

    Args:
        body: of the request.
        content_type: its type, with the boundary.
        store: where the song goes.
        max_file_bytes: a larger song is refused: before it is read where the client tells its size, else on the way.

    Raises:
        InputTooLarge, TooSlow, DiskFull: see there.
        InvalidRequest: it broke off, or is not one song with its fields.
    """
    form = FormReader(boundary_of(content_type))
    if body.declared_bytes is not None and body.declared_bytes > max_file_bytes + FORM_BYTES:
        raise InputTooLarge(name="The upload", size=body.declared_bytes, limit=max_file_bytes)
    incoming = await store.begin(body.declared_bytes)
    try:
        name = await _stream(body, form, incoming, max_file_bytes)
        if not form.is_complete:
            raise InvalidRequest(detail="its form has no end; it broke off.")
        if not form.has_file:
            raise InvalidRequest(detail="its form has no song in a field called file.")
        await incoming.seal()
    except BaseException:
        await incoming.discard()
        raise
    return Received(incoming, name, form.fields)


async def _stream(body: Body, form: FormReader, incoming: Incoming, max_file_bytes: int) -> str:
    """Write the song to its file; gives its name."""
    name = NAMELESS
    async for piece in body.pieces(max_file_bytes + FORM_BYTES):
        for event in form.feed(piece):
            match event:
                case FileBegins(filename):
                    name = display_name(filename) or NAMELESS
                case FileData(data):
                    if incoming.bytes + len(data) > max_file_bytes:
                        raise InputTooLarge(name=name, size=f"more than {max_file_bytes}", limit=max_file_bytes)
                    await incoming.write(data)
    return name


def _declared(request: Request) -> int | None:
    value = request.headers.get("content-length", "")
    return int(value) if value.isascii() and value.isdigit() else None
