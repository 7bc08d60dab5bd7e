"""A file that anyone may have sent, as stereo blocks of float samples. The input is hostile until it has decoded.

Only containers of audio (and the sound of common video files) are let in, by a whitelist on FFmpeg's demuxers: its
playlist-like demuxers open other files and make network requests. Nested opens are refused on top of that. The file
is opened once, by this process, as a regular file; FFmpeg sees its bytes, never its name.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from errno import EACCES
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self, cast

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from numpy.typing import NDArray

from demucs_server_worker.errors import (
    DemucsWorkerError,
    InputNotFound,
    InputTooLarge,
    InputTooLong,
    InputUnreadable,
    NoAudio,
    OutOfMemory,
    UnsupportedFormat,
)
from demucs_server_worker.separation.downmix import downmix_matrix, to_stereo
from demucs_server_worker.separation.samples import is_float, to_float
from demucs_server_worker.separation.tags import MAX_COVER_BYTES, read_tags

Block = NDArray[np.float32]

MIN_RATE_HZ = 8_000
MAX_RATE_HZ = 192_000

BLOCK_SECONDS = 1.0
MAX_FRAME_SAMPLES = 1 << 20
"""A decoded frame may hold no more samples a channel: formats that are used stay below 70,000."""

MAX_MP4_FRAME = 4096
"""Samples of the longest packet in MP4 (ALAC)."""

READ_BYTES = 1 << 16

_DEMUXERS = "wav,flac,mp3,aac,ogg,aiff,asf,mov,matroska"

# Decoders outside this list are not even opened to look at a stream, so a video's pictures are never decoded.
_CODECS = (
    *("flac", "alac", "vorbis", "opus", "libopus", "aac", "mp3", "mp3float", "mp2", "mp2float", "mp1", "mp1float"),
    *("wmav1", "wmav2", "wmapro", "wmalossless", "ac3", "eac3", "dca", "truehd", "speex", "libspeex"),
    *("adpcm_ms", "adpcm_ima_wav", "adpcm_ima_qt", "pcm_alaw", "pcm_mulaw", "pcm_u8", "pcm_s8", "pcm_bluray"),
    *(f"pcm_{kind}{bits}{end}" for kind in "sf" for bits in (16, 24, 32, 64) for end in ("le", "be")),
)

_OPTIONS = {
    "format_whitelist": _DEMUXERS,
    "codec_whitelist": ",".join(_CODECS),
    "protocol_whitelist": "file",
}

# Demuxers of containers whose header gives the exact length: less sound than declared means that the file was cut.
_EXACT = frozenset({"wav", "flac", "aiff", "mov"})

_NOT_A_SONG = (av.error.InvalidDataError, av.error.ArgumentError, av.error.EOFError)


@dataclass(frozen=True)
class SourceInfo:
    """What a source turned out to be.

    Attributes:
        sample_rate: Hz, of the decoded samples.
        channels: as stored, before they became two.
        layout: FFmpeg's name of the channel layout, such as `stereo` or `5.1`.
        codec: FFmpeg's name of the decoder.
        container: FFmpeg's name of the demuxer, such as `mp3` or `mov`.
        declared_seconds: the length that the file claims; None where it claims none. Not to be trusted.
    """

    sample_rate: int
    channels: int
    layout: str
    codec: str
    container: str
    declared_seconds: float | None


def open_source(
    path: Path, name: str, *, max_file_bytes: int | None = None, max_duration_seconds: float | None = None
) -> Source:
    """Open a sound file and decode as far as its first samples.

    Args:
        path: a regular file on this machine; never read as a URL, whatever it looks like.
        name: what errors call the file.
        max_file_bytes: a larger file is refused before it is looked into.
        max_duration_seconds: more sound than this is refused, at once where the header says so and can be believed,
            else while decoding.

    Returns:
        the source, to be used as a context manager.

    Raises:
        InputNotFound, InputUnreadable, InputTooLarge, InputTooLong, UnsupportedFormat, NoAudio: see there.
    """
    with ExitStack() as opened:
        file = opened.enter_context(_open_file(path, name, max_file_bytes))
        with _mapped_errors(name):
            container = opened.enter_context(_open_container(file, name))
            stream = _choose_stream(container, name)
            source = Source(file, container, stream, name, max_duration_seconds)
        opened.pop_all()
        return source


class Source:
    """A file being decoded: what it is, what it says about itself, and its samples, once.

    Attributes:
        info: the source's own rate, channels and formats.
        tags: title, artist, cover and the like.
        name: what errors call the file.
    """

    def __init__(
        self,
        file: io.FileIO,
        container: InputContainer,
        stream: AudioStream,
        name: str,
        max_duration_seconds: float | None,
    ) -> None:
        """Use `open_source`. Decodes the first frame, which alone tells the truth about rate and channels."""
        self.name = name
        self._file = file
        self._container = container
        self._stream = stream
        self._damaged_packets = 0
        self._frames = 0
        self._samples = 0
        self._last_packet_samples = 0
        self._cover = b""
        self._decoded = self._decode()
        first = self._first_frame()
        self._ahead = [first]
        self.info = self._describe(first)
        self.tags = read_tags({**container.metadata, **stream.metadata}, self._cover)
        self._max_samples = _limit_in_samples(max_duration_seconds, self.info.sample_rate)
        self._limit_seconds = max_duration_seconds
        self._declared_end = _declared_samples(stream, self.info)
        # An edit list may count in units of the movie, which are seldom finer than 1/600 s.
        self._end_slack = self.info.sample_rate // 600 + 1 if self.info.container == "mov" else 0
        if self.info.container in _EXACT and self._declared_end is not None:
            self._check_length(self._declared_end)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Release the decoder and the file. Can be called again."""
        self._container.close()
        self._file.close()

    def blocks(self) -> Iterator[Block]:
        """Decode the sound, once.

        Yields:
            (2, samples) float32, C-contiguous, at `info.sample_rate`, about a second each; together the exact length.

        Raises:
            InputUnreadable: the sound is damaged, cut short, or not numbers.
            InputTooLong: more sound than allowed.
            UnsupportedFormat: the sound changes its rate or format on the way.
        """
        with _mapped_errors(self.name):
            yield from _gathered(self._stereo(), round(self.info.sample_rate * BLOCK_SECONDS))

    def _stereo(self) -> Iterator[Block]:
        # One block is held back, because only behind the last one is it known how much of it is padding.
        held = np.zeros((2, 0), np.float32)
        for frame in self._frames_of_song():
            block = self._samples_of(frame)
            yield self._counted(held)
            held = block
        yield self._counted(held[:, : held.shape[1] - self._padding(held.shape[1])])
        self._check_complete()

    def _counted(self, block: Block) -> Block:
        self._samples += block.shape[1]
        self._check_length(self._samples)
        return block

    def _padding(self, last: int) -> int:
        """How many of the `last` decoded samples the encoder only added to fill its frame.

        FFmpeg cuts this itself where a packet says so (MP3, Opus). MP4 says it by the duration of its last packet or
        by its edit list, Ogg Vorbis by its end position, and there the decoder hands out whole frames.
        """
        total = self._samples + last
        if self.info.container == "mov" and 0 < self._last_packet_samples < last:
            total = self._samples + self._last_packet_samples
        if self._declared_end is not None and total > self._declared_end + self._end_slack:
            total = self._declared_end
        surplus = self._samples + last - total
        return surplus if surplus < last else 0

    def _frames_of_song(self) -> Iterator[AudioFrame]:
        while self._ahead:
            yield self._ahead.pop()
        yield from self._decoded

    def _decode(self) -> Iterator[AudioFrame]:
        """All frames of the chosen stream. A picture that comes attached passes by here too, before the sound."""
        pictures = [stream for stream in self._container.streams.video if _is_picture(stream)]
        drops_first = _is_ogg_vorbis(self._container, self._stream)
        for packet in self._container.demux(self._stream, *pictures):
            if packet.stream_index != self._stream.index:
                self._keep_picture(packet)
                continue
            frames = self._decode_packet(cast("Packet[AudioStream]", packet))
            yield from frames[1:] if drops_first else frames
            drops_first = drops_first and not frames

    def _decode_packet(self, packet: Packet[AudioStream]) -> list[AudioFrame]:
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            self._damaged_packets += 1
            return []
        self._frames += len(frames)
        if frames and packet.duration and packet.time_base:
            self._last_packet_samples = round(packet.duration * packet.time_base * frames[0].sample_rate)
        return [frame for frame in frames if frame.samples]

    def _keep_picture(self, packet: Packet[Any]) -> None:
        if not self._cover and 0 < packet.size <= MAX_COVER_BYTES:
            self._cover = bytes(packet)

    def _first_frame(self) -> AudioFrame:
        frame = next(self._decoded, None)
        if frame is None and self._damaged_packets:
            raise InputUnreadable(name=self.name, detail="none of its sound can be decoded")
        if frame is None:
            raise NoAudio(name=self.name, detail="its sound track is empty")
        return frame

    def _describe(self, frame: AudioFrame) -> SourceInfo:
        rate, names = frame.sample_rate, _channel_names(frame)
        if not MIN_RATE_HZ <= rate <= MAX_RATE_HZ:
            raise UnsupportedFormat(name=self.name, detail=f"{rate} Hz is outside {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz")
        if downmix_matrix(names) is None:
            raise UnsupportedFormat(name=self.name, detail=f"it has {len(names)} channels of an unknown layout")
        return SourceInfo(
            sample_rate=rate,
            channels=len(names),
            layout=frame.layout.name,
            codec=self._stream.codec_context.name,
            container=self._container.format.name.partition(",")[0],
            declared_seconds=_declared_seconds(self._container, self._stream),
        )

    def _samples_of(self, frame: AudioFrame) -> Block:
        if frame.sample_rate != self.info.sample_rate:
            detail = f"its rate changes from {self.info.sample_rate} to {frame.sample_rate} Hz on the way"
            raise UnsupportedFormat(name=self.name, detail=detail)
        matrix, samples = downmix_matrix(_channel_names(frame)), to_float(frame)
        if matrix is None or samples is None:
            raise UnsupportedFormat(name=self.name, detail=f"samples of {frame.format.name} in {frame.layout.name}")
        if is_float(frame) and not np.isfinite(samples).all():
            at = self._samples / self.info.sample_rate
            raise InputUnreadable(name=self.name, detail=f"it holds values that are not numbers at {at:.1f} s")
        return to_stereo(samples, matrix)

    def _check_length(self, samples: int) -> None:
        if self._max_samples is not None and samples > self._max_samples:
            raise InputTooLong(name=self.name, limit=f"{self._limit_seconds:g}")

    def _check_complete(self) -> None:
        if self._damaged_packets > self._frames:
            detail = f"{self._damaged_packets} of its packets are damaged, {self._frames} are sound"
            raise InputUnreadable(name=self.name, detail=detail)
        self._check_cut_off()

    def _check_cut_off(self) -> None:
        if self.info.container not in _EXACT or self._declared_end is None:
            return
        # In MP4 a damaged packet may be skipped, and the encoder's delay may be counted or not.
        slack = MAX_MP4_FRAME * (1 + self._damaged_packets) if self.info.container == "mov" else 0
        if self._samples < self._declared_end - slack:
            rate = self.info.sample_rate
            detail = f"it ends at {self._samples / rate:.2f} s of the {self._declared_end / rate:.2f} s it declares"
            raise InputUnreadable(name=self.name, detail=detail)


# --- opening ---------------------------------------------------------------------------------------------------------


def _open_file(path: Path, name: str, max_bytes: int | None) -> io.FileIO:
    try:
        # Without O_NONBLOCK, opening a named pipe would wait for someone to write into it.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise InputNotFound(path=name) from error
    except OSError as error:
        raise InputUnreadable(name=name, detail=_reason(error)) from error
    except ValueError as error:
        raise InputNotFound(path=name) from error
    file = os.fdopen(fd, "rb", buffering=0)
    try:
        _check_file(os.fstat(fd), name, max_bytes)
    except DemucsWorkerError:
        file.close()
        raise
    return file


def _check_file(status: os.stat_result, name: str, max_bytes: int | None) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise InputUnreadable(name=name, detail=f"it is {kind}")
    if max_bytes is not None and status.st_size > max_bytes:
        raise InputTooLarge(name=name, size=status.st_size, limit=max_bytes)
    if status.st_size == 0:
        raise UnsupportedFormat(name=name, detail="the file is empty")


def _open_container(file: io.FileIO, name: str) -> InputContainer:
    try:
        return av.open(
            file,
            "r",
            container_options=_OPTIONS,
            metadata_errors="replace",
            buffer_size=READ_BYTES,
            io_open=_refuse_nested,
        )
    except _NOT_A_SONG as error:
        raise UnsupportedFormat(name=name, detail="its content is none of these formats") from error


def _refuse_nested(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    raise PermissionError(EACCES, "an input may not open other files")


def _choose_stream(container: InputContainer, name: str) -> AudioStream:
    streams = container.streams.audio
    if not streams:
        raise NoAudio(name=name, detail="it has no sound track")
    stream = next((each for each in streams if each.disposition & Disposition.default), streams[0])
    for other in container.streams:
        if other.index != stream.index and not _is_picture(other):
            other.discard = Discard.all
    if stream.codec_context is None or stream.codec_context.name not in _CODECS:
        codec = stream.codec_context.name if stream.codec_context is not None else "unknown"
        raise UnsupportedFormat(name=name, detail=f"its sound is coded as {codec}")
    stream.codec_context.options = {"max_samples": str(MAX_FRAME_SAMPLES)}
    if _is_ogg_vorbis(container, stream):
        stream.codec_context.options = {**stream.codec_context.options, "flags2": "+skip_manual"}
    return stream


def _is_ogg_vorbis(container: InputContainer, stream: AudioStream) -> bool:
    """Whether the ends are cut here and not by FFmpeg.

    In a file of a single Ogg page FFmpeg counts the first packet, which has no sound of its own, and so cuts too much
    or nothing from the end. Without its help the first packet gives a frame that is to be dropped (Vorbis I, 4.3.8),
    and the declared length is where the sound ends.
    """
    return container.format.name == "ogg" and stream.codec_context.name == "vorbis"


def _is_picture(stream: Stream) -> bool:
    return stream.type == "video" and bool(stream.disposition & Disposition.attached_pic)


# --- lengths and errors ----------------------------------------------------------------------------------------------


def _declared_seconds(container: InputContainer, stream: AudioStream) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration is not None else None


def _declared_samples(stream: AudioStream, info: SourceInfo) -> int | None:
    if info.container not in _EXACT and (info.container, info.codec) != ("ogg", "vorbis"):
        return None
    if stream.duration is None or not stream.time_base:
        return None
    return int(stream.duration * stream.time_base * info.sample_rate)


def _limit_in_samples(seconds: float | None, rate: int) -> int | None:
    return None if seconds is None else int(seconds * rate)


def _channel_names(frame: AudioFrame) -> list[str]:
    return [channel.name for channel in frame.layout.channels]


def _gathered(blocks: Iterator[Block], size: int) -> Iterator[Block]:
    """The same samples in blocks of at least `size`, but for the last."""
    waiting: list[Block] = []
    count = 0
    for block in blocks:
        waiting.append(block)
        count += block.shape[1]
        if count >= size:
            yield np.concatenate(waiting, axis=1) if len(waiting) > 1 else waiting[0]
            waiting, count = [], 0
    if waiting:
        yield np.concatenate(waiting, axis=1)


@contextmanager
def _mapped_errors(name: str) -> Iterator[None]:
    """FFmpeg's and the system's errors become errors of the input."""
    try:
        yield
    except av.error.MemoryError as error:
        raise OutOfMemory(detail=f"while decoding {name}") from error
    except (av.error.FFmpegError, OSError) as error:
        raise InputUnreadable(name=name, detail=_reason(error)) from error


def _reason(error: Exception) -> str:
    """What went wrong, without the path that the system puts behind it."""
    return (getattr(error, "strerror", None) or "its data is damaged").lower()
