"""Files that mean harm, or were harmed: each is refused with a code and a sentence, and reaches nothing else."""

from __future__ import annotations

import os
import resource
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from demucs_server_worker.errors import (
    DemucsWorkerError,
    InputError,
    InputNotFound,
    InputTooLarge,
    InputTooLong,
    InputUnreadable,
    NoAudio,
    UnsupportedFormat,
)
from demucs_server_worker.separation.decode import open_source
from tests.audio_files import ENCODERS, tones, write_coded, write_pcm

RATE = 44100


def decoded_samples(path: Path, **limits: Any) -> int:
    with open_source(path, "song", **limits) as source:
        return sum(block.shape[1] for block in source.blocks())


def refusal(path: Path, **limits: Any) -> InputError:
    """The error that decoding `path` ends with; it names the song, tells no path, and is never worth a retry."""
    with pytest.raises(InputError) as caught:
        decoded_samples(path, **limits)
    assert str(path.parent) not in caught.value.message
    assert "song" in caught.value.message
    assert not caught.value.retryable
    return caught.value


def content(folder: Path, data: bytes, name: str = "song.mp3") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `song.<kind>` of four seconds in every format."""
    folder = tmp_path_factory.mktemp("songs")
    for kind in ENCODERS:
        rate = 48000 if kind in ("opus", "webm") else RATE
        write_coded(folder / f"song.{kind}", tones(4 * rate, rate), rate, kind)
    return folder


# --- playlists and other ways out ------------------------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def assert_untouched(listener: socket.socket) -> None:
    with pytest.raises(BlockingIOError):
        listener.accept()


HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{url}\n#EXT-X-ENDLIST\n"
REACHING_OUT = {
    "hls": HLS,
    "hls with a key": HLS.replace("#EXTINF", '#EXT-X-KEY:METHOD=AES-128,URI="{url}"\n#EXTINF'),
    "ffconcat": "ffconcat version 1.0\nfile '{url}'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio {port} RTP/AVP 0\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT9S"><Period><AdaptationSet mimeType="audio/mp4"><Representation id="1" '
    'bandwidth="1"><BaseURL>{url}</BaseURL></Representation></AdaptationSet></Period></MPD>',
    "asx": '<asx version="3.0"><entry><ref href="{url}"/></entry></asx>',
    "asf reference": "[Reference]\nRef1={url}\n",
}


@pytest.mark.parametrize("name", ["list.m3u8", "song.mp3", "song.mp4", "song.wma"])
@pytest.mark.parametrize("text", REACHING_OUT.values(), ids=REACHING_OUT.keys())
def test_a_playlist_makes_no_request(tmp_path: Path, listener: socket.socket, text: str, name: str) -> None:
    port = listener.getsockname()[1]
    filled = text.replace("{url}", f"http://127.0.0.1:{port}/a.mp3").replace("{port}", str(port))
    assert isinstance(refusal(content(tmp_path, filled.encode(), name)), UnsupportedFormat)
    assert_untouched(listener)


@pytest.mark.parametrize("text", [HLS, "ffconcat version 1.0\nfile '{url}'\n"], ids=["hls", "ffconcat"])
def test_a_playlist_opens_no_local_file_and_does_not_tell_whether_there_is_one(
    tmp_path: Path, songs: Path, text: str
) -> None:
    (tmp_path / "beside.mp3").write_bytes((songs / "song.mp3").read_bytes())
    there = refusal(content(tmp_path, text.replace("{url}", "beside.mp3").encode()))
    not_there = refusal(content(tmp_path, text.replace("{url}", "absent.mp3").encode()))
    assert there.message == not_there.message


def test_the_crafted_playlists_would_work_without_the_guard(
    tmp_path: Path, songs: Path, listener: socket.socket
) -> None:
    """What makes the tests above able to fail: plain FFmpeg opens the file beside an ffconcat text, and connects."""
    (tmp_path / "beside.mp3").write_bytes((songs / "song.mp3").read_bytes())
    with av.open(str(content(tmp_path, b"ffconcat version 1.0\nfile 'beside.mp3'\n"))) as container:
        assert container.format.name == "concat"
    text = HLS.replace("{url}", f"http://127.0.0.1:{listener.getsockname()[1]}/a.mp3")
    with content(tmp_path, text.encode(), "list.m3u8").open("rb") as file, pytest.raises(av.error.FFmpegError):
        av.open(file, timeout=0.5)
    listener.accept()[0].close()


@pytest.mark.parametrize(
    "name",
    ["http:x.mp3", "file:song.mp3", "concat:a.mp3|b.mp3", "pipe:0", "-i.mp3", "%03d.mp3", "data:audio,x", "a\nb.mp3",
     "ünï – 第一.mp3", "it's \"quoted\".mp3", "n" * 251 + ".mp3"],
)  # fmt: skip
def test_a_name_is_only_a_name(tmp_path: Path, songs: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content(tmp_path, (songs / "song.mp3").read_bytes(), name)
    assert decoded_samples(Path(name)) == 4 * RATE


# --- what is no song -------------------------------------------------------------------------------------------------


def random_bytes(seed: int) -> bytes:
    return np.random.default_rng(seed).bytes(100_000)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"x", b"hello world\n" * 500, bytes(100_000), b"\xff" * 100_000, b"\xff\xfb" * 50_000,
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(500), b"\xff\xd8\xff\xe0\0\x10JFIF\0" + random_bytes(0),
        b"%PDF-1.7\n" + random_bytes(1), b"PK\x03\x04" + random_bytes(2), b"\x7fELF" + random_bytes(3),
        random_bytes(4), random_bytes(5), b"ID3\x04\0\0\0\0\x0f\x76" + random_bytes(6), b"RIFF", b"fLaC", b"OggS",
        b"RIFF\xff\xff\xff\xffWAVE" + random_bytes(7), b"\0\0\0\x18ftypM4A " + random_bytes(8),
    ],
)  # fmt: skip
def test_other_content_is_refused(tmp_path: Path, data: bytes) -> None:
    assert isinstance(refusal(content(tmp_path, data)), UnsupportedFormat | InputUnreadable)


def test_files_that_are_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    assert isinstance(refusal(tmp_path / "missing"), InputNotFound)
    assert isinstance(refusal(tmp_path / "nul\0byte"), InputNotFound)
    for path in (tmp_path, tmp_path / "fifo", tmp_path / "loop", Path("/dev/zero")):
        assert type(refusal(path)) is InputUnreadable


def test_video_without_sound(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "film.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")
        container.mux([*stream.encode(picture), *stream.encode(None)])
    assert isinstance(refusal(tmp_path / "film.mp4"), NoAudio)


def test_a_header_without_frames(tmp_path: Path, songs: Path) -> None:
    wav = (songs / "song.wav").read_bytes()
    flac = (songs / "song.flac").read_bytes()
    end = 4
    while True:  # each metadata block: a byte whose top bit says that it is the last, and three of length
        last, end = flac[end] & 128, end + 4 + int.from_bytes(flac[end + 1 : end + 4], "big")
        if last:
            break
    for data in (wav[: wav.index(b"data") + 8], wav[: wav.index(b"data") + 4] + bytes(4), flac[:end]):
        assert isinstance(refusal(content(tmp_path, data)), NoAudio)


# --- what was harmed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["wav", "flac", "aiff", "m4a", "alac", "mp4"])
def test_a_file_that_ends_before_its_declared_end(tmp_path: Path, songs: Path, kind: str, part: float) -> None:
    data = (songs / f"song.{kind}").read_bytes()
    assert type(refusal(content(tmp_path, data[: int(len(data) * part)]))) is InputUnreadable


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_cut_mp4_whose_index_stands_in_front(tmp_path: Path, songs: Path, part: float) -> None:
    path = tmp_path / "front.m4a"
    with (
        av.open(str(songs / "song.m4a")) as source,
        av.open(str(path), "w", format="ipod", options={"movflags": "+faststart"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert decoded_samples(path) == 4 * RATE
    assert "it ends at" in refusal(content(tmp_path, data[: int(len(data) * part)])).message


@pytest.mark.parametrize("kind", ["mkv", "webm", "wma"])
def test_most_of_the_song_is_gone(tmp_path: Path, songs: Path, kind: str) -> None:
    data = (songs / f"song.{kind}").read_bytes()
    noise = np.random.default_rng(0).bytes(len(data))
    assert type(refusal(content(tmp_path, data[:3000] + noise[3000:]))) is InputUnreadable


def test_a_damaged_packet_in_an_mp3_is_skipped(tmp_path: Path, songs: Path) -> None:
    data = bytearray((songs / "song.mp3").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 200] = random_bytes(9)[:200]
    assert 4 * RATE - 8 * 1152 <= decoded_samples(content(tmp_path, bytes(data))) <= 4 * RATE


@pytest.mark.parametrize("kind", ["mp3", "aac"])
def test_mostly_damaged_packets_are_no_song(tmp_path: Path, songs: Path, kind: str) -> None:
    data = np.frombuffer((songs / f"song.{kind}").read_bytes(), np.uint8).copy()
    rng = np.random.default_rng(1)
    hits = rng.integers(2000, len(data), len(data) // 10)
    data[hits] = rng.integers(0, 256, len(hits))
    assert type(refusal(content(tmp_path, data.tobytes()))) is InputUnreadable


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("at", [0, 60_000])
def test_values_that_are_not_numbers(tmp_path: Path, value: float, at: int) -> None:
    song = tones(80_000, RATE).astype(np.float64)
    song[1, at] = value
    message = refusal(write_pcm(tmp_path / "song.wav", song, RATE, "DOUBLE")).message
    assert f"not numbers at {at // RATE}." in message


def test_silence_is_silence(tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "song.flac", np.zeros((2, RATE)), RATE, "PCM_16")
    with open_source(path, "song") as source:
        (block,) = source.blocks()
    assert block.shape == (2, RATE)
    assert not block.any()


@pytest.mark.parametrize("kind", ENCODERS)
def test_random_damage_never_ends_in_another_error(tmp_path: Path, songs: Path, kind: str) -> None:
    original = np.frombuffer((songs / f"song.{kind}").read_bytes(), np.uint8)
    for seed in range(12):
        rng = np.random.default_rng(seed)
        data = original.copy()
        reach = len(data) if seed % 2 else 400  # every second one only in the header
        hits = rng.integers(0, reach, int(rng.integers(1, 40)))
        data[hits] = rng.integers(0, 256, len(hits))
        try:
            decoded_samples(content(tmp_path, data.tobytes()), max_duration_seconds=60)
        except DemucsWorkerError as error:
            assert error.code in ("input_unreadable", "unsupported_format", "no_audio", "input_too_long")


# --- numbers that are too large --------------------------------------------------------------------------------------


def wav(rate: int, channels: int) -> bytes:
    data = bytes(64_000)
    numbers = struct.pack("<IHHIIHH", 16, 1, channels, rate, rate * channels * 2 % 2**32, channels * 2 % 2**16, 16)
    return (
        b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + numbers + b"data" + struct.pack("<I", 64_000) + data
    )


@pytest.mark.parametrize("rate", [0, 1, 7999, 192_001, 2**31 - 1])
def test_rates_out_of_range(tmp_path: Path, rate: int) -> None:
    assert isinstance(refusal(content(tmp_path, wav(rate, 2))), UnsupportedFormat | InputUnreadable)


@pytest.mark.parametrize("channels", [0, 9, 64, 65_535])
def test_channels_out_of_range(tmp_path: Path, channels: int) -> None:
    assert isinstance(refusal(content(tmp_path, wav(RATE, channels))), UnsupportedFormat | InputUnreadable)


def test_the_borders_are_inside(tmp_path: Path) -> None:
    for rate, channels in ((8000, 2), (192_000, 2), (RATE, 1), (RATE, 8)):
        assert decoded_samples(content(tmp_path, wav(rate, channels))) == 32_000 // channels


def test_a_large_file_is_refused_by_its_size(songs: Path) -> None:
    size = (songs / "song.wav").stat().st_size
    assert decoded_samples(songs / "song.wav", max_file_bytes=size) == 4 * RATE
    error = refusal(songs / "song.wav", max_file_bytes=size - 1)
    assert isinstance(error, InputTooLarge)
    assert str(size) in error.message


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "m4a", "opus", "ogg"])
def test_a_long_song_is_refused_and_one_of_just_that_length_is_not(songs: Path, kind: str) -> None:
    path = songs / f"song.{kind}"
    seconds = 4.01 if kind == "ogg" else 4  # FFmpeg's own Vorbis encoder adds a few samples
    assert decoded_samples(path, max_duration_seconds=seconds) >= 4 * RATE
    assert isinstance(refusal(path, max_duration_seconds=3.99), InputTooLong)


def test_a_wav_that_was_streamed_and_knows_no_length_plays_to_its_end(tmp_path: Path, songs: Path) -> None:
    data = (songs / "song.wav").read_bytes()
    at = data.index(b"data") + 4
    assert decoded_samples(content(tmp_path, data[:at] + b"\xff" * 4 + data[at + 4 :])) == 4 * RATE


BOMB = """
import resource, sys
from pathlib import Path
from demucs_server_worker.errors import InputTooLong
from demucs_server_worker.separation.decode import open_source
with open_source(Path(sys.argv[1]), "bomb", max_duration_seconds=float(sys.argv[2])) as source:
    blocks = source.blocks()
    next(blocks)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = 1
    try:
        for block in blocks:
            seconds += block.shape[1] / source.info.sample_rate
    except InputTooLong:
        print(round(seconds), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_decode_bomb_is_stopped_on_the_way_in_flat_memory(tmp_path: Path) -> None:
    """Hours of silence in little space, whose header gives no length: only counting can stop it."""
    hour = np.zeros((1, 3600 * 8000), np.int16)
    data = bytearray(write_pcm(tmp_path / "bomb.flac", hour, 8000, "PCM_16").read_bytes())
    data[21] &= 0xF0  # the 36 bits of STREAMINFO that hold the number of samples
    data[22:26] = bytes(4)
    path = content(tmp_path, bytes(data), "bomb.flac")
    child = subprocess.run(
        [sys.executable, "-c", BOMB, str(path), "1800"], capture_output=True, text=True, timeout=120, check=True
    )
    seconds, grown_kib = map(int, child.stdout.split())
    assert 1790 <= seconds <= 1800
    assert grown_kib < 20_000  # half an hour at 8 kHz would be 115 MB


def test_refusals_leave_no_file_open(tmp_path: Path, songs: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    before = len(os.listdir("/proc/self/fd"))
    for data in (b"", b"text" * 100, wav(1, 2), wav(RATE, 64), (songs / "song.flac").read_bytes()[:5000]):
        refusal(content(tmp_path, data))
    refusal(tmp_path)
    refusal(songs / "song.mp3", max_duration_seconds=1)
    assert len(os.listdir("/proc/self/fd")) == before < limit
