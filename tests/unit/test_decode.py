"""Every accepted format comes out as stereo float blocks of the exact length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from demucs_server_worker.separation import opening
from demucs_server_worker.separation.decode import SourceInfo, open_source
from tests.audio_files import tones, write_coded, write_pcm

RATE = 44100
SAMPLES = 2 * RATE + 17  # no multiple of any codec's frame


def decode(path: Path) -> tuple[NDArray[np.float32], SourceInfo]:
    with open_source(path, "song") as source:
        blocks = list(source.blocks())
    for block in blocks:
        assert block.dtype == np.float32
        assert block.shape[0] == 2
        assert block.flags.c_contiguous
    return np.concatenate(blocks, axis=1), source.info


def snr_db(wanted: NDArray[np.float32], got: NDArray[np.float32]) -> float:
    return float(10 * np.log10((wanted**2).sum() / ((wanted - got) ** 2).sum()))


@pytest.mark.parametrize(
    ("kind", "rate", "least_snr_db", "container", "codec"),
    [
        ("wav", RATE, 85, "wav", "pcm_s16le"),
        ("flac", RATE, 85, "flac", "flac"),
        ("aiff", RATE, 85, "aiff", "pcm_s16be"),
        ("alac", RATE, 85, "mov", "alac"),
        ("mp3", RATE, 25, "mp3", "mp3float"),
        ("m4a", RATE, 25, "mov", "aac"),
        ("mp4", RATE, 25, "mov", "aac"),
        ("opus", 48000, 25, "ogg", "opus"),
        ("webm", 48000, 25, "matroska", "opus"),
    ],
)
def test_formats_that_know_their_length_are_exact_and_aligned(
    tmp_path: Path, kind: str, rate: int, least_snr_db: float, container: str, codec: str
) -> None:
    song = tones(SAMPLES, rate)
    decoded, info = decode(write_coded(tmp_path / f"song.{kind}", song, rate, kind))
    assert decoded.shape == song.shape
    assert snr_db(song, decoded) >= least_snr_db
    assert (info.sample_rate, info.channels, info.container, info.codec) == (rate, 2, container, codec)
    # MP4 counts in milliseconds, Opus counts what the decoder is to skip at the start.
    assert info.declared_seconds == pytest.approx(SAMPLES / rate, abs=0.01)


@pytest.mark.parametrize(("kind", "padding"), [("aac", 2048), ("mkv", 1024), ("wma", 2048)])
def test_formats_without_an_exact_length_are_off_by_a_codec_frame_at_most(
    tmp_path: Path, kind: str, padding: int
) -> None:
    decoded, info = decode(write_coded(tmp_path / f"song.{kind}", tones(SAMPLES, RATE), RATE, kind))
    assert abs(decoded.shape[1] - SAMPLES) <= padding
    assert info.sample_rate == RATE
    assert np.abs(decoded).max() == pytest.approx(0.7, abs=0.15)


@pytest.mark.parametrize("samples", [1, 100, 600, 1000, 1152, 2205, 8000, 20000, SAMPLES])
def test_vorbis_is_exact_even_when_all_of_it_is_one_page(tmp_path: Path, samples: int) -> None:
    song = tones(samples, RATE)
    decoded, _ = decode(write_pcm(tmp_path / "song.ogg", song, RATE, "VORBIS", "OGG"))
    assert decoded.shape == song.shape
    assert snr_db(song, decoded) >= 16


@pytest.mark.parametrize(
    ("subtype", "kind", "step"),
    [
        ("PCM_U8", "WAV", 2**-7), ("PCM_16", "WAV", 2**-15), ("PCM_24", "WAV", 2**-23), ("PCM_32", "WAV", 2**-24),
        ("FLOAT", "WAV", 0), ("DOUBLE", "WAV", 2**-24), ("PCM_16", "FLAC", 2**-15), ("PCM_24", "FLAC", 2**-23),
        ("PCM_S8", "AIFF", 2**-7), ("PCM_24", "AIFF", 2**-23), ("FLOAT", "AIFF", 0), ("PCM_16", "RF64", 2**-15),
    ],
)  # fmt: skip
def test_sample_formats_keep_their_values(tmp_path: Path, subtype: str, kind: str, step: float) -> None:
    song = tones(5000, RATE)
    decoded, _ = decode(write_pcm(tmp_path / "song", song, RATE, subtype, kind))
    assert np.abs(decoded - song).max() <= 1.01 * step


@pytest.mark.parametrize("rate", [8000, 11025, 96000, 192000])
def test_rates_come_back_as_they_are(tmp_path: Path, rate: int) -> None:
    song = tones(rate // 20, rate)
    decoded, info = decode(write_pcm(tmp_path / "song.wav", song, rate, "PCM_24"))
    assert info.sample_rate == rate
    assert decoded.shape == song.shape


def test_mono_is_duplicated_at_full_level(tmp_path: Path) -> None:
    song = tones(5000, RATE, channels=1)
    decoded, info = decode(write_pcm(tmp_path / "song.wav", song, RATE, "FLOAT"))
    np.testing.assert_array_equal(decoded, np.repeat(song, 2, axis=0))
    assert info.channels == 1


def test_surround_is_mixed_down_by_channel_name(tmp_path: Path) -> None:
    song = tones(5000, RATE, channels=6) / 4  # left, right, centre, low frequencies, and the two backs
    decoded, info = decode(write_coded(tmp_path / "song.flac", song, RATE, "flac", layout="5.1"))
    k = 2**-0.5
    expected = np.stack([song[0] + k * song[2] + k * song[4], song[1] + k * song[2] + k * song[5]])
    assert info.layout == "5.1"
    assert info.channels == 6
    assert np.abs(decoded - expected).max() < 1e-4


def test_eight_planar_channels_are_read_and_no_ninth(tmp_path: Path) -> None:
    song = tones(RATE, RATE, channels=8) / 8
    decoded, info = decode(write_coded(tmp_path / "song.m4a", song, RATE, "m4a", layout="7.1", bit_rate=512_000))
    k = 2**-0.5
    assert (info.channels, info.layout) == (8, "7.1")
    assert snr_db(song[0] + k * (song[2] + song[4] + song[6]), decoded[0]) > 20
    assert snr_db(song[1] + k * (song[2] + song[5] + song[7]), decoded[1]) > 20


def test_blocks_are_about_a_second(tmp_path: Path) -> None:
    path = write_coded(tmp_path / "song.mp3", tones(5 * RATE, RATE), RATE, "mp3")
    with open_source(path, "song") as source:
        lengths = [block.shape[1] for block in source.blocks()]
    assert len(lengths) == 5
    assert all(RATE <= length <= RATE + 1152 for length in lengths[:-1])
    assert sum(lengths) == 5 * RATE


def test_tags_are_read(tmp_path: Path) -> None:
    metadata = {"title": "Söng\n2", "artist": "Someone"}
    path = write_coded(tmp_path / "song.flac", tones(5000, RATE), RATE, "flac", metadata=metadata)
    with open_source(path, "song") as source:
        assert source.tags.title == "Söng 2"
        assert source.tags.artist == "Someone"
        assert source.tags.album is None
        assert source.name == "song"


@pytest.mark.parametrize("word", ["7ffe8001", "fe7f0180", "1fffe800", "ff1f00e8", ""])
def test_only_a_wav_that_may_hold_dts_is_searched_for_it_and_it_stays_pcm(
    tmp_path: Path, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default FFmpeg spends 35 ms and more on every PCM WAV to see what else it could be."""
    samples = np.zeros(2 * 4096, "<i2")
    samples[2000 : 2000 + len(word) // 4] = np.frombuffer(bytes.fromhex(word), "<i2")
    path = tmp_path / "song.wav"
    soundfile.write(path, samples.reshape(-1, 2), RATE, subtype="PCM_16")
    asked: list[dict[str, str]] = []
    opened = opening.av.open

    def noting(*args: Any, **kwargs: Any) -> Any:
        asked.append(kwargs["container_options"])
        return opened(*args, **kwargs)

    monkeypatch.setattr(opening.av, "open", noting)
    found, info = decode(path)
    np.testing.assert_array_equal(found.T * 2**15, samples.reshape(-1, 2))
    assert info.codec == "pcm_s16le"
    assert ("max_probe_packets" in asked[0]) == (word == "")
