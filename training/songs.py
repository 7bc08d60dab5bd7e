"""The training data: songs synthesised once into a cache on disk, and batches mixed anew from them."""

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from demucs_server_worker.demo.song import SAMPLE_RATE, STEMS, synthesise

TRUE_MIX_SHARE = 0.5
"""How often a training mix is a real song, whose parts share key and beat; else each stem comes from another song."""

GAIN_DB = 4.0
"""Each stem of a training mix is made louder or softer by up to this much."""


def write_song(folder: Path, seed: int, seconds: float) -> None:
    """Synthesise a song into ``folder`` as 16-bit integers, ``(stems, 2, samples)``, unless it is there already."""
    path = folder / f"{seed:06d}.npy"
    if path.exists():
        return
    song = synthesise(seed, seconds)
    stems = np.stack([song.stems[name] for name in STEMS])
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.save(file, np.round(np.clip(stems, -1.0, 1.0) * 32767.0).astype(np.int16))
    partial.replace(path)


def write_songs(folder: Path, count: int, seconds: float, processes: int) -> None:
    """Synthesise the songs of seeds 0 to ``count - 1`` into ``folder``; those already there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(processes) as pool:
        list(pool.map(write_song, [folder] * count, range(count), [seconds] * count, chunksize=4))


class Mixer:
    """Draws training batches from the songs in a folder.

    Args:
        folder: cache that :func:`write_songs` fills; it may still be growing.
        segment_samples: length of an excerpt.
        seed: of the draw.
    """

    def __init__(self, folder: Path, segment_samples: int, seed: int) -> None:
        self._folder = folder
        self._length = segment_samples
        self._rng = np.random.default_rng(seed)
        self._songs: dict[Path, tuple[NDArray[np.int16], float]] = {}
        self._paths: list[Path] = []

    def look_for_songs(self) -> int:
        """Take up the songs that have come since; return how many there are."""
        self._paths = sorted(self._folder.glob("*.npy"))
        return len(self._paths)

    def batch(self, size: int) -> torch.Tensor:
        """Return stems of ``size`` training mixes at unit power of the mix: ``(size, stems, 2, samples)``."""
        return torch.from_numpy(np.stack([self._mix() for _ in range(size)]))

    def _mix(self) -> NDArray[np.float32]:
        if self._rng.random() < TRUE_MIX_SHARE:
            excerpt = self._excerpt(slice(None))
        else:
            excerpt = np.concatenate([self._excerpt(slice(index, index + 1)) for index in range(len(STEMS))])
        for stem in excerpt:  # (2, samples)
            stem *= self._rng.choice([-1.0, 1.0]) * 10.0 ** (self._rng.uniform(-GAIN_DB, GAIN_DB) / 20.0)
            if self._rng.random() < 0.5:
                stem[:] = stem[::-1].copy()  # left and right change places
        return excerpt / (excerpt.sum(axis=0).std() + 1e-4)

    def _excerpt(self, stems: slice) -> NDArray[np.float32]:
        path = self._paths[self._rng.integers(len(self._paths))]
        if path not in self._songs:
            song = np.load(path, mmap_mode="r")
            self._songs[path] = song, float(song.sum(axis=0, dtype=np.int32).std())
        song, level = self._songs[path]
        start = self._rng.integers(song.shape[-1] - self._length + 1)
        return song[stems, :, start : start + self._length].astype(np.float32) / level


def held_out(seed: int, seconds: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mix ``(2, samples)`` and the stems ``(stems, 2, samples)`` of a song."""
    song = synthesise(seed, seconds, SAMPLE_RATE)
    return torch.from_numpy(song.mix), torch.from_numpy(np.stack([song.stems[name] for name in STEMS]))
