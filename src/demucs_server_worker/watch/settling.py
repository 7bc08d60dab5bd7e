"""Since when each song in a watched folder has been as it is. Pure, but for the clock that it is given."""

from __future__ import annotations

from collections.abc import Iterable

from demucs_server_worker.watch.folder import Sighting


class Settling:
    """Remembers when each song was first seen as it is now. A copy that is under way changes its size or its time."""

    def __init__(self) -> None:
        self._since: dict[Sighting, float] = {}

    def look(self, sightings: Iterable[Sighting], now: float) -> dict[Sighting, float]:
        """The songs that are there, each with the seconds for which it has not changed; what is gone is forgotten.

        Args:
            sightings: all that are there now.
            now: monotonic seconds.
        """
        self._since = {sighting: self._since.get(sighting, now) for sighting in sightings}
        return {sighting: now - since for sighting, since in self._since.items()}
