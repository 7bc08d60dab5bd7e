"""A batch of songs: `demucs-server-worker separate` against Demucs' own command, on the same files and weights.

    python -m bench.throughput --repo FOLDER_WITH_htdemucs [--songs 2] [--seconds 60]

One after the other, in the same run: Demucs; ours in fp32; ours with precision `auto`. Processes start, import and
load within the time, as they do for a user; converting a model for OpenVINO, which happens once a machine, is done
before and shown in a row of its own. Then how far our stems are from those of Demucs. Without --repo, the weights are
those that Demucs publishes, which must be on the machine.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

from bench import report

RATE_HZ = 44_100
MODEL = "htdemucs"
TARGETS = {"auto": 3.0, "fp32": 1.3}
AGREEMENT_DB = {"auto": 40.0, "fp32": 90.0}


class Ran(NamedTuple):
    """A command that ended: wall seconds, and the largest memory of its processes together, bytes."""

    seconds: float
    peak_bytes: int


def main() -> None:
    """Read the flags, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repo", type=Path, default=None, help="folder of local models, as .th files")
    parser.add_argument("--songs", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = _measure(Path(folder), arguments)
    report.write("throughput", rows, model=MODEL, songs=arguments.songs, seconds=arguments.seconds)


def _measure(folder: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    os.environ["DEMUCS_WORKER_CACHE_DIR"] = str(folder / "cache")  # so that a conversion is made, and measured
    songs = [_write_song(folder / f"song {n}.wav", arguments.seconds, seed=n) for n in range(arguments.songs)]
    short = _write_song(folder / "short.wav", 1.0, seed=99)
    first = _ours([short], folder / "first", arguments.repo, "auto")
    theirs = _demucs(songs, folder / "demucs", arguments.repo)
    rows: list[dict[str, Any]] = [
        {"what": "one second of audio, converting the model included, s", "ours": first.seconds}
    ]
    for precision in ("fp32", "auto"):
        out = folder / precision
        ours = _ours(songs, out, arguments.repo, precision)
        rows += [
            {
                "what": f"{len(songs)} songs of {arguments.seconds:g} s, {precision}: wall time, s",
                "ours": ours.seconds,
                "theirs": theirs.seconds,
                "ratio": theirs.seconds / ours.seconds,
                "target": TARGETS[precision],
            },
            {
                "what": f"{precision}: peak memory of all processes, MB",
                "ours": ours.peak_bytes / 1e6,
                "theirs": theirs.peak_bytes / 1e6,
                "ratio": theirs.peak_bytes / ours.peak_bytes,
            },
            {
                "what": f"{precision}: stems against those of Demucs, worst, dB",
                "ours": min(_agreement(song, out, folder / "demucs") for song in songs),
                "target": AGREEMENT_DB[precision],
            },
        ]
    return rows


def _write_song(path: Path, seconds: float, seed: int) -> Path:
    """Chords over noise that swells; the time that a network takes does not depend on what it hears."""
    generator = np.random.default_rng(seed)
    at = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    chord = sum(np.sin(2 * np.pi * hertz * at) for hertz in generator.uniform(80, 900, 4)) * 0.05
    noise = generator.standard_normal((2, len(at))) * 0.05 * (1 + np.sin(at))
    soundfile.write(path, (chord + noise).T.astype(np.float32), RATE_HZ, subtype="FLOAT")
    return path


def _demucs(songs: list[Path], out: Path, repo: Path | None) -> Ran:
    where = ["--repo", str(repo)] if repo else []
    options = ["-n", MODEL, *where, "--shifts", "0", "--float32", "--clip-mode", "none", "-o", str(out)]
    return _run([sys.executable, "-m", "demucs", *options, *map(str, songs)])


def _ours(songs: list[Path], out: Path, repo: Path | None, precision: str) -> Ran:
    where = ["--repo", str(repo)] if repo else []
    options = ["-n", MODEL, *where, "--precision", precision, "--float32", "--clip-mode", "none", "-o", str(out)]
    return _run([sys.executable, "-m", "demucs_server_worker", "separate", *options, *map(str, songs)])


def _run(command: list[str]) -> Ran:
    """Raises CalledProcessError with what the command said."""
    begun = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(command, stdout=said, stderr=said)
        peak = 0
        while child.poll() is None:
            peak = max(peak, report.memory_of_family(child.pid))
            time.sleep(0.05)
        seconds = time.perf_counter() - begun
        if child.returncode:
            said.seek(0)
            raise subprocess.CalledProcessError(child.returncode, command, said.read().decode())
    return Ran(seconds, peak)


def _agreement(song: Path, ours: Path, theirs: Path) -> float:
    """The worst stem's energy over that of its difference to Demucs' stem, dB."""
    found = []
    for stem in ("drums", "bass", "other", "vocals"):
        (one,), (other,) = (list(folder.rglob(f"{song.stem}/{stem}.wav")) for folder in (ours, theirs))
        expected, _ = soundfile.read(other)
        got, _ = soundfile.read(one)
        found.append(10 * np.log10(np.square(expected).sum() / max(np.square(expected - got).sum(), 1e-30)))
    return float(min(found))


if __name__ == "__main__":
    main()
