"""A process of its own that separates one long song and prints the most memory it ever had.

`python -m tests.memory_probe cheap SECONDS FOLDER` with a model that costs nothing, on 8 kHz mono, every stem too loud;
`python -m tests.memory_probe demo SECONDS FOLDER` with the demo model, on 44.1 kHz stereo.
"""

from __future__ import annotations

import resource
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from demucs_server_worker.separation.engine import Engine
from tests.audio_files import tones
from tests.separations import Shares, put_on_shelf, separate

_KIND: dict[str, tuple[int, int, dict[str, Any]]] = {
    "cheap": (8_000, 1, {"stems": ("drums", "bass")}),
    "demo": (44_100, 2, {"format": "ogg", "clip_mode": "clamp"}),
}


def main(kind: str, seconds: int, folder: Path) -> None:
    """Make the song, separate it, throw the stems away, and print bytes."""
    rate, channels, options = _KIND[kind]
    song = write_long(folder / "song.flac", seconds, rate, channels)
    with pytest.MonkeyPatch.context() as patch:
        if kind == "cheap":
            put_on_shelf(patch, Shares((3.0, 3.0, 1.0, 1.0), segment=7.8, sample_rate=rate))
        done = separate(Engine(device="cpu", threads=1), song, folder / "out", **options)
    if round(done.result.duration_seconds) != seconds:
        raise SystemExit(f"{done.result.duration_seconds} s were separated, not {seconds}")
    shutil.rmtree(folder / "out")
    print(peak_bytes())


def write_long(path: Path, seconds: int, rate: int, channels: int) -> Path:
    """Ten seconds of tones over and over, never in memory together."""
    piece = tones(10 * rate, rate, channels).T
    with soundfile.SoundFile(path, "w", rate, channels, "PCM_16") as file:
        for _ in range(seconds // 10):
            file.write(piece * np.float32(0.9))
    return path


def peak_bytes() -> int:
    """The most memory that this process ever had in RAM."""
    # What getrusage says would include the parent's peak, which a child inherits through fork.
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
