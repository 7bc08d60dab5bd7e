"""The chore `Probe`: what a song says that it is, read from its header and its first sound."""

from __future__ import annotations

import math
from pathlib import Path

from demucs_server_worker.assistant.messages import Probe, Probed
from demucs_server_worker.errors import InputTooLong, InputUnreadable, OutOfMemory
from demucs_server_worker.separation.decode import SourceInfo, open_source

# Where FFmpeg gives no length but guesses it from the bit rate of the first frames: off by a factor where that varies.
_GUESSED = frozenset({"mp3", "aac"})


def probe(chore: Probe) -> Probed:
    """Open the file and decode its first sound; the same judge, and the same words, as a worker's.

    Raises:
        InputNotFound, InputUnreadable, InputTooLarge, InputTooLong, UnsupportedFormat, NoAudio: it is hopeless.
    """
    limit = chore.max_duration_seconds
    try:
        with open_source(
            Path(chore.path), chore.name, max_file_bytes=chore.max_file_bytes, max_duration_seconds=limit
        ) as source:
            info = source.info
    except (OutOfMemory, MemoryError) as error:
        raise InputUnreadable(name=chore.name, detail="opening it takes more memory than any song needs") from error
    seconds = _seconds(info)
    if limit is not None and seconds is not None and seconds > limit and info.container not in _GUESSED:
        raise InputTooLong(name=chore.name, limit=f"{limit:g}")
    return Probed(
        duration_seconds=seconds,
        sample_rate=info.sample_rate,
        channels=info.channels,
        codec=info.codec,
        container=info.container,
    )


def _seconds(info: SourceInfo) -> float | None:
    seconds = info.declared_seconds
    return seconds if seconds is not None and math.isfinite(seconds) and seconds > 0 else None
