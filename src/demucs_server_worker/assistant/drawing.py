"""The chore `Draw`: the peaks of a finished stem."""

from __future__ import annotations

from pathlib import Path

from demucs_server_worker.assistant.messages import Draw, Drawn
from demucs_server_worker.separation import peaks


def draw(chore: Draw) -> Drawn:
    """Look at every sample once.

    Raises:
        InputNotFound, InputUnreadable, DiskFull, OutputNotWritable: see there.
    """
    target = Path(chore.output)
    target.unlink(missing_ok=True)
    sha256 = peaks.write_peaks(Path(chore.path), chore.sha256, target, points=chore.points, samples=chore.samples)
    return Drawn(sha256=sha256)
