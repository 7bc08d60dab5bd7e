"""What is separated: songs of the user's own, or made ones; and how many forward passes they take."""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from pathlib import Path

from bench.paths import ROOT

RATE_HZ = 44_100
SEGMENT_SAMPLES = 343_980  # of htdemucs, at its 44.1 kHz
OVERLAP = 0.25


def add_flags(parser: argparse.ArgumentParser, *, songs: int, seconds: float) -> None:
    """`--songs`, `--seconds` and `--files`, with these defaults."""
    parser.add_argument("--songs", type=int, default=songs)
    parser.add_argument("--seconds", type=float, default=seconds, help="length of each")
    parser.add_argument("--files", type=Path, nargs="+", default=None, help="these songs, instead of made ones")


def chosen(arguments: argparse.Namespace, folder: Path) -> list[Path]:
    """The files that were named, or as many made ones in `folder` as wanted."""
    if arguments.files:
        return [path.absolute() for path in arguments.files]
    return [make(folder / f"song {n}.wav", arguments.seconds, seed=n) for n in range(arguments.songs)]


def make(path: Path, seconds: float, seed: int = 0) -> Path:
    """Chords over noise that swells; the time that a network takes does not depend on what it hears.

    Made by a child, since this process may be a manager's, whose memory is measured.
    """
    command = [sys.executable, "-m", "bench.songs", str(path.absolute()), str(seconds), str(seed)]
    subprocess.run(command, check=True, cwd=ROOT)
    return path


def _write(path: Path, seconds: float, seed: int) -> None:
    """Write it a minute at a time, so that an hour of it needs no more memory than that."""
    import numpy as np
    import soundfile

    generator = np.random.default_rng(seed)
    pitches = generator.uniform(80, 900, 4)
    path.parent.mkdir(parents=True, exist_ok=True)
    with soundfile.SoundFile(path, "w", RATE_HZ, 2, subtype="PCM_16") as file:
        for begin in range(0, round(seconds * RATE_HZ), 60 * RATE_HZ):
            at = np.arange(begin, min(begin + 60 * RATE_HZ, round(seconds * RATE_HZ))) / RATE_HZ
            chord = sum(np.sin(2 * np.pi * hertz * at) for hertz in pitches) * 0.05
            noise = generator.standard_normal((2, len(at))) * 0.05 * (1 + np.sin(at))
            file.write((chord + noise).T.astype(np.float32))


def seconds_of(path: Path) -> float:
    """How long a song is."""
    import soundfile

    return float(soundfile.info(path).duration)


def passes(seconds: float) -> int:
    """Forward passes of `htdemucs` for a song of so many seconds, at the default overlap and no shifts."""
    stride = int((1 - OVERLAP) * SEGMENT_SAMPLES)
    return math.ceil(round(seconds * RATE_HZ) / stride)


if __name__ == "__main__":
    _write(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
