"""What the stems of a song add up to, in the files: with and without the residual, under every clip mode."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from demucs.audio import prevent_clip

from demucs_server_worker.demo.files import write_song
from demucs_server_worker.separation.engine import Engine
from tests.audio_files import tones, write_pcm
from tests.separations import RATE, SOURCES, Shares, put_on_shelf, ratio_db, read, separate

NULL_DB = 50.0


@pytest.fixture(scope="module")
def engine() -> Engine:
    """An engine for the demo model."""
    return Engine(device="cpu", threads=1)


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> Engine:
    """An engine whose model's stems sum to the mix, and cost nothing."""
    put_on_shelf(monkeypatch, Shares())
    return Engine(device="cpu", threads=1)


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds of the demo's music."""
    return write_song(tmp_path_factory.mktemp("songs"), "song", seed=901, seconds=4.0)[0]


def quiet(seconds: float, rate: int = RATE) -> np.ndarray:
    return 0.8 * tones(round(seconds * rate), rate)


# --- sums -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [44_100, 48_000])
@pytest.mark.parametrize("options", [{}, {"two_stems": "vocals"}, {"two_stems": "vocals", "other_method": "minus"}])
def test_stems_of_a_model_that_sum_to_the_mix_do_so_in_16_bits(
    cheap: Engine, tmp_path: Path, rate: int, options: dict[str, str]
) -> None:
    path = write_pcm(tmp_path / "a.wav", quiet(2.3, rate), rate, "PCM_16")
    done = separate(cheap, path, tmp_path / "out", **options)
    mix, stems = read(path), done.read()
    assert len(stems) == (2 if options else 4)
    assert ratio_db(mix, mix - sum(stems.values())) >= NULL_DB
    assert done.result.residual_db is not None and done.result.residual_db <= -NULL_DB


@pytest.mark.parametrize("options", [{"residual": "other"}, {"two_stems": "drums", "other_method": "minus"}])
def test_with_the_residual_the_sum_is_exact_whatever_the_model(
    engine: Engine, song: Path, tmp_path: Path, options: dict[str, str]
) -> None:
    done = separate(engine, song, tmp_path / "out", **options)
    mix = read(song)
    assert done.result.gain == 1.0
    assert ratio_db(mix, mix - sum(done.read().values())) >= NULL_DB
    assert done.manifest["residual_db"] < -100


def test_the_manifest_tells_the_residual_that_the_files_show(engine: Engine, song: Path, tmp_path: Path) -> None:
    """The demo model's stems do not quite sum to the mix."""
    done = separate(engine, song, tmp_path / "out")
    mix = read(song)
    shown = -ratio_db(mix, mix - sum(done.read().values()) / np.float32(done.result.gain))
    assert -40 < shown < -5
    assert done.manifest["residual_db"] == pytest.approx(shown, abs=0.05)
    assert done.result.residual_db == pytest.approx(shown, abs=0.05)


def test_the_residual_changes_other_only(engine: Engine, song: Path, tmp_path: Path) -> None:
    plain = separate(engine, song, tmp_path / "plain", bit_depth="float32").read()
    whole = separate(engine, song, tmp_path / "whole", bit_depth="float32", residual="other").read()
    for name in ("drums", "bass", "vocals"):
        np.testing.assert_allclose(whole[name], plain[name], atol=1e-6)
    missed = read(song) - sum(plain.values())
    np.testing.assert_allclose(whole["other"], plain["other"] + missed, atol=1e-5)


# --- clipping ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def hot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Engine, Path, np.ndarray]:
    """An engine, a song whose first two stems go past full scale, and the stems in truth."""
    put_on_shelf(monkeypatch, Shares((3.0, -2.5, 0.3, 0.2)))
    mix = quiet(1.6)
    mix -= mix.mean()
    path = write_pcm(tmp_path / "hot.wav", mix, RATE, "FLOAT")
    return Engine(device="cpu", threads=1), path, np.stack([share * mix for share in (3.0, -2.5, 0.3, 0.2)])


@pytest.mark.parametrize("format", ["wav", "flac"])
def test_rescale_turns_all_stems_down_by_one_gain(
    hot: tuple[Engine, Path, np.ndarray], tmp_path: Path, format: str
) -> None:
    engine, path, truth = hot
    done = separate(engine, path, tmp_path / "out", format=format, bit_depth="24")
    stems, gain = np.stack(list(done.read().values())), done.result.gain
    assert gain == pytest.approx(1 / (1.01 * np.abs(truth).max()), rel=1e-4)
    assert done.manifest["gain"] == gain
    np.testing.assert_allclose(stems, truth * gain, atol=2e-6)
    np.testing.assert_allclose(stems.sum(0), read(path) * gain, atol=8e-6)
    np.testing.assert_allclose([stem.peak for stem in done.result.stems], np.abs(stems).max((1, 2)), atol=1e-6)
    assert sorted(each.name for each in done.paths["drums"].parent.iterdir()) == sorted(
        [*(f"{name}.{format}" for name in SOURCES), "manifest.json"]
    )


@pytest.mark.parametrize("mode", ["clamp", "none"])
def test_clamp_and_none_are_those_of_demucs(hot: tuple[Engine, Path, np.ndarray], tmp_path: Path, mode: str) -> None:
    engine, path, truth = hot
    done = separate(engine, path, tmp_path / "out", clip_mode=mode, bit_depth="float32")
    expected = prevent_clip(torch.from_numpy(truth), mode).numpy()
    np.testing.assert_allclose(np.stack(list(done.read().values())), expected, atol=1e-5)
    assert done.result.gain == 1.0
    mix = read(path)
    assert done.result.residual_db is not None
    if mode == "clamp":
        assert done.result.residual_db == pytest.approx(-ratio_db(mix, mix - expected.sum(0)), abs=0.1)
    else:
        assert done.result.residual_db < -100
