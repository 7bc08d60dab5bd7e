"""What lower precision costs in quality, on the `demo` model's held-out songs, whose truth is known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from demucs_server_worker.demo.sdr import sdr
from demucs_server_worker.demo.song import STEMS, Song, synthesise
from demucs_server_worker.options import SeparationOptions
from demucs_server_worker.separation.engine import Engine
from demucs_server_worker.separation.job import SeparationJob

GATE_DB = 0.02
HELD_OUT = range(900_000, 900_020)  # training/evaluate_demo_model.py
OPTIONS = {"model": "demo", "bit_depth": "float32", "clip_mode": "none"}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    yield Engine(device="cpu", threads=2)


def scores(engine: Engine, song: Song, precision: str, folder: Path) -> list[float]:
    """SDR of each stem, dB, separated in `precision`."""
    mix = folder / "mix.wav"
    soundfile.write(mix, song.mix.T, song.sample_rate, subtype="FLOAT")
    out = folder / precision
    job = SeparationJob(mix, "mix", out, folder, SeparationOptions(precision=precision, **OPTIONS))  # type: ignore[arg-type]
    result = engine.separate(job, on_progress=lambda progress: None, cancelled=lambda: False)
    stems = {stem.name: soundfile.read(out / stem.path, dtype="float32")[0].T for stem in result.stems}
    return [sdr(song.stems[name], stems[name]) for name in STEMS]


def fall(engine: Engine, seeds: range, seconds: float, folder: Path) -> float:
    """By how much the mean SDR over songs and stems falls from fp32 to bf16, dB."""
    songs = {seed: synthesise(seed, seconds) for seed in seeds}
    found = {}
    for precision in ("fp32", "bf16"):
        (folder / precision).mkdir()
        rows = []
        for seed, song in songs.items():
            place = folder / precision / str(seed)
            place.mkdir()
            rows.append(scores(engine, song, precision, place))
        found[precision] = np.array(rows)
        assert np.isfinite(found[precision]).all()
    # Otherwise the same was computed twice.
    assert not np.array_equal(found["fp32"], found["bf16"])
    medians = {precision: np.median(rows, axis=0).round(3) for precision, rows in found.items()}
    drop = float((found["fp32"] - found["bf16"]).mean())
    print(f"medians of {', '.join(STEMS)}: {medians}; the mean falls by {drop:.4f} dB")
    return drop


def test_bf16_costs_three_songs_less_than_the_gate(engine: Engine, tmp_path: Path) -> None:
    assert fall(engine, HELD_OUT[:3], 4.0, tmp_path) < GATE_DB


@pytest.mark.slow
def test_bf16_costs_all_held_out_songs_less_than_the_gate(engine: Engine, tmp_path: Path) -> None:
    assert fall(engine, HELD_OUT, 10.0, tmp_path) < GATE_DB
