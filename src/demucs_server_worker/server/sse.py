"""Server-Sent Events: their frames, and an answer that sends them for as long as the client reads.

The format is that of the HTML standard, https://html.spec.whatwg.org/multipage/server-sent-events.html.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

MEDIA_TYPE = "text/event-stream"
# Proxies cut connections that say nothing for 30 to 60 seconds.
HEARTBEAT_SECONDS = 15.0
# After a connection broke, a browser waits so long before the next.
RETRY_MILLISECONDS = 2_000
# A client that takes nothing for so long is cut off.
STALL_SECONDS = 20.0
# What the system keeps for a client that does not read; by itself it would keep megabytes.
SEND_BUFFER_BYTES = 65_536

HEADERS = {
    "Cache-Control": "no-store",
    # nginx would collect events before it passes them on.
    "X-Accel-Buffering": "no",
}
HEARTBEAT = b":\n\n"
# `struct linger` of socket(7): on, for no seconds.
_AT_ONCE = struct.pack("ii", 1, 0)


def frame(event: str, data: str, entry_id: str) -> bytes:
    """One event. Args: event: its name; data: one line of text; entry_id: what a client resumes after."""
    return f"event: {event}\ndata: {data}\nid: {entry_id}\n\n".encode()


def opening(entry_id: str) -> bytes:
    """How a stream begins: it sets what to resume after, and is no event."""
    return f"retry: {RETRY_MILLISECONDS}\nid: {entry_id}\n\n".encode()


class EventStreamResponse(StreamingResponse):
    """Sends frames as they come. A client that stops reading is cut off, and nobody waits for it.

    It is cut off with its connection, where the server put that into the request's state as `transport`: closing would
    wait for the client to read what was sent before.
    """

    def __init__(self, frames: AsyncIterator[bytes], on_end: Callable[[str], None] = lambda reason: None) -> None:
        """Args: frames: what to send; on_end: told once why it ended: `done`, `gone` (the client) or `stalled`."""
        super().__init__(frames, media_type=MEDIA_TYPE, headers=HEADERS)
        self._on_end = on_end
        self._transport: asyncio.WriteTransport | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        self._transport = scope.get("state", {}).get("transport")
        self._keep_little()
        reason = "gone"

        async def send_in_time(message: Message) -> None:
            nonlocal reason
            try:
                async with asyncio.timeout(STALL_SECONDS):
                    await send(message)
            except TimeoutError:
                reason = "stalled"
                raise
            if not message.get("more_body", True):
                reason = "done"

        try:
            await super().__call__(scope, receive, send_in_time)
        except TimeoutError:
            await self._cut_off()
        finally:
            self._on_end(reason)

    def _keep_little(self) -> None:
        sock = self._transport.get_extra_info("socket") if self._transport is not None else None
        if sock is not None:
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)

    async def _cut_off(self) -> None:
        if self._transport is None:
            raise ConnectionAbortedError("the client does not read")
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            # Otherwise the system would keep what the client did not read for minutes more.
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self._transport.abort()
        # The server is to learn of it before this answer is over, or it would complain that it was not completed.
        await asyncio.sleep(0)
