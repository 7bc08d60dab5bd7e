"""Peaks: what is drawn is what is heard, in memory that does not grow with the song."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from demucs_server_worker.errors import InputNotFound, InputUnreadable
from demucs_server_worker.separation.manifest import sha256_of
from demucs_server_worker.separation.peaks import encode, measure, write_peaks
from tests.audio_files import tones, write_pcm
from tests.separations import read

RATE = 44_100


def cut(samples: NDArray[np.float32], *lengths: int) -> Iterator[NDArray[np.float32]]:
    start = 0
    for length in lengths:
        yield samples[:, start : start + length]
        start += length
    yield samples[:, start:]


def directly(samples: NDArray[np.float32], samples_per_point: int) -> NDArray[np.int16]:
    stretches = [samples[:, at : at + samples_per_point] for at in range(0, samples.shape[1], samples_per_point)]
    pairs = np.array([[stretch.min(), stretch.max()] for stretch in stretches])
    whole: NDArray[np.int16] = np.clip(np.rint(pairs * 32768), -32768, 32767).astype(np.int16)
    return whole


@pytest.mark.parametrize("samples_per_point", [1, 7, 100, 999, 5_000, 10_000, 20_000])
@pytest.mark.parametrize("lengths", [(), (1, 1, 1), (99, 1, 100, 3_333), (5_000, 5_000)])
def test_pairs_are_the_extremes_of_each_stretch_however_the_song_comes_in(
    samples_per_point: int, lengths: tuple[int, ...]
) -> None:
    song = tones(10_000, RATE)
    found = measure(cut(song, *lengths), RATE, samples_per_point)
    np.testing.assert_array_equal(found.pairs, directly(song, samples_per_point))


def test_samples_past_full_scale_are_drawn_at_full_scale() -> None:
    found = measure([np.array([[1.5, -1.5]], np.float32)], RATE, 2)
    assert found.pairs.tolist() == [[-32768, 32767]]


def test_a_song_as_one_point_takes_no_more_memory_than_a_block() -> None:
    block = np.zeros((2, RATE), np.float32)
    hour = (block for _ in range(3600))
    found = measure(hour, RATE, 3600 * RATE)
    assert found.pairs.tolist() == [[0, 0]]


def test_the_file_has_the_header_that_waveform_viewers_read(tmp_path: Path) -> None:
    stem = write_pcm(tmp_path / "vocals.wav", tones(RATE, RATE), RATE, "PCM_16")
    target = tmp_path / "vocals.dat"
    sha256 = write_peaks(stem, sha256_of(stem), target, points=100, samples=RATE)
    data = target.read_bytes()
    assert struct.unpack("<iIiiIi", data[:24]) == (2, 0, RATE, 441, 100, 1)
    np.testing.assert_array_equal(np.frombuffer(data[24:], "<i2").reshape(-1, 2), directly(read(stem), 441))
    assert sha256 == sha256_of(target)


def test_a_stem_without_a_sample_has_no_points() -> None:
    assert len(encode(measure([], RATE, 10))) == 24


def test_a_stem_that_was_changed_is_not_drawn(tmp_path: Path) -> None:
    stem = write_pcm(tmp_path / "vocals.wav", tones(RATE, RATE), RATE, "PCM_16")
    sha256 = sha256_of(stem)
    write_pcm(stem, tones(RATE, RATE, seed=1), RATE, "PCM_16")
    with pytest.raises(InputUnreadable, match="changed"):
        write_peaks(stem, sha256, tmp_path / "vocals.dat", points=100, samples=RATE)
    stem.unlink()
    with pytest.raises(InputNotFound):
        write_peaks(stem, sha256, tmp_path / "vocals.dat", points=100, samples=RATE)
    assert list(tmp_path.iterdir()) == []
