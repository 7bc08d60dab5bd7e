"""How long to wait before a worker that could not boot is started again. Pure."""

from __future__ import annotations

FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 60.0


class Backoff:
    """Doubling delays: 1, 2, 4, … 60 seconds, from the start again after `reset`."""

    def __init__(self, first_seconds: float = FIRST_DELAY_SECONDS, longest_seconds: float = LONGEST_DELAY_SECONDS):
        """Args: first_seconds: the first delay; longest_seconds: no delay is longer."""
        self._first = first_seconds
        self._longest = longest_seconds
        self._next = first_seconds

    def delay(self) -> float:
        """Seconds to wait now; the next call gives twice as much."""
        delay = min(self._next, self._longest)
        self._next = min(self._next * 2, self._longest)
        return delay

    def reset(self) -> None:
        """The worker came up: the next delay is the first one again."""
        self._next = self._first
