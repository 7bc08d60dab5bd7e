"""A song in four stems whose truth is known."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from demucs_server_worker.demo.drums import play_drums
from demucs_server_worker.demo.instruments import play_bass, play_other
from demucs_server_worker.demo.room import Stereo, add_room, build_room
from demucs_server_worker.demo.score import compose
from demucs_server_worker.demo.voice import play_vocals

STEMS: Final = ("drums", "bass", "other", "vocals")
"""The stems in the order in which Demucs names them."""

SAMPLE_RATE: Final = 44_100
"""Hertz; what Demucs works at."""

_LEVELS_DB: Final = {"drums": (-2.0, 3.0), "bass": (-3.0, 2.0), "other": (-3.0, 2.0), "vocals": (-2.0, 3.0)}
"""Power of each stem against the others, decibels: the lowest and the highest."""

_ECHOES: Final = {"drums": (0.03, 0.12), "bass": (0.0, 0.02), "other": (0.08, 0.25), "vocals": (0.06, 0.22)}
"""Amplitude of the room on each stem: the least and the most."""


@dataclass(frozen=True)
class Song:
    """A mix and the stems it is the sum of.

    Attributes:
        sample_rate: hertz.
        stems: each stem by name, in the order of :data:`STEMS`, of shape ``(2, samples)``.
    """

    sample_rate: int
    stems: dict[str, NDArray[np.float32]]

    @property
    def mix(self) -> NDArray[np.float32]:
        """The exact sum of the stems in their order, of shape ``(2, samples)``."""
        drums, bass, other, vocals = self.stems.values()
        return drums + bass + other + vocals


def synthesise(seed: int, seconds: float, sample_rate: int = SAMPLE_RATE) -> Song:
    """Return a song of drums, bass, other and vocals. The same arguments give the same bytes.

    Key, tempo, harmony, arrangement, timbres, levels, places and the room are random, drawn from PCG64.

    Args:
        seed: any integer from 0 up.
        seconds: length; the song has ``round(seconds * sample_rate)`` samples.
        sample_rate: hertz, at least 8,000.

    Returns:
        The song, its mix's peak between 0.6 and 0.9 of full scale; one gain for all stems sees to that.

    Raises:
        ValueError: no sample fits in ``seconds``, or the rate is too low for the instruments.
    """
    samples = round(seconds * sample_rate)
    if samples < 1:
        raise ValueError(f"a song needs at least one sample, {seconds} s at {sample_rate} Hz has none")
    if sample_rate < 8_000:
        raise ValueError(f"sample_rate must be at least 8000 Hz, not {sample_rate}")
    rng = np.random.Generator(np.random.PCG64(seed))
    score = compose(rng, seconds)
    room = build_room(rng, sample_rate)
    dry = {
        "drums": play_drums(rng, score, samples, sample_rate),
        "bass": play_bass(rng, score, samples, sample_rate),
        "other": play_other(rng, score, samples, sample_rate),
        "vocals": play_vocals(rng, score, samples, sample_rate),
    }
    stems = {}
    for name in STEMS:
        wet = add_room(dry[name], room, rng.uniform(*_ECHOES[name]))
        stems[name] = _at_level(wet, rng.uniform(*_LEVELS_DB[name]))
    return _within_scale(Song(sample_rate, stems), rng.uniform(0.6, 0.9))


def _at_level(stem: Stereo, level_db: float) -> Stereo:
    """Return the stem with a power of ``level_db`` decibels; silence stays silence."""
    power = float(np.mean(np.square(stem, dtype=np.float64)))
    if power == 0.0:
        return stem
    return stem * np.float32(10.0 ** (level_db / 20.0) / np.sqrt(power))


def _within_scale(song: Song, peak: float) -> Song:
    """Return the song under one gain for all stems, so that the loudest sample of the mix is ``peak``."""
    loudest = float(np.max(np.abs(song.mix)))
    gain = np.float32(peak / loudest) if loudest > 0.0 else np.float32(1.0)
    return Song(song.sample_rate, {name: stem * gain for name, stem in song.stems.items()})
