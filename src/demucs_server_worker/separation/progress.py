"""One figure from 0 to 1 over both passes, all segments and the encoding, that never falls."""

from __future__ import annotations

from collections.abc import Callable

from demucs_server_worker.separation.job import SeparationProgress, SeparationStage

# Shares of the whole, about what the steps take for `htdemucs` on a CPU.
DECODING_SHARE = 0.03
ENCODING_SHARE = 0.03

# With no declared length to go by, the first pass nears its share as if most songs were about this long.
_TYPICAL_SECONDS = 240.0


class ProgressMeter:
    """Turns what the steps report into `SeparationProgress`."""

    def __init__(self, report: Callable[[SeparationProgress], None]) -> None:
        """Args: report: called with each new figure."""
        self._report = report
        self._fraction = 0.0
        self._expected: float | None = None
        self._duration: float | None = None
        self._computing = False

    def begin(self) -> None:
        """The work on the song begins."""
        self._tell(0.0, "decoding")

    def expect(self, seconds: float | None) -> None:
        """The file says that it is this long; it may be wrong."""
        self._expected = seconds

    def decoded(self, seconds: float) -> None:
        """The first pass has come this far into the song."""
        part = min(1.0, seconds / self._expected) if self._expected else seconds / (seconds + _TYPICAL_SECONDS)
        self._tell(DECODING_SHARE * part, "decoding")

    def know(self, seconds: float) -> None:
        """The first pass is over: the song is this long."""
        self._duration = seconds
        self._tell(DECODING_SHARE, "decoding")

    def separated(self, done: int, total: int) -> None:
        """A forward pass begins, after `done` of `total`."""
        self._computing = True
        self._tell(DECODING_SHARE + (1 - DECODING_SHARE - ENCODING_SHARE) * done / total, "separating")

    def encoding(self, part: float) -> None:
        """The model is done; `part` (0 to 1) of what follows is too."""
        self._tell(1 - ENCODING_SHARE * (1 - part), "encoding")

    def _tell(self, fraction: float, stage: SeparationStage) -> None:
        self._fraction = max(self._fraction, fraction)
        self._report(SeparationProgress(self._fraction, stage, self._duration, self._computing))
