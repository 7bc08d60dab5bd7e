"""The synthesised songs: what the demo, the training and the separation tests take for granted about them."""

import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from demucs_server_worker.demo.oscillators import from_frames, to_frames
from demucs_server_worker.demo.score import compose
from demucs_server_worker.demo.sdr import sdr
from demucs_server_worker.demo.song import STEMS, Song, synthesise

HELD_OUT_SEEDS = range(900_000, 900_020)


@pytest.fixture(scope="module")
def song() -> Song:
    return synthesise(900_000, 6.0)


@pytest.fixture(scope="module")
def held_out() -> list[Song]:
    return [synthesise(seed, 4.0, 16_000) for seed in HELD_OUT_SEEDS]


def centre(signal: NDArray[np.float32], sample_rate: int) -> float:
    """Return the spectral centroid in hertz."""
    power = np.abs(np.fft.rfft(signal.mean(axis=0))) ** 2
    return float(np.sum(np.fft.rfftfreq(signal.shape[-1], 1.0 / sample_rate) * power) / np.sum(power))


def share(signal: NDArray[np.float32], sample_rate: int, low: float, high: float) -> float:
    """Return the share of the power between two frequencies."""
    power = np.abs(np.fft.rfft(signal.mean(axis=0))) ** 2
    frequency = np.fft.rfftfreq(signal.shape[-1], 1.0 / sample_rate)
    return float(np.sum(power[(frequency >= low) & (frequency < high)]) / np.sum(power))


def test_the_same_seed_gives_the_same_bytes(song: Song) -> None:
    again = synthesise(900_000, 6.0)
    assert [stem.tobytes() for stem in again.stems.values()] == [stem.tobytes() for stem in song.stems.values()]


def test_different_seeds_give_different_stems(held_out: list[Song]) -> None:
    for name in STEMS:
        assert len({song.stems[name].tobytes() for song in held_out}) == len(held_out)


def test_the_stems_stand_in_the_order_of_demucs(song: Song) -> None:
    assert tuple(song.stems) == STEMS == ("drums", "bass", "other", "vocals")


def test_the_mix_is_exactly_the_sum_of_the_stems(song: Song) -> None:
    total = np.zeros_like(song.mix)
    for stem in song.stems.values():
        total = total + stem
    assert np.array_equal(song.mix, total)


def test_the_mix_never_clips_and_is_not_faint(held_out: list[Song]) -> None:
    for song in held_out:
        assert 0.59 < np.max(np.abs(song.mix)) < 0.91


@pytest.mark.parametrize(("seconds", "sample_rate"), [(1.0, 44_100), (3.00007, 44_100), (0.7, 48_000), (2.0, 8_000)])
def test_the_length_is_exact_at_any_rate(seconds: float, sample_rate: int) -> None:
    song = synthesise(3, seconds, sample_rate)
    for stem in song.stems.values():
        assert stem.shape == (2, round(seconds * sample_rate))
        assert stem.dtype == np.float32


@pytest.mark.parametrize("samples", [1, 2, 255, 12_347])
def test_odd_and_tiny_lengths_are_kept_and_finite(samples: int) -> None:
    song = synthesise(5, samples / 44_100)
    for stem in song.stems.values():
        assert stem.shape == (2, samples)
        assert np.isfinite(stem).all()


@pytest.mark.parametrize(("seconds", "sample_rate"), [(0.0, 44_100), (-1.0, 44_100), (1.0, 4_000)])
def test_impossible_songs_are_refused(seconds: float, sample_rate: int) -> None:
    with pytest.raises(ValueError, match="sample"):
        synthesise(0, seconds, sample_rate)


def test_every_stem_of_every_held_out_song_sounds_and_is_finite(held_out: list[Song]) -> None:
    for song in held_out:
        powers = {name: float(np.mean(stem**2)) for name, stem in song.stems.items()}
        assert all(np.isfinite(stem).all() for stem in song.stems.values())
        assert max(powers.values()) < 10**0.61 * min(powers.values())  # levels lie within 6 dB of each other


def test_the_mix_itself_is_a_bad_estimate_of_every_stem(held_out: list[Song]) -> None:
    for name in STEMS:
        assert np.median([sdr(song.stems[name], song.mix) for song in held_out]) < -3.0


def test_the_bass_lies_low_and_the_drums_reach_the_top() -> None:
    for seed in HELD_OUT_SEEDS[:4]:
        song = synthesise(seed, 4.0)
        assert share(song.stems["bass"], 44_100, 35.0, 500.0) > 0.9
        tops = {name: share(stem, 44_100, 9000.0, 22050.0) for name, stem in song.stems.items()}
        assert tops["drums"] > 5.0 * max(tops["bass"], tops["other"], tops["vocals"])
        assert share(song.stems["vocals"], 44_100, 100.0, 4500.0) > 0.9
        assert share(song.stems["other"], 44_100, 0.0, 120.0) < 0.05
        assert centre(song.stems["bass"], 44_100) < centre(song.stems["other"], 44_100)


def test_the_stems_are_stereo_and_the_bass_is_the_narrowest(held_out: list[Song]) -> None:
    for song in held_out:
        width = {
            name: float(np.sum((stem[0] - stem[1]) ** 2) / np.sum((stem[0] + stem[1]) ** 2))
            for name, stem in song.stems.items()
        }
        assert 0.0 < width["bass"] == min(width.values())
        assert width["bass"] < 0.01


def test_the_kick_falls_on_its_score() -> None:
    rng = np.random.Generator(np.random.PCG64(900_001))
    score = compose(rng, 4.0)
    drums = synthesise(900_001, 4.0).stems["drums"].mean(axis=0)
    for start in score.kick.start[score.kick.start < 3.9]:
        sample = int(start * 44_100)
        before = drums[max(0, sample - 221) : sample]  # 5 ms
        after = drums[sample : sample + 441]  # 10 ms
        assert np.sum(after**2) > 2.0 * np.sum(before**2)


def test_a_voice_sings_one_note_at_a_time_and_rests() -> None:
    for seed in range(20):
        vocals = compose(np.random.default_rng(seed), 20.0).vocals
        gaps = vocals.start[1:] - (vocals.start + vocals.duration)[:-1]
        assert gaps.min() > 0.0
        assert gaps.max() > 0.2  # seconds


def test_the_time_varying_filter_changes_nothing_when_its_gain_is_one() -> None:
    signal = np.random.default_rng(0).normal(size=5001).astype(np.float32)
    assert np.allclose(from_frames(to_frames(signal), signal.size), signal, atol=1e-5)


def test_the_songs_need_neither_torch_nor_scipy() -> None:
    program = (
        "import sys; from demucs_server_worker.demo import sdr, song; song.synthesise(1, 0.5); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
