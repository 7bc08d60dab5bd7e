"""How slow a client may be. Pure: the waiting is timed elsewhere."""

from __future__ import annotations

from demucs_server_worker.errors import TooSlow

# A tenth of what the slowest networks in use carry.
LEAST_BYTES_PER_SECOND = 1_000


class Pace:
    """Holds a client to a least number of bytes in each window of waiting for it.

    Only the time spent waiting counts: while the server itself is busy with a disk, no client can be faster. What was
    sent quickly before is no credit: a client that stalls in the middle is found out as soon as one at the start.
    """

    def __init__(self, window_seconds: float) -> None:
        """Args: window_seconds: of waiting, within which LEAST_BYTES_PER_SECOND must come on average."""
        self._window_seconds = window_seconds
        self._least_bytes = round(window_seconds * LEAST_BYTES_PER_SECOND)
        self._waited = 0.0
        self._bytes = 0

    @property
    def patience_seconds(self) -> float:
        """How much longer to wait for the next bytes."""
        return max(0.0, self._window_seconds - self._waited)

    def came(self, bytes_: int, waited_seconds: float) -> None:
        """So many bytes came after so much waiting.

        Raises:
            TooSlow: the window is over and brought too little.
        """
        self._waited += waited_seconds
        self._bytes += bytes_
        if self._bytes >= self._least_bytes:
            self._waited, self._bytes = 0.0, 0
        elif self._waited >= self._window_seconds:
            raise self.too_slow()

    def too_slow(self) -> TooSlow:
        """The error that says so."""
        return TooSlow(bytes=self._least_bytes, seconds=f"{self._window_seconds:g}")
