"""Bodies of requests on their way in: never more than fits, never slower than a person would wait.

Uploads, which are as large as songs, are left to the route that writes them to disk as they come.
"""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope

from demucs_server_worker.errors import InputTooLarge, TooSlow
from demucs_server_worker.server.paths import UPLOAD_PATH

# The longest JSON body that makes sense has a few kilobytes.
MOST_BODY_BYTES = 1_000_000
BODY_SECONDS = 30.0


def is_form(headers: Headers) -> bool:
    """Whether the body is a form, as an upload is."""
    return headers.get("content-type", "").lower().startswith("multipart/form-data")


def is_upload(scope: Scope, headers: Headers) -> bool:
    """Whether the body is one that its route takes in by itself. At any other address a form is a body like others:
    it would be read into memory, whatever its size."""
    return scope["method"] == "POST" and scope["path"] == UPLOAD_PATH and is_form(headers)


def announces_body(headers: Headers) -> bool:
    """Whether a body comes with the request."""
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def check_announced(headers: Headers) -> None:
    """Refuse a body by the size that it announces.

    Raises:
        InputTooLarge: it is too large.
    """
    length = headers.get("content-length", "")
    if length.isdigit() and int(length) > MOST_BODY_BYTES:
        raise _too_large(length)


class Intake:
    """An ASGI `receive` that keeps to the limits; `is_complete` says that the whole body has been read."""

    def __init__(self, receive: Receive, *, body_seconds: float = BODY_SECONDS) -> None:
        """Args: receive: the server's; body_seconds: in which the whole body must be there."""
        self._receive = receive
        self._body_seconds = body_seconds
        self._deadline: float | None = None
        self._bytes = 0
        self.is_complete = False

    @property
    def has_begun(self) -> bool:
        """Whether anything of the body was asked for."""
        return self._deadline is not None

    async def receive(self) -> Message:
        """The next message.

        Raises:
            InputTooLarge, TooSlow: the body exceeds a limit.
        """
        if self.is_complete:
            return await self._receive()
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().time() + self._body_seconds
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise TooSlow(f"The body was not there after {self._body_seconds:g} seconds. Send it again.") from None
        self._bytes += len(message.get("body", b""))
        if self._bytes > MOST_BODY_BYTES:
            raise _too_large(self._bytes)
        self.is_complete = not message.get("more_body", False)
        return message


def _too_large(size: object) -> InputTooLarge:
    return InputTooLarge(f"The body is {size} bytes, more than the {MOST_BODY_BYTES} allowed for what is no upload.")
