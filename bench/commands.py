"""The two commands that are compared, run as a user runs them, and what their stems have in common."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import soundfile

from bench import songs
from bench.paths import CONVERTED

STEMS = ("drums", "bass", "other", "vocals")

# Demucs shifts at random by default, which costs it time and makes runs differ. Its stems are to be comparable.
PLAIN = ("--shifts", "0", "--float32", "--clip-mode", "none")


class Ran(NamedTuple):
    """Commands that ended: wall seconds, and the largest memory of their processes together, bytes."""

    seconds: float
    peak_bytes: int


def demucs(files: Sequence[Path], out: Path, *, model: str, repo: Path | None, more: Sequence[str] = ()) -> Ran:
    """Demucs' own command."""
    return run([sys.executable, "-m", "demucs", *_flags(model, repo, out), *PLAIN, *more, *map(str, files)])


def ours(files: Sequence[Path], out: Path, *, model: str, repo: Path | None, more: Sequence[str] = ()) -> Ran:
    """`demucs-server-worker separate`."""
    command = [sys.executable, "-m", "demucs_server_worker", "separate"]
    return run([*command, *_flags(model, repo, out), *PLAIN, *more, *map(str, files)])


def warm_up(folder: Path, *, model: str, repo: Path | None, more: Sequence[str] = ()) -> Ran:
    """A second of sound through ours: converts the model, where that was not done before."""
    return ours([songs.make(folder / "warm up.wav", 1.0)], folder / "warm up", model=model, repo=repo, more=more)


def run(command: Sequence[str]) -> Ran:
    """Run to the end, looking at the memory of all its processes twenty times a second.

    Raises:
        CalledProcessError: with what the command said.
    """
    begun = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        environment = {**os.environ, "DEMUCS_WORKER_CACHE_DIR": str(CONVERTED)}
        child = subprocess.Popen(command, stdout=said, stderr=said, stdin=subprocess.DEVNULL, env=environment)
        peak = 0
        try:
            while child.poll() is None:
                peak = max(peak, memory_of_family(child.pid))
                time.sleep(0.05)
        finally:
            child.terminate()
            child.wait()
        seconds = time.perf_counter() - begun
        if child.returncode:
            said.seek(0)
            output = said.read().decode(errors="replace")
            sys.stderr.write(output[-2000:])
            raise subprocess.CalledProcessError(child.returncode, command, output)
    return Ran(seconds, peak)


def memory_of_family(pid: int) -> int:
    """Bytes that a process and its descendants hold now. Pages that several of them map count for each."""
    total = 0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in [process, *process.children(recursive=True)]:
            with suppress(psutil.Error):
                total += each.memory_info().rss
    return total


def worst_agreement(files: Sequence[Path], one: Path, other: Path, stems: Sequence[str] = STEMS) -> float:
    """The smallest of all stems' `agreement`, dB."""
    return min(
        agreement(_stem(one, file, stem), _stem(other, file, stem)) for file in files for stem in stems
    )  # fmt: skip


def agreement(got: Path, expected: Path) -> float:
    """The energy of a stem over that of its difference to the other, dB."""
    reference, _ = soundfile.read(expected)
    difference = reference - soundfile.read(got)[0]
    return float(10 * np.log10(np.square(reference).sum() / max(np.square(difference).sum(), 1e-30)))


def _stem(folder: Path, song: Path, stem: str) -> Path:
    (found,) = (path for path in folder.rglob(f"{stem}.wav") if path.parent.name == song.stem)
    return found


def _flags(model: str, repo: Path | None, out: Path) -> list[str]:
    return ["-n", model, *(["--repo", str(repo)] if repo else []), "-o", str(out)]
