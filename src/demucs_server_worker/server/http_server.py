"""uvicorn inside the manager's event loop, on sockets that are bound before anything else starts."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Iterator, Sequence

import uvicorn
from fastapi import FastAPI

from demucs_server_worker.errors import InvalidSetting
from demucs_server_worker.exposure import check_exposure
from demucs_server_worker.server.gate import MOST_HEADER_BYTES
from demucs_server_worker.server.protocol import PatientConfig, PatientProtocol
from demucs_server_worker.settings import Settings

KEEP_ALIVE_SECONDS = 30
# What answers are still under way when the server stops get this long.
LAST_ANSWERS_SECONDS = 2
BACKLOG = 2_048


def bind(settings: Settings) -> list[socket.socket]:
    """Sockets for all addresses of the configured host; nothing is accepted yet.

    Raises:
        InvalidSetting: the port is taken, the address is not of this machine, or it is open to others without a key.
    """
    check_exposure(settings)
    sockets: list[socket.socket] = []
    port = settings.port
    try:
        found = socket.getaddrinfo(settings.host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            sockets.append(_bound(family, (address[0], port, *address[2:])))
            port = sockets[0].getsockname()[1]
    except OSError as error:
        for each in sockets:
            each.close()
        raise _refused(settings, error) from None
    return sockets


def _bound(family: socket.AddressFamily, address: tuple[object, ...]) -> socket.socket:
    # asyncio sends at once (TCP_NODELAY) only where a socket says that it is TCP. Otherwise an answer's body waits for
    # the client's word that it has the head, which takes 40 ms.
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made


def _refused(settings: Settings, error: OSError) -> InvalidSetting:
    if error.errno == errno.EADDRINUSE:
        allowed = f"another program listens there on {settings.host}; choose another with --port, or 0 for a free one"
        return InvalidSetting(setting="DEMUCS_WORKER_PORT", value=settings.port, allowed=allowed)
    if error.errno == errno.EACCES:
        allowed = "this user may not listen there; ports from 1024 on need no special right"
        return InvalidSetting(setting="DEMUCS_WORKER_PORT", value=settings.port, allowed=allowed)
    reason = (error.strerror or os.strerror(error.errno or 0)).lower()
    return InvalidSetting(
        setting="DEMUCS_WORKER_HOST", value=settings.host, allowed=f"an address of this machine is needed ({reason})"
    )


class HttpServer:
    """Serves an application until it is told to stop. Signals are none of its business."""

    def __init__(self, app: FastAPI, sockets: Sequence[socket.socket], *, most_connections: int) -> None:
        """Args: app: the application; sockets: bound; most_connections: at once, see `protocol`."""
        config = PatientConfig(
            app, http=PatientProtocol, ws="none", loop="none", lifespan="off", log_config=None, log_level="error",
            access_log=False, proxy_headers=False, server_header=False, backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS, timeout_graceful_shutdown=LAST_ANSWERS_SECONDS,
            h11_max_incomplete_event_size=MOST_HEADER_BYTES,
        )  # fmt: skip
        config.most_connections = most_connections
        self._sockets = list(sockets)
        self._server = _Server(config)
        self._serving: asyncio.Task[None] | None = None
        host, port = self._sockets[0].getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def start(self) -> None:
        """Begin to answer; returns once it does."""
        self._serving = asyncio.create_task(self._server.serve(self._sockets), name="http")
        up = asyncio.ensure_future(self._server.up.wait())
        await asyncio.wait({up, self._serving}, return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        if self._serving.done():
            await self._serving

    async def stop(self) -> None:
        """Take no further connection, let the answers under way end for a moment, and close."""
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving


class _Server(uvicorn.Server):
    """uvicorn that leaves the signals alone and says when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()
