"""A stem as a picture: the lowest and the highest sample of each of some thousand stretches."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from demucs_server_worker.separation.fifo import Block
from demucs_server_worker.separation.finished import open_finished
from demucs_server_worker.separation.manifest import sha256_of
from demucs_server_worker.separation.outfiles import create_file, output_error

Samples = NDArray[np.float32]

FULL_SCALE = 2**15

# The header of version 2 of the files that BBC's audiowaveform writes and that peaks.js and others read: version,
# flags (0: 16 bits), Hz, samples a pair, pairs, channels (bbc/audiowaveform, doc/DataFormat.md).
_HEADER = struct.Struct("<iIiiIi")
_VERSION = 2


@dataclass(frozen=True)
class Peaks:
    """Lowest and highest samples.

    Attributes:
        sample_rate: Hz, of the sound.
        samples_per_point: samples that one pair stands for; the last one may stand for fewer.
        pairs: (points, 2), the lowest and the highest sample of all channels, 32768 being full scale.
    """

    sample_rate: int
    samples_per_point: int
    pairs: NDArray[np.int16]


def measure(blocks: Iterable[Block], sample_rate: int, samples_per_point: int) -> Peaks:
    """Look at every sample once, holding a block at a time.

    Args:
        blocks: (channels, samples) each, at nominal full scale ±1.
        sample_rate: Hz.
        samples_per_point: samples a channel in each stretch, at least 1.
    """
    stretches = _Stretches(samples_per_point)
    for block in blocks:
        stretches.add(block.min(axis=0), block.max(axis=0))
    low_and_high = stretches.finish()  # (points, 2)
    scaled = np.clip(np.rint(low_and_high * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1)
    return Peaks(sample_rate, samples_per_point, scaled.astype(np.int16))


class _Stretches:
    """Pairs of stretches that need not end where blocks end."""

    def __init__(self, samples_per_point: int) -> None:
        self._samples_per_point = samples_per_point
        self._pairs: list[Samples] = []
        self._open: list[Samples] = []  # pairs of the parts of the stretch that is not full yet
        self._missing = samples_per_point

    def add(self, low: Samples, high: Samples) -> None:
        """Take the next samples, (samples,) each."""
        first = min(self._missing, len(low))
        self._fill(low[:first], high[:first])
        whole = (len(low) - first) // self._samples_per_point * self._samples_per_point
        if whole:
            lows = low[first : first + whole].reshape(-1, self._samples_per_point)  # (points, samples)
            highs = high[first : first + whole].reshape(-1, self._samples_per_point)
            self._pairs.append(np.stack([lows.min(axis=1), highs.max(axis=1)], axis=1))  # (points, 2)
        self._fill(low[first + whole :], high[first + whole :])

    def _fill(self, low: Samples, high: Samples) -> None:
        if not len(low):
            return
        self._open.append(np.array([[low.min(), high.max()]]))  # (1, 2)
        self._missing -= len(low)
        if self._missing == 0:
            self._close()

    def _close(self) -> None:
        parts = np.concatenate(self._open)  # (parts, 2)
        self._pairs.append(np.array([[parts[:, 0].min(), parts[:, 1].max()]]))
        self._open, self._missing = [], self._samples_per_point

    def finish(self) -> Samples:
        """(points, 2)"""
        if self._open:
            self._close()
        return np.concatenate(self._pairs) if self._pairs else np.zeros((0, 2), np.float32)


def write_peaks(
    source: Path, sha256: str, target: Path, *, points: int, samples: int, check: Callable[[], None] = lambda: None
) -> str:
    """Measure a finished stem and write its peaks; on an error nothing of `target` stays.

    Args:
        source: the stem; a link is not followed.
        sha256: of its bytes as they were written, hexadecimal.
        target: a name that does not exist yet, in a folder that does.
        points: the most pairs that are wanted, at least 1.
        samples: a channel, about; says how many a pair stands for.
        check: called between blocks; may raise to stop.

    Returns:
        The hash of the file written, hexadecimal.

    Raises:
        InputNotFound, InputUnreadable: `source` is not what was written, or cannot be decoded.
        DiskFull, OutputNotWritable: see there.
    """

    def blocks(all_blocks: Iterable[Block]) -> Iterable[Block]:
        for block in all_blocks:
            check()
            yield block

    with open_finished(source, sha256) as sound:
        found = measure(blocks(sound.blocks()), sound.info.sample_rate, max(1, -(-samples // points)))
    fd = create_file(target)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(encode(found))
            file.flush()
            os.fsync(file.fileno())
        return sha256_of(target)
    except OSError as error:
        target.unlink(missing_ok=True)
        raise output_error(target, error) from error


def encode(peaks: Peaks) -> bytes:
    """The file's bytes: a header and the pairs, little-endian."""
    header = _HEADER.pack(_VERSION, 0, peaks.sample_rate, peaks.samples_per_point, len(peaks.pairs), 1)
    return header + peaks.pairs.astype("<i2").tobytes()
