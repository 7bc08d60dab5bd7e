"""What goes wrong in the middle of a separation: the right error, nothing left behind, no thread left running."""

from __future__ import annotations

import errno
import io
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from demucs_server_worker.errors import (
    DemucsWorkerError,
    DiskFull,
    InputNotFound,
    InputUnreadable,
    InvalidOutput,
    OutputNotWritable,
    SeparationCancelled,
)
from demucs_server_worker.separation import encode, scan, sinks
from demucs_server_worker.separation.engine import Engine
from tests.audio_files import tones, write_pcm
from tests.separations import RATE, Shares, job, put_on_shelf, separate

pytestmark = pytest.mark.timeout(120)

SECONDS = 20  # 27 passes of the cheap model


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert {thread.name for thread in set(threading.enumerate()) - before} == set()


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Shares:
    shares = Shares()
    put_on_shelf(monkeypatch, shares)
    return shares


@pytest.fixture
def engine(model: Shares) -> Engine:
    return Engine(device="cpu", threads=1)


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return write_pcm(tmp_path / "song.wav", 0.8 * tones(SECONDS * RATE, RATE), RATE, "PCM_16")


def fails(
    engine: Engine, song: Path, out: Path, error: type[BaseException], says: str | None = None, **options: Any
) -> None:
    """The separation raises `error` and leaves an empty output folder."""
    with pytest.raises(error, match=says):
        separate(engine, song, out, **options)
    assert list(out.iterdir()) == []


# --- the model --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", [1, 27])
def test_what_is_no_number_out_of_the_model(
    engine: Engine, model: Shares, song: Path, tmp_path: Path, value: float, place: int
) -> None:
    def spoil(number: int) -> None:
        if number == place:
            model.shares[0, 3] = value

    model.on_pass = spoil
    fails(engine, song, tmp_path / "out", InvalidOutput, "song.wav")
    assert model.passes == place


@pytest.mark.parametrize("error", [RuntimeError("CUDA error"), MemoryError(), torch.OutOfMemoryError("out of memory")])
def test_a_model_that_raises(engine: Engine, model: Shares, song: Path, tmp_path: Path, error: Exception) -> None:
    def raise_at_third(number: int) -> None:
        if number == 3:
            raise error

    model.on_pass = raise_at_third
    fails(engine, song, tmp_path / "out", type(error))
    model.on_pass = lambda number: None
    assert len(separate(engine, song, tmp_path / "next").result.stems) == 4


# --- cancelling -------------------------------------------------------------------------------------------------------


def test_a_cancelled_job_is_not_begun(engine: Engine, song: Path, tmp_path: Path) -> None:
    with pytest.raises(SeparationCancelled):
        separate(engine, song, tmp_path / "out", cancelled=lambda: True)
    assert not (tmp_path / "out").exists()


def test_cancelling_while_decoding(engine: Engine, model: Shares, song: Path, tmp_path: Path) -> None:
    told: list[float] = []

    def on_progress(progress: Any) -> None:
        told.append(progress.fraction)

    with pytest.raises(SeparationCancelled):
        engine.separate(job(song, tmp_path / "out"), on_progress=on_progress, cancelled=lambda: len(told) >= 3)
    assert len(told) == 3
    assert model.passes == 0
    assert list((tmp_path / "out").iterdir()) == []


def test_cancelling_takes_effect_within_one_segment(engine: Engine, model: Shares, song: Path, tmp_path: Path) -> None:
    flag = threading.Event()
    model.on_pass = lambda number: flag.set() if number == 5 else None
    fails(engine, song, tmp_path / "out", SeparationCancelled, cancelled=flag.is_set)
    assert model.passes == 5


def test_cancelling_while_the_last_stems_are_encoded(
    engine: Engine, model: Shares, song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is through, and the encoders are not: they stop after the block in hand."""
    through, flag = threading.Event(), threading.Event()
    after: list[int] = []
    model.on_pass = lambda number: through.set() if number == 27 else None
    write = sinks.Sinks.write

    def wait_then_write(self: sinks.Sinks, stems: list[np.ndarray]) -> None:
        if not after:
            assert through.wait(60)
            flag.set()
        after.append(1)
        write(self, stems)

    monkeypatch.setattr("demucs_server_worker.separation.one_song.BLOCKS_BEHIND", 1_000)
    monkeypatch.setattr(sinks.Sinks, "write", wait_then_write)
    fails(engine, song, tmp_path / "out", SeparationCancelled, cancelled=flag.is_set)
    assert len(after) == 1


def test_cancelling_while_stems_are_encoded_again(
    engine: Engine, model: Shares, song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.shares *= 20
    flag = threading.Event()
    written: list[int] = []
    write = encode.StemWriter.write

    def cancel_then_write(self: encode.StemWriter, block: np.ndarray) -> None:
        if threading.current_thread().name.startswith("encode"):
            flag.set()
            written.append(block.shape[1])
        write(self, block)

    monkeypatch.setattr(encode.StemWriter, "write", cancel_then_write)
    fails(engine, song, tmp_path / "out", SeparationCancelled, cancelled=flag.is_set)
    assert len(written) == 1 and written[0] < SECONDS * RATE


def test_cancelling_between_tags_and_hashes(
    engine: Engine, song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag = threading.Event()
    monkeypatch.setattr("demucs_server_worker.separation.one_song.write_tags", lambda *args, **named: flag.set())
    fails(engine, song, tmp_path / "out", SeparationCancelled, cancelled=flag.is_set)


def test_a_listener_that_raises_ends_the_separation(engine: Engine, song: Path, tmp_path: Path) -> None:
    class Deaf(Exception):
        pass

    def on_progress(progress: Any) -> None:
        if progress.computing:
            raise Deaf

    with pytest.raises(Deaf):
        engine.separate(job(song, tmp_path / "out"), on_progress=on_progress, cancelled=lambda: False)
    assert list((tmp_path / "out").iterdir()) == []


# --- the input --------------------------------------------------------------------------------------------------------


def between_the_passes(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do `act` when the first pass is over."""

    def scan_and_act(*args: Any) -> scan.Scan:
        found = scan.scan(*args)
        act()
        return found

    monkeypatch.setattr("demucs_server_worker.separation.one_song.scan", scan_and_act)


def test_a_song_that_is_replaced_between_the_passes(
    engine: Engine, model: Shares, song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_pcm(tmp_path / "other.wav", 0.5 * tones(SECONDS * RATE, RATE, seed=5), RATE, "PCM_16")
    between_the_passes(monkeypatch, lambda: os.replace(other, song))
    fails(engine, song, tmp_path / "out", InputUnreadable, "it changed while it was read")
    assert model.passes == 0


def test_a_song_that_vanishes_between_the_passes(
    engine: Engine, song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    between_the_passes(monkeypatch, song.unlink)
    fails(engine, song, tmp_path / "out", InputNotFound, "song.wav")


def test_a_song_that_is_overwritten_during_the_second_pass(
    engine: Engine, model: Shares, song: Path, tmp_path: Path
) -> None:
    def overwrite(number: int) -> None:
        if number == 20:
            with song.open("r+b") as file:
                file.seek(1_000)
                file.write(b"x" * 1_000)
            os.utime(song)

    model.on_pass = overwrite
    fails(engine, song, tmp_path / "out", InputUnreadable, "it changed while it was read")


def test_a_song_that_is_cut_during_the_second_pass(engine: Engine, model: Shares, song: Path, tmp_path: Path) -> None:
    model.on_pass = lambda number: os.truncate(song, 2_000_000) if number == 2 else None
    fails(engine, song, tmp_path / "out", InputUnreadable)


def test_a_song_that_is_damaged_in_the_middle_costs_no_pass(engine: Engine, model: Shares, tmp_path: Path) -> None:
    samples = 0.5 * tones(3 * RATE, RATE)
    samples[:, 2 * RATE] = np.nan
    path = write_pcm(tmp_path / "nan.wav", samples, RATE, "FLOAT")
    fails(engine, path, tmp_path / "out", InputUnreadable, "not numbers")
    assert model.passes == 0


# --- the output -------------------------------------------------------------------------------------------------------


def test_a_file_in_the_output_folders_place_costs_no_pass(
    engine: Engine, model: Shares, song: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(OutputNotWritable, match="out cannot be written"):
        separate(engine, song, tmp_path / "out")
    assert model.passes == 0
    assert (tmp_path / "out").read_text() == "in the way"


def test_a_folder_that_refuses_costs_no_pass(
    engine: Engine, model: Shares, song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That a real folder refuses like this is in the tests of staging, which need not be root."""

    def refuse(self: Path, *args: object, **named: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OutputNotWritable, match="permission denied"):
        separate(engine, song, tmp_path / "out")
    assert model.passes == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real disk of 3 MB where the tests may mount one; the song takes 14 MB of stems and 28 MB of raw samples."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if os.geteuid() != 0 or mount is None or umount is None:
        pytest.skip("only root can mount a small disk")
    made = subprocess.run([mount, "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], check=False)
    if made.returncode != 0:
        pytest.skip("no disk can be mounted here")
    yield folder
    subprocess.run([umount, str(folder)], check=True)


@pytest.mark.parametrize(
    ("options", "ballast_bytes"),
    [
        ({"format": "wav"}, 0),
        ({"format": "wav", "clip_mode": "none"}, 0),
        ({"format": "flac", "clip_mode": "none"}, 2_900_000),
        ({"format": "mp3", "clip_mode": "none"}, 2_900_000),
    ],
)
def test_a_disk_that_is_really_full(
    engine: Engine, song: Path, small_disk: Path, options: dict[str, Any], ballast_bytes: int
) -> None:
    (small_disk / "ballast").write_bytes(bytes(ballast_bytes))
    with pytest.raises(DiskFull) as caught:
        separate(engine, song, small_disk / "out", **options)
    assert caught.value.retryable
    assert list((small_disk / "out").iterdir()) == []


def full(number: int) -> Callable[..., int]:
    """A write that succeeds `number` times, and then finds the disk full."""
    writes = iter(range(number))
    write = encode._Sink.write

    def count(self: Any, data: Any) -> int:
        if next(writes, None) is None:
            self.error = self.error or OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return 0
        return write(self, data)

    return count


@pytest.mark.parametrize("number", [0, 1, 40, 100])
@pytest.mark.parametrize("format", ["wav", "ogg", "mp3"])
def test_a_disk_that_fills_up_at_any_time(
    engine: Engine, song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, number: int
) -> None:
    monkeypatch.setattr(encode._Sink, "write", full(number))
    fails(engine, song, tmp_path / "out", DiskFull, format=format, clip_mode="none")


def test_a_disk_that_fills_up_with_raw_samples(
    engine: Engine, model: Shares, song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullFile(io.FileIO):
        def write(self, data: object, /) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    open_path = Path.open

    def open_full(self: Path, mode: str = "r", *args: Any, **named: Any) -> Any:
        return FullFile(self, mode) if self.suffix == ".raw" else open_path(self, mode, *args, **named)

    monkeypatch.setattr(Path, "open", open_full)
    fails(engine, song, tmp_path / "out", DiskFull)
    assert 0 < model.passes < 27  # the writer's error does not wait for the end of the song


def test_a_disk_that_fills_up_while_stems_are_encoded_again(
    engine: Engine, model: Shares, song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.shares *= 20
    finish = sinks.Sinks.finish

    def then_full(self: sinks.Sinks, *args: Any, **named: Any) -> None:
        monkeypatch.setattr(encode._Sink, "write", full(5))
        finish(self, *args, **named)

    monkeypatch.setattr(sinks.Sinks, "finish", then_full)
    fails(engine, song, tmp_path / "out", DiskFull)
    assert model.passes == 27


def test_a_staging_folder_that_vanishes(engine: Engine, model: Shares, song: Path, tmp_path: Path) -> None:
    model.on_pass = lambda number: shutil.rmtree(tmp_path / "out" / ".staging") if number == 3 else None
    fails(engine, song, tmp_path / "out", DemucsWorkerError)


def test_a_link_put_in_a_stems_place_is_never_followed(
    engine: Engine, song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of the stems is made first; a link that waits there under a stem's name is not written through."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    mkdir = Path.mkdir

    def and_plant(self: Path, *args: Any, **named: Any) -> None:
        mkdir(self, *args, **named)
        if self.name == "song":
            (self / "bass.wav").unlink(missing_ok=True)
            (self / "bass.wav").symlink_to(victim)

    monkeypatch.setattr(Path, "mkdir", and_plant)
    fails(engine, song, tmp_path / "out", OutputNotWritable)
    assert victim.read_text() == "precious"
