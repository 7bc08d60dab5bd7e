"""uvicorn's HTTP/1.1 with a deadline for a request's head and a bound on connections: a client that never finishes one
holds no connection, and those that hold many leave room for others."""

from __future__ import annotations

import asyncio

import h11
import uvicorn
from starlette.types import Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 15.0
# Past the bound, so many connections more are told that there are too many, or how the server is; the rest are closed
# unheard.
SPARE_CONNECTIONS = 32
SPARE_HEAD_SECONDS = 2.0


_SPARE = "spare"


def is_spare(scope: Scope) -> bool:
    """Whether a request came on a connection past the bound."""
    return bool(scope.get("state", {}).get(_SPARE, False))


class PatientConfig(uvicorn.Config):
    """uvicorn's configuration, and the most connections that are served at once."""

    most_connections: int


class PatientProtocol(H11Protocol):
    """Waits for the head of a request, but not for ever."""

    config: PatientConfig
    _head_deadline: asyncio.TimerHandle | None = None
    _is_spare = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there and owes a request."""
        super().connection_made(transport)
        most = self.config.most_connections
        spare = sum(isinstance(each, PatientProtocol) and each._is_spare for each in self.connections)
        self._is_spare = len(self.connections) - spare > most
        if len(self.connections) > most + SPARE_CONNECTIONS:
            transport.abort()
            return
        # For answers that have to break off a connection which nobody reads from.
        self.app_state = {**self.app_state, "transport": transport, _SPARE: self._is_spare}
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Bytes of a request: the deadline falls once its head is complete, and holds for the next head then."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """From here on uvicorn's own time for an idle connection counts, until the next request begins."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is there to wait for."""
        self._unwatch()
        super().connection_lost(exc)

    def _watch(self) -> None:
        waits = self.conn.their_state is h11.IDLE and (self.cycle is None or bool(self.conn.trailing_data[0]))
        if not waits:
            self._unwatch()
        elif self._head_deadline is None:
            self._head_deadline = self.loop.call_later(
                SPARE_HEAD_SECONDS if self._is_spare else HEAD_SECONDS, self._give_up
            )

    def _unwatch(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    def _give_up(self) -> None:
        self._head_deadline = None
        if not self.transport.is_closing():
            self.transport.close()
