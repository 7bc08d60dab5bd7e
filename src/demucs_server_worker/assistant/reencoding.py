"""The chore `Reencode`: a finished stem in another format."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from demucs_server_worker.assistant.messages import Reencode, Reencoded
from demucs_server_worker.separation import reencode as stems


def reencode(chore: Reencode) -> Reencoded:
    """Decode, and encode again.

    Raises:
        InputNotFound, InputUnreadable, DiskFull, OutputNotWritable: see there.
    """
    target = Path(chore.output)
    target.unlink(missing_ok=True)
    made = stems.reencode(Path(chore.path), chore.sha256, target, chore.options, stem=chore.stem, samples=chore.samples)
    return Reencoded(**asdict(made))
