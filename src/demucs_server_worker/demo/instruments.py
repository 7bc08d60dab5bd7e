"""Bass, pads and plucks: voices that play one note at a time from a table of their wave."""

from dataclasses import dataclass

import numpy as np

from demucs_server_worker.demo.oscillators import (
    Curve,
    Signal,
    hertz,
    moving_average,
    partials,
    phase_of,
    read_table,
    wavetable,
)
from demucs_server_worker.demo.room import Stereo, pan
from demucs_server_worker.demo.score import Notes, Score


@dataclass(frozen=True)
class Held:
    """The notes of a voice, spread over its samples. Every array has the shape ``(samples,)``.

    Attributes:
        pitch: MIDI number of the note that sounds or sounded last.
        age: seconds since it began.
        left: seconds until it ends, negative after that.
        strength: 0 to 1; 0 before the first note.
    """

    pitch: Curve
    age: Curve
    left: Curve
    strength: Curve


def hold(notes: Notes, samples: int, sample_rate: int) -> Held:
    """Return each sample's note, age and time left. Before the first note its pitch is held at strength 0."""
    starts = np.minimum((notes.start * sample_rate).astype(np.int64), samples)
    bounds = np.concatenate(([0], starts, [samples]))
    counts = np.diff(bounds)
    first = np.arange(-1, notes.start.size)  # -1: the silence before the first note
    note = np.maximum(first, 0)
    time = np.arange(samples) / sample_rate
    age = time - np.repeat(notes.start[note], counts)
    return Held(
        pitch=np.repeat(notes.pitch[note], counts),
        age=np.maximum(age, 0.0),
        left=np.repeat(notes.duration[note], counts) - age,
        strength=np.repeat(np.where(first < 0, 0.0, notes.strength[note]), counts),
    )


def envelope(held: Held, attack: float, release: float) -> Signal:
    """Return a loudness that rises within ``attack`` seconds and falls to zero over the last ``release`` seconds."""
    rise = np.minimum(held.age / attack, 1.0)
    fall = np.clip(held.left / release, 0.0, 1.0)
    loudness: Signal = (held.strength * rise * fall).astype(np.float32)
    return loudness


def play_bass(rng: np.random.Generator, score: Score, samples: int, sample_rate: int) -> Stereo:
    """Return the bass stem, of shape ``(2, samples)``: a dark wave whose upper partials die first, in the middle."""
    held = hold(score.bass, samples, sample_rate)
    pitch = moving_average(held.pitch, int(rng.uniform(0.002, 0.015) * sample_rate))
    phase = phase_of(hertz(pitch), sample_rate, rng.random())
    highest = float(hertz(score.bass.pitch).max())
    tilt = rng.uniform(1.0, 1.8)
    colour = partials(tilt, rng.uniform(0.0, 0.8), 40)
    number = np.arange(1, 41)
    dark = wavetable(colour * np.exp(-number / rng.uniform(0.8, 1.6)), highest, sample_rate)
    bright = wavetable(colour * np.exp(-number / rng.uniform(4.0, 9.0)), highest, sample_rate)
    opening = np.exp(-held.age / rng.uniform(0.05, 0.25)).astype(np.float32) * np.float32(rng.uniform(0.4, 0.9))
    low = read_table(dark, phase)
    wave = low + opening * (read_table(bright, phase) - low)
    body = np.exp(-held.age / rng.uniform(0.4, 2.5)).astype(np.float32)
    return pan(wave * body * envelope(held, rng.uniform(0.003, 0.012), rng.uniform(0.03, 0.08)), 0.0)


def play_other(rng: np.random.Generator, score: Score, samples: int, sample_rate: int) -> Stereo:
    """Return the stem of everything else, of shape ``(2, samples)``: wide pads under a plucked arpeggio."""
    pads = _pads(rng, score, samples, sample_rate)
    plucks = _plucks(rng, score, samples, sample_rate)
    balance = np.float32(rng.uniform(0.35, 0.65))
    return (1.0 - balance) * _level(pads) + balance * _level(plucks)


def _level(stereo: Stereo) -> Stereo:
    """Return the sound at unit power."""
    return stereo / np.float32(np.sqrt(np.mean(stereo**2)) + 1e-9)


def _pads(rng: np.random.Generator, score: Score, samples: int, sample_rate: int) -> Stereo:
    """Return four sustained voices, the left ear a few cents below the right, which makes them wide."""
    highest = max(float(hertz(voice.pitch).max()) for voice in score.pads) * 1.01
    colour = partials(rng.uniform(1.0, 1.7), rng.uniform(0.0, 1.0), 40)
    colour *= np.exp(-np.arange(40) / rng.uniform(4.0, 14.0))
    table = wavetable(colour, highest, sample_rate)
    cents = rng.uniform(3.0, 8.0)
    attack, release = rng.uniform(0.03, 0.3), rng.uniform(0.08, 0.25)
    stereo = np.zeros((2, samples), dtype=np.float32)
    for voice in score.pads:
        held = hold(voice, samples, sample_rate)
        loudness = envelope(held, attack, release)
        for ear, sign in enumerate((-1.0, 1.0)):
            frequency = hertz(held.pitch + sign * cents / 100.0)
            stereo[ear] += loudness * read_table(table, phase_of(frequency, sample_rate, rng.random()))
    return stereo


def _plucks(rng: np.random.Generator, score: Score, samples: int, sample_rate: int) -> Stereo:
    """Return the arpeggio: notes that begin bright and die away, each voice at its own place."""
    highest = max(float(hertz(voice.pitch).max()) for voice in score.plucks) * 1.01
    colour = partials(rng.uniform(1.0, 1.6), rng.uniform(0.0, 1.0), 30)
    number = np.arange(30)
    bright = wavetable(colour * np.exp(-number / rng.uniform(5.0, 12.0)), highest, sample_rate)
    dull = wavetable(colour * np.exp(-number / rng.uniform(0.8, 2.0)), highest, sample_rate)
    ring, shine = rng.uniform(0.15, 0.5), rng.uniform(0.03, 0.12)
    width = rng.uniform(0.2, 0.8)
    stereo = np.zeros((2, samples), dtype=np.float32)
    for voice, place in zip(score.plucks, (-width, 0.3 * width, width), strict=True):
        held = hold(voice, samples, sample_rate)
        phase = phase_of(hertz(held.pitch), sample_rate, rng.random())
        soft = read_table(dull, phase)
        glow = np.exp(-held.age / shine).astype(np.float32)
        wave = soft + glow * (read_table(bright, phase) - soft)
        wave *= np.exp(-held.age / ring).astype(np.float32) * envelope(held, 0.002, 0.03)
        stereo += pan(wave, place)
    return stereo
