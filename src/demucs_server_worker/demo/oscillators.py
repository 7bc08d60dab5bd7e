"""The raw material of every instrument: periodic waves, noise, envelopes and filters, on whole arrays at a time.

Pure numpy. Signals are mono ``float32`` arrays of shape ``(samples,)``; times are seconds, frequencies hertz.
"""

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Signal: TypeAlias = NDArray[np.float32]
Curve: TypeAlias = NDArray[np.float64]

TABLE_SIZE: Final = 4096
"""Points in one period of a wave; read with linear interpolation, its error lies 90 dB below the wave."""

FRAME: Final = 1024
"""Samples in one frame of the time-varying filter (23 ms at 44.1 kHz)."""

HOP: Final = FRAME // 4


def partials(tilt: float, odd: float, count: int) -> Curve:
    """Return the amplitudes of the harmonics of a simple tone.

    Args:
        tilt: exponent of the decay, 1 for a saw, 2 for a triangle.
        odd: 0 keeps the even harmonics, 1 takes them away.
        count: how many harmonics.

    Returns:
        Amplitudes of harmonic 1, 2, …, of shape ``(count,)``.
    """
    number = np.arange(1, count + 1, dtype=np.float64)
    amplitude: Curve = number**-tilt
    amplitude[1::2] *= 1.0 - odd
    return amplitude


def wavetable(amplitudes: Curve, highest: float, sample_rate: int) -> Signal:
    """Return one period of a wave that stays below the Nyquist frequency.

    Args:
        amplitudes: of harmonic 1, 2, …, of shape ``(harmonics,)``.
        highest: the highest fundamental that will be played, hertz. Harmonics that would alias there are left out.
        sample_rate: hertz.

    Returns:
        ``(TABLE_SIZE + 1,)``: the last point repeats the first, for interpolation. Its power is that of a unit sine.
    """
    audible = max(1, min(amplitudes.size, int(0.45 * sample_rate / highest)))
    spectrum = np.zeros(TABLE_SIZE // 2 + 1, dtype=np.complex128)
    spectrum[1 : audible + 1] = -1j * amplitudes[:audible]
    period = np.fft.irfft(spectrum, TABLE_SIZE)
    period *= np.sqrt(0.5) / (np.sqrt(np.mean(period**2)) + 1e-12)
    return np.append(period, period[0]).astype(np.float32)


def phase_of(frequency: Curve, sample_rate: int, start: float = 0.0) -> Curve:
    """Return the running phase of an oscillator, in periods from 0 to 1.

    Args:
        frequency: hertz at each sample, of shape ``(samples,)``.
        sample_rate: hertz.
        start: phase at the first sample, periods.
    """
    phase = np.cumsum(frequency)
    phase /= sample_rate
    phase += start
    phase -= np.floor(phase)
    return phase


def read_table(table: Signal, phase: Curve) -> Signal:
    """Return the wave of ``table`` at ``phase`` (periods from 0 to 1, shape ``(samples,)``), same shape."""
    position = phase * TABLE_SIZE
    index = position.astype(np.int32)
    np.minimum(index, TABLE_SIZE - 1, out=index)
    fraction = (position - index).astype(np.float32)
    left = table[index]
    wave: Signal = left + fraction * (table[index + 1] - left)
    return wave


def hertz(pitch: Curve) -> Curve:
    """Return the frequency of MIDI pitches (69 is 440 Hz, 12 an octave), same shape."""
    frequency: Curve = 440.0 * np.exp2((pitch - 69.0) / 12.0)
    return frequency


def moving_average(curve: Curve, width: int) -> Curve:
    """Return ``curve`` averaged over ``width`` samples around each one; the ends are held. Same shape."""
    if width <= 1:
        return curve
    before = width // 2
    padded = np.pad(curve, (before + 1, width - before - 1), mode="edge")
    total = np.cumsum(padded)
    average: Curve = (total[width:] - total[:-width]) / width
    return average


def decay(samples: int, seconds: float, sample_rate: int) -> Signal:
    """Return ``exp(-t / seconds)`` of shape ``(samples,)``."""
    time = np.arange(samples, dtype=np.float32) / np.float32(sample_rate)
    falling: Signal = np.exp(-time / np.float32(seconds))
    return falling


def noise(rng: np.random.Generator, samples: int) -> Signal:
    """Return white Gaussian noise of unit power, of shape ``(samples,)``."""
    return rng.standard_normal(samples, dtype=np.float32)


def band(signal: Signal, low: float, high: float, sample_rate: int) -> Signal:
    """Return what ``signal`` holds between two frequencies, with slopes of 12 dB an octave and no shift in time.

    Args:
        signal: ``(samples,)``.
        low: lower corner, hertz; 0 keeps everything below ``high``.
        high: upper corner, hertz.
        sample_rate: hertz.
    """
    size = fast_length(signal.size)
    frequency = np.fft.rfftfreq(size, 1.0 / sample_rate)
    gain = 1.0 / (1.0 + (frequency / high) ** 2)
    if low > 0.0:
        ratio = (frequency / low) ** 2
        gain *= ratio / (1.0 + ratio)
    filtered = np.fft.irfft(np.fft.rfft(signal, size) * gain.astype(np.float32), size)[: signal.size]
    return filtered.astype(np.float32, copy=False)


def fast_length(samples: int) -> int:
    """Return the smallest length of the form 2^a 3^b 5^c that is at least ``samples``: such transforms are fast."""
    best = 1 << max(0, samples - 1).bit_length()
    fives = 1
    while fives < best:
        threes = fives
        while threes < best:
            twos = threes << max(0, -(-samples // threes) - 1).bit_length()
            best = min(best, twos)
            threes *= 3
        fives *= 5
    return best


def frames_of(samples: int) -> int:
    """Return how many frames the time-varying filter needs for a signal of ``samples``."""
    return -(-samples // HOP) + 3


def to_frames(signal: Signal) -> NDArray[np.complex64]:
    """Return the short-time spectrum of ``signal``.

    Args:
        signal: ``(samples,)``.

    Returns:
        ``(frames, FRAME // 2 + 1)``; the middle of frame ``i`` is sample ``(i - 1) * HOP``.
    """
    count = frames_of(signal.size)
    padded = np.zeros(FRAME + (count - 1) * HOP, dtype=np.float32)
    padded[FRAME - HOP : FRAME - HOP + signal.size] = signal
    pieces = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP]
    return np.fft.rfft(pieces * _window(), axis=-1).astype(np.complex64, copy=False)


def from_frames(spectrum: NDArray[np.complex64], samples: int) -> Signal:
    """Return the signal of a short-time spectrum: the inverse of :func:`to_frames` when nothing was changed.

    Args:
        spectrum: ``(frames, FRAME // 2 + 1)``.
        samples: length of the result.
    """
    pieces = np.fft.irfft(spectrum, FRAME, axis=-1).astype(np.float32, copy=False) * _window()
    count = pieces.shape[0]
    blocks = np.zeros((count + 3, HOP), dtype=np.float32)
    for part in range(4):
        blocks[part : part + count] += pieces[:, part * HOP : (part + 1) * HOP]
    signal: Signal = blocks.reshape(-1)[FRAME - HOP : FRAME - HOP + samples] * np.float32(2.0 / 3.0)
    return signal


def _window() -> Signal:
    """Return a periodic Hann window; squared and shifted by a quarter it sums to 3/2."""
    turn = np.arange(FRAME) / FRAME
    return (0.5 - 0.5 * np.cos(2.0 * np.pi * turn)).astype(np.float32)
