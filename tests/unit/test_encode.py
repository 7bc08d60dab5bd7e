"""Stems as files: exact length, the same bytes each time, full disks told apart from locked folders."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from demucs_server_worker.errors import DiskFull, OutputNotWritable
from demucs_server_worker.options import AudioFormat, SeparationOptions
from demucs_server_worker.separation import encode
from demucs_server_worker.separation.decode import open_source
from demucs_server_worker.separation.encode import kilobits, open_writer, output_rate, vorbis_quality
from tests.audio_files import tones

RATE = 44100
FORMATS: tuple[AudioFormat, ...] = ("wav", "flac", "mp3", "m4a", "ogg", "opus")
KINDS: list[dict[str, Any]] = [
    {"format": "wav", "bit_depth": "16"}, {"format": "wav", "bit_depth": "24"},
    {"format": "wav", "bit_depth": "float32"}, {"format": "flac", "bit_depth": "16"},
    {"format": "flac", "bit_depth": "24"}, {"format": "mp3"}, {"format": "m4a"}, {"format": "ogg"}, {"format": "opus"},
]  # fmt: skip


def write(path: Path, song: NDArray[np.float32], rate: int, **options: Any) -> Path:
    with open_writer(path, SeparationOptions(**options), rate, song.shape[1]) as writer:
        for at in range(0, song.shape[1], 10_007):
            writer.write(song[:, at : at + 10_007])
    return path


def decode(path: Path) -> NDArray[np.float32]:
    with open_source(path, "stem") as source:
        return np.concatenate(list(source.blocks()), axis=1)


def snr_db(wanted: NDArray[np.float32], got: NDArray[np.float32]) -> float:
    return float(10 * np.log10((wanted**2).sum() / max(float(((wanted - got) ** 2).sum()), 1e-30)))


@pytest.mark.parametrize("samples", [2205, 44100, 100_003])
@pytest.mark.parametrize("options", KINDS, ids=lambda each: "-".join(each.values()))
def test_what_was_written_comes_back_with_its_exact_length(
    tmp_path: Path, options: dict[str, Any], samples: int
) -> None:
    rate = output_rate(options["format"], RATE)
    song = tones(samples, rate)
    back = decode(write(tmp_path / "stem", song, rate, **options))
    least = {"16": 85, "24": 130, "float32": 290}[options["bit_depth"]] if "bit_depth" in options else 18
    assert back.shape == song.shape
    assert snr_db(song, back) >= least


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 48000, 88200, 96000, 192000])
@pytest.mark.parametrize("format", FORMATS)
def test_every_rate_finds_a_place_in_every_format(tmp_path: Path, format: AudioFormat, rate: int) -> None:
    held = output_rate(format, rate)
    song = tones(10_007, held)
    assert decode(write(tmp_path / "stem", song, held, format=format)).shape == song.shape


@pytest.mark.parametrize("options", KINDS, ids=lambda each: "-".join(each.values()))
def test_the_same_samples_give_the_same_bytes(
    tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rate = output_rate(options["format"], RATE)
    song = tones(30_000, rate)
    write(tmp_path / "a", song, rate, **options)
    if options.get("bit_depth") == "float32":
        # libsndfile's time stamp has whole seconds: two files of one second would be equal anyway.
        assert (tmp_path / "a").read_bytes()[:256].split(b"PEAK")[1][8:12] == bytes(4)
    write(tmp_path / "b", song, rate, **options)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(("depth", "bits"), [("16", 16), ("24", 24)])
@pytest.mark.parametrize("format", ["wav", "flac"])
def test_integers_that_pass_through_come_back_bit_for_bit(tmp_path: Path, format: str, depth: str, bits: int) -> None:
    full = 2 ** (bits - 1)
    integers = np.random.default_rng(0).integers(-full, full, (2, 20_000))
    integers[:, :2] = [-full, full - 1]
    song = (integers / full).astype(np.float32)
    path = write(tmp_path / "stem", song, RATE, format=format, bit_depth=depth)
    np.testing.assert_array_equal(decode(path), song)
    stored, _ = soundfile.read(path, dtype="int32")
    np.testing.assert_array_equal(stored.T >> (32 - bits), integers)


@pytest.mark.parametrize("depth", ["16", "24"])
def test_what_passes_full_scale_is_cut_and_does_not_wrap(tmp_path: Path, depth: str) -> None:
    loud = np.array([[1.0, 1.5, 100.0, -1.0, -1.5, -100.0]] * 2, np.float32)
    back = decode(write(tmp_path / "stem", loud, RATE, format="wav", bit_depth=depth))
    assert back[0, :3] == pytest.approx(1, abs=1e-4)
    assert (back[0, 3:] == -1).all()


def test_float_wav_keeps_what_passes_full_scale(tmp_path: Path) -> None:
    loud = np.array([[1.5, -100.0]] * 2, np.float32)
    np.testing.assert_array_equal(decode(write(tmp_path / "s", loud, RATE, format="wav", bit_depth="float32")), loud)


def test_rounding_is_symmetric(tmp_path: Path) -> None:
    steps = np.linspace(-3, 3, 61, dtype=np.float32) / 2**15
    song = np.stack([steps, -steps])
    back = decode(write(tmp_path / "stem", song, RATE, format="wav"))
    np.testing.assert_array_equal(back[0], -back[1])


@pytest.mark.parametrize(("kbits", "format"), [(128, "mp3"), (320, "mp3"), (128, "opus"), (128, "m4a"), (128, "ogg")])
def test_the_bit_rate_is_about_what_was_asked(tmp_path: Path, kbits: int, format: AudioFormat) -> None:
    rate, seconds = output_rate(format, RATE), 4
    noise = (0.2 * np.random.default_rng(0).standard_normal((2, rate * seconds))).astype(np.float32)
    path = write(tmp_path / "stem", noise, rate, format=format, bitrate=kbits)
    assert path.stat().st_size * 8 / seconds / 1000 == pytest.approx(kbits, rel=0.02 if format == "mp3" else 0.25)


def test_a_wav_past_four_gibibytes_is_rf64(tmp_path: Path) -> None:
    small = open_writer(tmp_path / "small.wav", SeparationOptions(), RATE, 2**30 - 10_000)
    large = open_writer(tmp_path / "large.wav", SeparationOptions(), RATE, 2**30)
    for writer in (small, large):
        writer.write(tones(1000, RATE))
        writer.close()
    assert (tmp_path / "small.wav").read_bytes()[:4] == b"RIFF"
    assert (tmp_path / "large.wav").read_bytes()[:4] == b"RF64"
    assert decode(tmp_path / "large.wav").shape == (2, 1000)


@pytest.mark.parametrize(
    ("format", "rate", "expected"),
    [
        ("wav", 12345, 12345), ("flac", 192000, 192000), ("ogg", 96000, 96000), ("opus", 8000, 48000),
        ("opus", 96000, 48000), ("mp3", 44100, 44100), ("mp3", 96000, 48000), ("mp3", 30000, 32000),
        ("m4a", 88200, 88200), ("m4a", 192000, 96000), ("m4a", 8000, 8000),
    ],
)  # fmt: skip
def test_output_rate(format: AudioFormat, rate: int, expected: int) -> None:
    assert output_rate(format, rate) == expected


def test_bit_rates_that_a_format_lacks_become_the_nearest() -> None:
    assert kilobits("mp3", 512, 44100) == 320
    assert kilobits("mp3", 320, 22050) == 160
    assert kilobits("mp3", 320, 8000) == 64
    assert kilobits("mp3", 100, 44100) == 96
    assert kilobits("opus", 512, 48000) == 510
    assert vorbis_quality(320) == 0.9
    assert vorbis_quality(32) == 0
    assert vorbis_quality(512) == 1


# --- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_a_full_disk_is_told_as_such(tmp_path: Path, format: AudioFormat, monkeypatch: pytest.MonkeyPatch) -> None:
    # The kernel's own device whose every write fails for lack of space.
    monkeypatch.setattr(encode, "create_file", lambda path: os.open("/dev/full", os.O_RDWR))
    with pytest.raises(DiskFull, match="stem"):
        write(tmp_path / "stem", tones(200_000, 48000), 48000, format=format)


@pytest.mark.parametrize("format", FORMATS)
def test_a_folder_that_is_not_there_is_not_writable(tmp_path: Path, format: AudioFormat) -> None:
    with pytest.raises(OutputNotWritable, match="no such file"):
        write(tmp_path / "missing" / "stem", tones(10, RATE), RATE, format=format)


def test_an_existing_file_and_a_link_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("victim", "link", "dangling"):
        with pytest.raises(OutputNotWritable, match="file exists"):
            open_writer(tmp_path / name, SeparationOptions(), RATE, 10)
    assert (tmp_path / "victim").read_bytes() == b"precious"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("format", FORMATS)
def test_an_error_of_the_caller_is_not_replaced_and_the_file_is_closed(tmp_path: Path, format: AudioFormat) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with (
        pytest.raises(KeyError, match="mine"),
        open_writer(tmp_path / "stem", SeparationOptions(format=format), 48000, 10**6) as writer,
    ):
        writer.write(tones(1000, 48000))
        raise KeyError("mine")
    assert len(os.listdir("/proc/self/fd")) == before
