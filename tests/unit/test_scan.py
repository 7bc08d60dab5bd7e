"""The first pass: what it measures is what Demucs normalises by."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from demucs_server_worker.errors import InputNotFound, SeparationCancelled
from demucs_server_worker.separation.decode import open_source
from demucs_server_worker.separation.scan import STD_FLOOR, FileMark, Scan, scan
from tests.audio_files import tones, write_pcm


def scanned(path: Path, model_rate: int = 44_100) -> Scan:
    with open_source(path, path.name) as source:
        return scan(source, model_rate, lambda samples: None)


def test_length_mean_deviation_and_peak(tmp_path: Path) -> None:
    samples = tones(100_001, 44_100) * 0.5 + np.array([[0.05], [0.01]], np.float32)
    found = scanned(write_pcm(tmp_path / "a.wav", samples, 44_100, "FLOAT"))
    mono = torch.from_numpy(samples).mean(0)
    assert (found.length, found.model_length) == (100_001, 100_001)
    assert found.mean == pytest.approx(float(mono.mean()), rel=1e-5)
    assert found.std == pytest.approx(float(mono.std()), rel=1e-5)
    assert found.peak == float(np.abs(samples).max())


def test_the_measure_is_taken_at_the_models_rate(tmp_path: Path) -> None:
    found = scanned(write_pcm(tmp_path / "a.wav", tones(8_001, 8_000), 8_000, "PCM_16"))
    assert (found.length, found.model_length) == (8_001, 44_106)


def test_silence_is_not_divided_by_zero(tmp_path: Path) -> None:
    found = scanned(write_pcm(tmp_path / "a.wav", np.zeros((2, 5_000)), 44_100, "PCM_16"))
    assert (found.mean, found.std, found.peak) == (0.0, STD_FLOOR, 0.0)


def test_one_sample_has_no_deviation(tmp_path: Path) -> None:
    found = scanned(write_pcm(tmp_path / "a.wav", np.full((2, 1), 0.5), 44_100, "PCM_16"))
    assert (found.length, found.mean, found.std) == (1, 0.5, STD_FLOOR)


def test_the_seed_belongs_to_the_sound(tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "a.wav", tones(9_000, 44_100), 44_100, "PCM_16")
    first = scanned(path)
    renamed = scanned(path.rename(tmp_path / "b.wav"))
    other = scanned(write_pcm(tmp_path / "c.wav", tones(9_000, 44_100, seed=1), 44_100, "PCM_16"))
    assert first.seed == renamed.seed != other.seed


def test_it_can_be_stopped_between_blocks(tmp_path: Path) -> None:
    heard: list[int] = []

    def stop(samples: int) -> None:
        heard.append(samples)
        raise SeparationCancelled

    path = write_pcm(tmp_path / "a.wav", tones(200_000, 44_100), 44_100, "PCM_16")
    with open_source(path, "a.wav") as source, pytest.raises(SeparationCancelled):
        scan(source, 44_100, stop)
    assert len(heard) == 1 and heard[0] < 200_000


def test_a_mark_tells_a_file_from_what_takes_its_place(tmp_path: Path) -> None:
    path, other = tmp_path / "a", tmp_path / "b"
    path.write_bytes(b"song")
    mark = FileMark.of(path, "a")
    assert FileMark.of(path, "a") == mark
    other.write_bytes(b"gnos")
    os.utime(other, ns=(path.stat().st_mtime_ns, path.stat().st_mtime_ns))
    other.rename(path)
    assert FileMark.of(path, "a") != mark
    rewritten = FileMark.of(path, "a")
    path.write_bytes(b"longer")
    assert FileMark.of(path, "a") != rewritten


def test_a_mark_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputNotFound, match="a song"):
        FileMark.of(tmp_path / "none", "a song")
