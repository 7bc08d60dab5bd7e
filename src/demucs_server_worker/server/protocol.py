"""uvicorn's HTTP/1.1 with a deadline for a request's head: a client that never finishes one holds no connection."""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 15.0


class PatientProtocol(H11Protocol):
    """Waits for the head of a request, but not for ever."""

    _head_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there and owes a request."""
        super().connection_made(transport)
        # For answers that have to break off a connection which nobody reads from.
        self.app_state = {**self.app_state, "transport": transport}
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
            self._head_deadline = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _unwatch(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    def _give_up(self) -> None:
        self._head_deadline = None
        if not self.transport.is_closing():
            self.transport.close()
