"""Kick, snare and hats: each drum is struck once, and the blow is laid where the score says."""

import numpy as np
from numpy.typing import NDArray

from demucs_server_worker.demo.oscillators import Signal, band, decay, noise
from demucs_server_worker.demo.room import Stereo, pan
from demucs_server_worker.demo.score import Notes, Score


def play_drums(rng: np.random.Generator, score: Score, samples: int, sample_rate: int) -> Stereo:
    """Return the drum stem, of shape ``(2, samples)``, with a random kit."""
    kick = lay(_kick(rng, sample_rate), score.kick, samples, sample_rate)
    snare = lay(_snare(rng, sample_rate), score.snare, samples, sample_rate)
    closed, opened = _hats(rng, sample_rate)
    is_open = score.hat.pitch > 0.5
    hats = lay(closed, _only(score.hat, ~is_open), samples, sample_rate)
    hats += lay(opened, _only(score.hat, is_open), samples, sample_rate)
    stereo = pan(kick * np.float32(rng.uniform(0.8, 1.1)), 0.0)
    stereo += pan(snare * np.float32(rng.uniform(0.45, 0.75)), rng.uniform(-0.15, 0.15))
    stereo += pan(hats * np.float32(rng.uniform(0.2, 0.4)), rng.uniform(-0.5, 0.5))
    return stereo


def lay(blow: Signal, hits: Notes, samples: int, sample_rate: int) -> Signal:
    """Return ``blow`` repeated at each hit, of shape ``(samples,)``; what reaches past the end is cut off."""
    track = np.zeros(samples + blow.size, dtype=np.float32)
    for start, strength in zip((hits.start * sample_rate).astype(np.int64), hits.strength, strict=True):
        if start < samples:
            track[start : start + blow.size] += np.float32(strength) * blow
    return track[:samples]


def _only(hits: Notes, wanted: NDArray[np.bool_]) -> Notes:
    return Notes(hits.start[wanted], hits.duration[wanted], hits.pitch[wanted], hits.strength[wanted])


def _loud(blow: Signal) -> Signal:
    """Return the blow with a peak of 1, its end faded so that it does not click."""
    fade = min(blow.size, 256)
    blow[-fade:] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    loud: Signal = blow / np.max(np.abs(blow))
    return loud


def _kick(rng: np.random.Generator, sample_rate: int) -> Signal:
    """Return a kick: a sine that falls from some 200 Hz to some 50, and a click."""
    samples = int(0.4 * sample_rate)
    time = np.arange(samples) / sample_rate
    final, drop, speed = rng.uniform(44.0, 62.0), rng.uniform(80.0, 220.0), rng.uniform(0.015, 0.045)
    turns = final * time + drop * speed * (1.0 - np.exp(-time / speed))
    body = np.sin(2.0 * np.pi * turns).astype(np.float32) * decay(samples, rng.uniform(0.06, 0.13), sample_rate)
    click = band(noise(rng, samples), 1000.0, 6000.0, sample_rate) * decay(samples, 0.004, sample_rate)
    return _loud(body + np.float32(rng.uniform(0.1, 0.4)) * click)


def _snare(rng: np.random.Generator, sample_rate: int) -> Signal:
    """Return a snare: two modes of the head between 160 and 400 Hz, and the noise of the wires."""
    samples = int(0.35 * sample_rate)
    time = np.arange(samples, dtype=np.float32) / np.float32(sample_rate)
    head = np.float32(rng.uniform(160.0, 240.0))
    two_pi = np.float32(2.0 * np.pi)
    modes = np.sin(two_pi * head * time) + np.float32(0.5) * np.sin(two_pi * np.float32(1.6) * head * time)
    modes *= decay(samples, rng.uniform(0.03, 0.06), sample_rate)
    wires = band(noise(rng, samples), rng.uniform(900.0, 2200.0), rng.uniform(6000.0, 11000.0), sample_rate)
    wires *= decay(samples, rng.uniform(0.045, 0.1), sample_rate)
    return _loud(np.float32(rng.uniform(0.3, 0.7)) * modes + np.float32(1.2) * wires)


def _hats(rng: np.random.Generator, sample_rate: int) -> tuple[Signal, Signal]:
    """Return a closed and an open hat: noise above some 7 kHz that dies within 20 to 50, or 120 to 250 ms."""
    samples = int(0.5 * sample_rate)
    low = rng.uniform(5500.0, 9000.0)
    metal = band(noise(rng, samples), low, 16000.0, sample_rate)
    metal = band(metal, low, 18000.0, sample_rate)
    closed = metal * decay(samples, rng.uniform(0.02, 0.05), sample_rate)
    opened = metal * decay(samples, rng.uniform(0.12, 0.25), sample_rate)
    return _loud(closed), _loud(opened)
