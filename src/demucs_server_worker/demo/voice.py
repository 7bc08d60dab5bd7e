"""The singer: a pulse of the vocal cords, shaped by the formants of vowels, with consonants and breaths between."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from demucs_server_worker.demo.instruments import Held, envelope, hold
from demucs_server_worker.demo.oscillators import (
    FRAME,
    HOP,
    Signal,
    frames_of,
    from_frames,
    hertz,
    moving_average,
    noise,
    partials,
    phase_of,
    read_table,
    to_frames,
    wavetable,
)
from demucs_server_worker.demo.room import Stereo, pan
from demucs_server_worker.demo.score import Notes, Score

FORMANTS: Final = np.array(
    [
        [650.0, 1080.0, 2650.0, 2900.0, 3250.0],  # a
        [400.0, 1700.0, 2600.0, 3200.0, 3580.0],  # e
        [290.0, 1870.0, 2800.0, 3250.0, 3540.0],  # i
        [400.0, 800.0, 2600.0, 2800.0, 3000.0],  # o
        [350.0, 600.0, 2700.0, 2900.0, 3300.0],  # u
    ]
)  # (vowels, formants)
"""Centres of the formants of a tenor, hertz: Csound manual, appendix "Formant Values"."""

FORMANT_LEVELS: Final = np.array(
    [
        [0.0, -6.0, -7.0, -8.0, -22.0],
        [0.0, -14.0, -12.0, -14.0, -20.0],
        [0.0, -15.0, -18.0, -20.0, -30.0],
        [0.0, -10.0, -12.0, -12.0, -26.0],
        [0.0, -20.0, -17.0, -14.0, -26.0],
    ]
)  # (vowels, formants)
"""Their levels, decibels, from the same table."""

FORMANT_WIDTHS: Final = np.array([80.0, 100.0, 120.0, 130.0, 140.0])
"""Their widths, hertz, rounded from the same table."""

CONSONANTS: Final = ((4500.0, 9500.0, 0.09), (2200.0, 6500.0, 0.09), (1500.0, 8000.0, 0.025), (900.0, 4000.0, 0.03))
"""Noises like s, sh, t and k: lower and upper corner in hertz, length in seconds."""


@dataclass(frozen=True)
class Singer:
    """What tells one singer from another.

    Attributes:
        size: factor on the formants, 1 for a tenor, more for a shorter vocal tract.
        tilt: exponent of the decay of the pulse's harmonics.
        vibrato_rate: hertz.
        vibrato_depth: semitones to each side.
        glide: seconds from one note to the next.
        air: amplitude of the breath in the tone.
        diction: amplitude of the consonants.
    """

    size: float
    tilt: float
    vibrato_rate: float
    vibrato_depth: float
    glide: float
    air: float
    diction: float


def play_vocals(rng: np.random.Generator, score: Score, samples: int, sample_rate: int) -> Stereo:
    """Return the vocal stem, of shape ``(2, samples)``, sung by a random singer near the middle."""
    notes = score.vocals
    middle = float(np.median(notes.pitch))
    singer = Singer(
        size=1.0 + 0.012 * (middle - 60.0) + rng.uniform(-0.05, 0.08),
        tilt=rng.uniform(0.7, 1.1),
        vibrato_rate=rng.uniform(4.8, 6.8),
        vibrato_depth=rng.uniform(0.2, 0.6),
        glide=rng.uniform(0.04, 0.1),
        air=rng.uniform(0.01, 0.05),
        diction=rng.uniform(0.15, 0.45),
    )
    held = hold(notes, samples, sample_rate)
    tone = _cords(rng, singer, notes, held, samples, sample_rate)
    vowels = rng.integers(len(FORMANTS), size=notes.start.size)
    sung = to_frames(tone) * _mouth(singer, notes, vowels, samples, sample_rate)
    spoken = to_frames(noise(rng, samples)) * _tongue(rng, singer, notes, score.beat, samples, sample_rate)
    return pan(from_frames(sung + spoken, samples), rng.uniform(-0.15, 0.15))


def _cords(
    rng: np.random.Generator, singer: Singer, notes: Notes, held: Held, samples: int, sample_rate: int
) -> Signal:
    """Return the source, of shape ``(samples,)``: a bright pulse with glides, vibrato and a little drift, and air."""
    time = np.arange(samples) / sample_rate
    late = np.clip((held.age - 0.12) / 0.25, 0.0, 1.0)  # vibrato comes after the note has settled
    vibrato = singer.vibrato_depth * late * np.sin(2.0 * np.pi * singer.vibrato_rate * time + rng.uniform(0.0, 6.28))
    knots = np.arange(int(10.0 * time[-1]) + 2)  # the pitch wanders from one tenth of a second to the next
    drift = np.interp(10.0 * time, knots, rng.normal(0.0, 0.08, knots.size))
    pitch = moving_average(held.pitch, int(singer.glide * sample_rate)) + vibrato + drift
    highest = float(hertz(notes.pitch).max()) * 1.06
    table = wavetable(partials(singer.tilt, 0.0, 160), highest, sample_rate)
    pulse = read_table(table, phase_of(hertz(pitch), sample_rate, rng.random()))
    loudness = envelope(held, 0.04, 0.07)
    return loudness * (pulse + np.float32(singer.air) * noise(rng, samples))


def _mouth(
    singer: Singer, notes: Notes, vowels: NDArray[np.int64], samples: int, sample_rate: int
) -> NDArray[np.float32]:
    """Return the gain of the vocal tract, of shape ``(frames, bins)``: five resonances that move between vowels."""
    count = frames_of(samples)
    time = (np.arange(count) - 1) * HOP / sample_rate
    sounding = vowels[np.clip(np.searchsorted(notes.start, time, side="right") - 1, 0, None)]
    ease = int(0.06 * sample_rate / HOP)
    bins = np.arange(FRAME // 2 + 1) * (sample_rate / FRAME)
    gain = np.full((count, bins.size), 0.01, dtype=np.float32)
    for index, width in enumerate(FORMANT_WIDTHS):
        centre = moving_average(FORMANTS[sounding, index] * singer.size, ease)
        level = moving_average(10.0 ** (FORMANT_LEVELS[sounding, index] / 20.0), ease)
        away = ((bins[None, :] - centre[:, None]) / width).astype(np.float32)  # (frames, bins)
        gain += level[:, None].astype(np.float32) / (np.float32(1.0) + away**2)
    return gain


def _tongue(
    rng: np.random.Generator, singer: Singer, notes: Notes, beat: float, samples: int, sample_rate: int
) -> NDArray[np.float32]:
    """Return the gain of the noises, of shape ``(frames, bins)``: consonants before notes, breaths before phrases."""
    count = frames_of(samples)
    bins = np.arange(FRAME // 2 + 1) * (sample_rate / FRAME)
    gain = np.zeros((count, bins.size), dtype=np.float32)
    ends = np.concatenate(([-np.inf], (notes.start + notes.duration)[:-1]))
    for start, pause in zip(notes.start, notes.start - ends, strict=True):
        if pause > beat and start > 0.3:
            length = rng.uniform(0.15, 0.25)
            _puff(gain, bins, start - 0.05 - length, length, (600.0, 5000.0), 0.12 * singer.diction, sample_rate)
        if rng.random() < 0.6:
            low, high, length = CONSONANTS[rng.integers(len(CONSONANTS))]
            _puff(gain, bins, start - length, length, (low, high), singer.diction, sample_rate)
    return gain


def _puff(
    gain: NDArray[np.float32],
    bins: NDArray[np.floating],
    start: float,
    length: float,
    corners: tuple[float, float],
    amplitude: float,
    sample_rate: int,
) -> None:
    """Open the gain of the noise between two corners, from ``start`` seconds on, for ``length`` seconds, in place."""
    first = round(start * sample_rate / HOP) + 1
    last = first + max(2, round(length * sample_rate / HOP))
    first, last = max(first, 0), min(last, gain.shape[0])
    if first >= last:
        return
    low, high = corners
    shape = (bins / low) ** 4 / (1.0 + (bins / low) ** 4) / (1.0 + (bins / high) ** 4)
    swell = np.sin(np.pi * (np.arange(last - first) + 0.5) / (last - first))
    gain[first:last] += (amplitude * swell[:, None] * shape).astype(np.float32)
