"""Where a sound stands: its place between the loudspeakers, and the room around it."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from demucs_server_worker.demo.oscillators import Signal, band, decay, fast_length, noise

Stereo: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Room:
    """The echo of a room, one for each ear.

    Attributes:
        response: impulse response of unit energy, of shape ``(2, samples)``.
    """

    response: Stereo


def build_room(rng: np.random.Generator, sample_rate: int) -> Room:
    """Return a random room: late reverberation as decaying noise (Moorer, "About This Reverberation Business", 1979).

    The time to fall by 60 dB lies between 0.25 and 0.9 s, the first echo comes after 5 to 25 ms.
    """
    reverberation_time = rng.uniform(0.25, 0.9)
    silence = int(rng.uniform(0.005, 0.025) * sample_rate)
    darkness = rng.uniform(2500.0, 7000.0)
    length = int(0.8 * reverberation_time * sample_rate)
    response = np.zeros((2, silence + length), dtype=np.float32)
    for ear in range(2):
        tail = noise(rng, length) * decay(length, reverberation_time / 6.91, sample_rate)  # 6.91 = ln(1000)
        tail = band(tail, 150.0, darkness, sample_rate)
        response[ear, silence:] = tail / np.sqrt(np.sum(tail**2))
    return Room(response)


def pan(signal: Signal, position: float) -> Stereo:
    """Return a mono signal placed between the loudspeakers at constant power.

    Args:
        signal: ``(samples,)``.
        position: −1 is left, 0 the middle, 1 right.

    Returns:
        ``(2, samples)``.
    """
    angle = (position + 1.0) * np.pi / 4.0
    gains = np.array([[np.cos(angle)], [np.sin(angle)]], dtype=np.float32)
    return gains * signal


def add_room(dry: Stereo, room: Room, amount: float) -> Stereo:
    """Return a stereo signal with its echo.

    Args:
        dry: ``(2, samples)``.
        room: the room.
        amount: amplitude of the echo against the dry sound.

    Returns:
        ``(2, samples)``; the echo past the end is cut off.
    """
    samples = dry.shape[-1]
    size = fast_length(samples + room.response.shape[-1])
    sent = np.fft.rfft(dry.mean(axis=0), size)
    echo = np.fft.irfft(sent * np.fft.rfft(room.response, size), size)[:, :samples]
    return dry + np.float32(amount * np.sqrt(2.0)) * echo.astype(np.float32, copy=False)
