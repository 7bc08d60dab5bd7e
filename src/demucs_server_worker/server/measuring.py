"""Measures every request: how long until its answer begins, and what goes in and out."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from demucs_server_worker.server.metrics import OTHER, Metrics
from demucs_server_worker.wire.task import API

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# What no route took: whatever a client makes up is counted as one.
UNMATCHED = "unmatched"
# The client went away before there was an answer, as nginx counts it.
_GONE = "499"


class Measuring:
    """ASGI middleware around everything else."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        """Args: app: what is measured; metrics: where it is counted."""
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; other scopes (there are none) go through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = _Request(receive, send)
        self._metrics.in_flight.inc()
        try:
            await self._app(scope, request.receive, request.send)
        finally:
            self._metrics.in_flight.dec()
            self._count(scope, request)

    def _count(self, scope: Scope, request: _Request) -> None:
        route = _route(scope)
        method = scope["method"] if scope["method"] in _METHODS else OTHER
        seconds = (request.answered_at or time.monotonic()) - request.began_at
        self._metrics.requests.labels(method, route, request.status).observe(seconds)
        self._metrics.received.labels(route).inc(request.received)
        self._metrics.sent.labels(route).inc(request.sent)


def _route(scope: Scope) -> str:
    """The template of the address, with its parameters' names instead of their values."""
    path: str = getattr(scope.get("route"), "path", None) or UNMATCHED
    # A route knows its path below the router that it is mounted in.
    inside = scope["path"].startswith(API + "/") and path != UNMATCHED and not path.startswith(API + "/")
    return API + path if inside else path


class _Request:
    """One request as it passes."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self.began_at = time.monotonic()
        self.answered_at: float | None = None
        self.status = _GONE
        self.received = self.sent = 0

    async def receive(self) -> Message:
        message = await self._receive()
        self.received += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        await self._send(message)
        if message["type"] == "http.response.start":
            self.answered_at, self.status = time.monotonic(), str(message["status"])
        self.sent += len(message.get("body", b""))
