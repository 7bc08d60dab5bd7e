"""The resampler: exact length, aligned, clean, and blind to how its input was cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from demucs_server_worker.separation.resample import Resampler, resampled_length

RATES = [8000, 11025, 22050, 44100, 48000, 96000, 192000]


def resample(samples: NDArray[np.float32], in_rate: int, out_rate: int, block: int = 4096) -> NDArray[np.float32]:
    resampler = Resampler(in_rate, out_rate)
    out = [resampler.push(samples[:, at : at + block]) for at in range(0, samples.shape[1], block)]
    return np.concatenate([*out, resampler.finish()], axis=1)


def sine(samples: int, rate: int, hertz: float) -> NDArray[np.float32]:
    wave = 0.8 * np.sin(2 * np.pi * hertz * np.arange(samples) / rate)
    return np.stack([wave, -wave]).astype(np.float32)


def snr_db(wanted: NDArray[np.float32], got: NDArray[np.float32]) -> float:
    error = (wanted.astype(np.float64) - got) ** 2
    return float(10 * np.log10((wanted.astype(np.float64) ** 2).sum() / error.sum()))


@pytest.mark.parametrize(("in_rate", "out_rate"), [(48000, 44100), (44100, 48000), (8000, 44100), (44100, 8000)])
def test_a_sine_keeps_its_frequency_level_and_phase(in_rate: int, out_rate: int) -> None:
    out = resample(sine(in_rate * 2, in_rate, 997), in_rate, out_rate)
    middle = slice(out_rate // 2, -out_rate // 2)
    assert snr_db(sine(out_rate * 2, out_rate, 997)[:, middle], out[:, middle]) >= 120


def test_up_and_down_again_gives_the_original() -> None:
    rng = np.random.default_rng(1)
    spectrum = np.fft.rfft(rng.standard_normal((2, 44100)))
    spectrum[:, 15_000:] = 0  # what lies close to the band's edge belongs to the filter's slope
    original = (0.1 * np.fft.irfft(spectrum, 44100)).astype(np.float32)
    back = resample(resample(original, 44100, 96000), 96000, 44100)
    middle = slice(2000, -2000)
    assert back.shape == original.shape
    assert snr_db(original[:, middle], back[:, middle]) >= 110


@pytest.mark.parametrize(("in_rate", "out_rate"), [(44100, 48000), (96000, 44100), (8000, 192000)])
def test_a_click_stays_at_its_time(in_rate: int, out_rate: int) -> None:
    click = np.zeros((2, in_rate), np.float32)
    click[:, in_rate // 2] = 1
    out = resample(click, in_rate, out_rate)
    assert abs(int(np.abs(out[0]).argmax()) - out_rate // 2) <= 1


@settings(max_examples=30, deadline=None)
@given(
    samples=st.integers(0, 5000),
    in_rate=st.sampled_from(RATES),
    out_rate=st.sampled_from(RATES),
    block=st.integers(1, 3000),
)
def test_the_length_is_exact_and_blocks_do_not_matter(samples: int, in_rate: int, out_rate: int, block: int) -> None:
    whole = sine(samples, in_rate, 440)
    out = resample(whole, in_rate, out_rate, block=max(block, samples // 50 + 1))
    assert out.shape == (2, resampled_length(samples, in_rate, out_rate))
    assert out.dtype == np.float32
    assert out.flags.c_contiguous
    np.testing.assert_array_equal(out, resample(whole, in_rate, out_rate, block=10_000))


@pytest.mark.parametrize(
    ("samples", "in_rate", "out_rate", "expected"),
    [(1, 2, 1, 1), (1, 3, 1, 0), (3, 2, 1, 2), (44100, 44100, 48000, 48000), (0, 8000, 44100, 0), (1, 8000, 44100, 6)],
)
def test_lengths_round_half_up(samples: int, in_rate: int, out_rate: int, expected: int) -> None:
    assert resampled_length(samples, in_rate, out_rate) == expected


def test_equal_rates_hand_the_block_through_uncopied() -> None:
    block = sine(100, 44100, 440)
    resampler = Resampler(44100, 44100)
    assert resampler.push(block) is block
    assert resampler.finish().shape == (2, 0)
