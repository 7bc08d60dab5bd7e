"""The part of a song that is held: windows into it, and what it forgets."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from demucs_server_worker.separation.sliding import SlidingMix


def song(length: int = 100) -> np.ndarray:
    return np.stack([np.arange(length), -np.arange(length)]).astype(np.float32)


def holding(length: int = 100, until: int | None = None) -> SlidingMix:
    mix = SlidingMix(length, mean=0.0, std=1.0)
    mix.push(song(length)[:, :until])
    return mix


def test_it_normalises_as_demucs_does() -> None:
    mix = SlidingMix(100, mean=3.0, std=2.0)
    mix.push(song())
    expected = (torch.from_numpy(song()) - 3.0) / 2.0
    assert torch.equal(mix.window(10, 30), expected[:, 10:40])


def test_outside_the_song_is_silence() -> None:
    window = holding().window(-3, 108)
    assert window.shape == (2, 108)
    assert torch.equal(window[:, 3:103], torch.from_numpy(song()))
    assert not window[:, :3].any() and not window[:, 103:].any()


def test_samples_past_the_length_are_not_the_song() -> None:
    """A file may give more in the second pass than in the first; what was measured is what is separated."""
    mix = SlidingMix(90, mean=0.0, std=1.0)
    mix.push(song(100))
    assert not mix.window(80, 20)[:, 10:].any()


def test_it_has_the_end_of_the_song_when_the_song_has_no_more() -> None:
    mix = holding(until=60)
    assert mix.has(60) and not mix.has(61)
    mix.push(song()[:, 60:])
    assert mix.has(100) and mix.has(5_000)


def test_forgetting_keeps_positions() -> None:
    mix = holding(until=80)
    mix.forget(50)
    mix.push(song()[:, 80:])
    assert torch.equal(mix.window(50, 40), torch.from_numpy(song()[:, 50:90]))


def test_what_is_forgotten_is_freed() -> None:
    mix = SlidingMix(10_000, mean=0.0, std=1.0)
    most = 0
    for start in range(0, 10_000, 100):
        mix.push(song(10_000)[:, start : start + 100])
        mix.forget(start - 100)
        most = max(most, mix.held)
    assert mix.end == 10_000
    assert most <= 600


def test_a_window_into_what_is_forgotten_is_an_error_and_no_other_sound() -> None:
    mix = holding()
    mix.forget(60)
    with pytest.raises(IndexError, match="60 to 100 held"):
        mix.window(59, 10)


def test_a_window_into_what_has_not_come_is_an_error() -> None:
    with pytest.raises(IndexError):
        holding(until=50).window(45, 10)
