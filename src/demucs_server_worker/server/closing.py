"""An answer to a request whose body was not read to its end: the connection is of no further use."""

from __future__ import annotations

import asyncio

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

# How long what a client still sends is dropped, so that it finds the answer before it finds the connection closed:
# closing with unread bytes resets the connection, and may take the answer along.
LINGER_SECONDS = 2.0


class ClosingResponse(Response):
    """Another response, after which the connection is closed."""

    def __init__(self, inner: Response, *, linger: bool) -> None:
        """Args: inner: what to answer; linger: whether the client is still busy sending, see `is_sending`."""
        super().__init__(inner.body, inner.status_code)
        self.raw_headers = [*inner.raw_headers, (b"connection", b"close")]
        self._linger = linger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, listen on for a moment, and close."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        if self._linger:
            await drop_the_rest(receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def is_sending(scope: Scope, *, has_begun: bool) -> bool:
    """Whether a client sends the body of its request. One that asks before it does so (`Expect`) is told to begin by
    the first look at the body. Args: has_begun: whether that was taken."""
    return has_begun or not any(name == b"expect" for name, _ in scope["headers"])


async def drop_the_rest(receive: Receive) -> None:
    """Take what a client still sends, for a moment, and drop it."""
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return
