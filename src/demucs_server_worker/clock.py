"""Epoch seconds that do not jump."""

from __future__ import annotations

import time


class SteadyClock:
    """The wall clock as it was at the start, moved on by the monotonic one: setting the machine's clock changes nothing
    for the tasks of this process."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def __call__(self) -> float:
        """Epoch seconds."""
        return self._offset + time.monotonic()
