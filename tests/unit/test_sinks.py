"""Stems on their way to disk: one gain for all, encoded beside the model, made again only when a peak asks for it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from demucs.audio import prevent_clip

from demucs_server_worker.errors import DiskFull, OutputNotWritable, SeparationCancelled
from demucs_server_worker.options import SeparationOptions
from demucs_server_worker.separation.sinks import Sinks, StemOutput, rescale_gain
from tests.audio_files import tones
from tests.separations import read

RATE = 8_000
LENGTH = 200_000
BLOCKS_A_STEM = 4  # that it is read back in, when it is encoded again


def nothing() -> None:
    pass


def ignore(part: float) -> None:
    pass


def sinks(folder: Path, names: tuple[str, ...] = ("a", "b"), **options: Any) -> Sinks:
    chosen = SeparationOptions(**{"format": "wav", "bit_depth": "float32", **options})
    outputs = [StemOutput(name, folder / f"{name}.{chosen.format}") for name in names]
    return Sinks(outputs, chosen, RATE, LENGTH)


def pushed(target: Sinks, *stems: np.ndarray, block: int = 30_000) -> None:
    for start in range(0, LENGTH, block):
        target.write(target.limited([stem[:, start : start + block] for stem in stems]))


def demucs_clipped(stem: np.ndarray, mode: str) -> np.ndarray:
    clipped: torch.Tensor = prevent_clip(torch.from_numpy(stem), mode)  # type: ignore[no-untyped-call]
    return clipped.numpy()


QUIET, LOUD = tones(LENGTH, RATE, seed=1), 1.7 * tones(LENGTH, RATE, seed=2)


@pytest.mark.parametrize("peak", [0.0, 0.5, 0.99, 1.0, 3.0])
def test_the_gain_of_a_lone_stem_is_that_of_demucs(peak: float) -> None:
    stem = np.array([[peak, -peak / 2]], np.float32)
    np.testing.assert_allclose(stem * rescale_gain(peak), demucs_clipped(stem, "rescale"), rtol=1e-6)


def test_quiet_stems_are_written_as_they_are(tmp_path: Path) -> None:
    target = sinks(tmp_path)
    pushed(target, QUIET, -QUIET)
    target.finish(nothing, ignore, jobs=1)
    assert target.gain == 1.0
    np.testing.assert_array_equal(read(tmp_path / "a.wav"), QUIET)
    np.testing.assert_array_equal(read(tmp_path / "b.wav"), -QUIET)
    assert target.peaks == [np.abs(QUIET).max()] * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "b.wav"]


@pytest.mark.parametrize("jobs", [1, 3])
def test_one_loud_stem_turns_all_down_by_one_gain(tmp_path: Path, jobs: int) -> None:
    assert np.abs(LOUD[:, :30_000]).max() < np.abs(LOUD).max()  # the gain is not known until the end
    target = sinks(tmp_path)
    pushed(target, QUIET, LOUD)
    target.finish(nothing, ignore, jobs=jobs)
    gain = np.float32(target.gain)
    assert gain == pytest.approx(1 / (1.01 * np.abs(LOUD).max()))
    np.testing.assert_array_equal(read(tmp_path / "a.wav"), QUIET * gain)
    np.testing.assert_array_equal(read(tmp_path / "b.wav"), LOUD * gain)
    np.testing.assert_allclose(read(tmp_path / "b.wav"), demucs_clipped(LOUD, "rescale"), rtol=1e-6)
    assert target.peaks == pytest.approx([np.abs(QUIET).max() * gain, 1 / 1.01])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "b.wav"]


def test_a_peak_in_the_last_block_counts(tmp_path: Path) -> None:
    late = QUIET.copy()
    late[:, -1] = 2.0
    target = sinks(tmp_path)
    pushed(target, late, QUIET)
    target.finish(nothing, ignore, jobs=1)
    np.testing.assert_array_equal(read(tmp_path / "a.wav"), late * np.float32(1 / 2.02))


def test_clamp_cuts_where_demucs_cuts(tmp_path: Path) -> None:
    target = sinks(tmp_path, clip_mode="clamp")
    pushed(target, QUIET, LOUD)
    target.finish(nothing, ignore, jobs=1)
    assert target.gain == 1.0
    np.testing.assert_array_equal(read(tmp_path / "a.wav"), QUIET)
    np.testing.assert_array_equal(read(tmp_path / "b.wav"), demucs_clipped(LOUD, "clamp"))


def test_none_leaves_samples_alone(tmp_path: Path) -> None:
    target = sinks(tmp_path, clip_mode="none")
    pushed(target, QUIET, LOUD)
    target.finish(nothing, ignore, jobs=1)
    np.testing.assert_array_equal(read(tmp_path / "b.wav"), LOUD)
    assert target.gain == 1.0 and target.peaks[1] == np.abs(LOUD).max()


def test_none_in_a_format_of_integers_ends_at_full_scale(tmp_path: Path) -> None:
    target = sinks(tmp_path, clip_mode="none", bit_depth="16")
    pushed(target, QUIET, LOUD)
    target.finish(nothing, ignore, jobs=1)
    np.testing.assert_allclose(read(tmp_path / "b.wav"), np.clip(LOUD, -1, 1), atol=2**-15)
    assert target.peaks[1] == 1.0


@pytest.mark.parametrize("clip_mode", ["clamp", "none"])
def test_without_a_common_gain_no_raw_samples_are_kept(tmp_path: Path, clip_mode: str) -> None:
    target = sinks(tmp_path, clip_mode=clip_mode)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "b.wav"]
    target.abort()


def test_the_encoding_is_told_part_by_part(tmp_path: Path) -> None:
    told: list[float] = []
    nothing_told, half_told = threading.Event(), threading.Event()
    blocks: list[int] = []

    def on_encoded(part: float) -> None:
        told.append(part)
        nothing_told.set()
        if part >= 0.5:
            half_told.set()

    def wait_until_told() -> None:
        """The first stem waits for the first word, the second for the word that half is done."""
        blocks.append(1)
        assert (nothing_told if len(blocks) <= BLOCKS_A_STEM else half_told).wait(60)

    target = sinks(tmp_path)
    pushed(target, LOUD, LOUD)
    assert not (tmp_path / "a.wav").exists()  # the first encoding is dropped as soon as it is known to be in vain
    target.finish(wait_until_told, on_encoded, jobs=1)
    assert len(blocks) == 2 * BLOCKS_A_STEM
    assert told[0] == 0.0 and 0.5 in told and told[-1] == 1.0 and told == sorted(told)


def test_stopping_the_encoding_stops_all_of_it(tmp_path: Path) -> None:
    asked: list[int] = []
    target = sinks(tmp_path)
    pushed(target, LOUD, LOUD)

    def stop() -> None:
        asked.append(1)
        if len(asked) == 2:
            raise SeparationCancelled

    with pytest.raises(SeparationCancelled):
        target.finish(stop, ignore, jobs=1)
    assert len(asked) == 2  # of 2 × BLOCKS_A_STEM
    target.abort()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_is_the_error_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = sinks(tmp_path)
    pushed(target, LOUD, LOUD)

    def full(*_: object) -> NoReturn:
        raise DiskFull(path="b.wav")

    with monkeypatch.context() as patch, pytest.raises(DiskFull, match=r"b\.wav"):
        patch.setattr("demucs_server_worker.separation.sinks.open_writer", full)
        target.finish(nothing, ignore, jobs=2)
    target.abort()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stem", [QUIET, LOUD])
def test_abort_leaves_nothing(tmp_path: Path, stem: np.ndarray) -> None:
    target = sinks(tmp_path, format="ogg", bit_depth="16")
    target.write([stem[:, :40_000]] * 2)
    target.abort()
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_leaves_nothing_open_or_behind(tmp_path: Path) -> None:
    (tmp_path / "b.wav").write_text("theirs")
    with pytest.raises(OutputNotWritable, match="file exists"):
        sinks(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["b.wav"]
    assert (tmp_path / "b.wav").read_text() == "theirs"
