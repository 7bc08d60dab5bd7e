"""The first pass over a song: its length, and the mean and standard deviation that Demucs normalises by."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from demucs_server_worker.errors import NoAudio
from demucs_server_worker.separation.decode import Source
from demucs_server_worker.separation.opening import open_file
from demucs_server_worker.separation.resample import Resampler

# Demucs adds it to the standard deviation, so that silence is not divided by zero (demucs 4.1, `demucs/api.py`).
STD_FLOOR = 1e-8


@dataclass(frozen=True)
class Scan:
    """What the first pass found.

    Attributes:
        length: samples at the source's rate.
        model_length: samples at the model's rate.
        mean, std: of the mono mix at the model's rate; `std` has STD_FLOOR added.
        peak: largest absolute sample of the stereo mix at the source's rate.
        seed: for shifts: the same for the same audio, whatever its name and whenever it comes.
    """

    length: int
    model_length: int
    mean: float
    std: float
    peak: float
    seed: int


def scan(source: Source, model_rate: int, on_samples: Callable[[int], None]) -> Scan:
    """Decode the whole song once, holding a block at a time.

    Args:
        source: the open song; it is read to its end.
        model_rate: Hz.
        on_samples: called with the samples decoded so far; may raise to stop.

    Raises:
        NoAudio: when there is not one sample.
        InputError: whatever decoding finds wrong.
    """
    moments = _Moments()
    length = 0
    peak = 0.0
    resampler = Resampler(source.info.sample_rate, model_rate)
    for block in source.blocks():
        length += block.shape[-1]
        peak = max(peak, float(np.abs(block).max(initial=0.0)))
        moments.add(resampler.push(block))
        on_samples(length)
    moments.add(resampler.finish())
    if length == 0 or moments.count == 0:
        raise NoAudio(name=source.name, detail="it holds no samples")
    return Scan(
        length=length,
        model_length=moments.count,
        mean=moments.mean,
        std=moments.std + STD_FLOOR,
        peak=peak,
        seed=moments.seed,
    )


class _Moments:
    """Mean and standard deviation of the mono mix, summed in double precision."""

    def __init__(self) -> None:
        self.count = 0
        self._sum = 0.0
        self._squares = 0.0

    def add(self, block: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
        """Add the next samples, (channels, samples)."""
        mono = block.mean(axis=0).astype(np.float64)
        self.count += mono.size
        self._sum += float(mono.sum())
        self._squares += float(np.square(mono).sum())  # not `dot`, whose sum depends on the number of threads

    @property
    def mean(self) -> float:
        return self._sum / self.count

    @property
    def std(self) -> float:
        """Over count - 1, as torch computes it; 0 for a single sample."""
        if self.count < 2:
            return 0.0
        return math.sqrt(max(0.0, self._squares - self.count * self.mean**2) / (self.count - 1))

    @property
    def seed(self) -> int:
        text = f"{self.count} {self._sum.hex()} {self._squares.hex()}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


@dataclass(frozen=True)
class FileMark:
    """What tells a file from another that took its place."""

    size: int
    modified_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path, name: str) -> FileMark:
        """The mark of the file at `path` as it is now; errors call it `name`.

        Raises:
            InputError: when it cannot be opened.
        """
        with open_file(path, name, None) as file:
            stat = os.fstat(file.fileno())
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ino)
