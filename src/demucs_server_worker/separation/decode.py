"""A sound file as stereo blocks of float samples, decoded once, in memory that does not grow with its length."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from numpy.typing import NDArray

from demucs_server_worker.errors import InputTooLong, InputUnreadable, NoAudio, UnsupportedFormat
from demucs_server_worker.separation.downmix import downmix_matrix, to_stereo
from demucs_server_worker.separation.opening import (
    InputFile,
    choose_stream,
    is_ogg_vorbis,
    is_picture,
    mapped_errors,
    open_container,
    open_file,
)
from demucs_server_worker.separation.samples import is_float, to_float
from demucs_server_worker.separation.tags import MAX_COVER_BYTES, read_tags

Block = NDArray[np.float32]

MIN_RATE_HZ = 8_000
MAX_RATE_HZ = 192_000

BLOCK_SECONDS = 1.0

MAX_MP4_FRAME = 4096
"""Samples of the longest packet in MP4 (ALAC)."""

MAX_STRANGE_FRAMES = 8
"""Frames of another sample rate in a row. Up to here a damaged header made them; past it the rate does change."""

# Demuxers whose length, as FFmpeg gives it, is exact: a longer one is refused before decoding.
_EXACT = frozenset({"wav", "flac", "aiff", "mov"})
# Of these, the ones where it comes from the header, so that less sound means a cut file (for WAV see `opening`).
_HEADED = _EXACT - {"wav"}
# Where it is about right, as long as no pictures run on after the sound.
_ROUGH = frozenset({"matroska", "asf"})


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
    return source_of(open_file(path, name, max_file_bytes), name, max_duration_seconds=max_duration_seconds)


def source_of(file: InputFile, name: str, *, max_duration_seconds: float | None = None) -> Source:
    """As `open_source`, for a file that is open already: it is the source's from here on, and closed with it."""
    with ExitStack() as opened:
        opened.enter_context(file)
        with mapped_errors(name):
            container = opened.enter_context(open_container(file, name))
            stream = choose_stream(container, name)
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
        file: InputFile,
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
        self._strange_frames = 0
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
        with mapped_errors(self.name):
            yield from _gathered(self._stereo(), round(self.info.sample_rate * BLOCK_SECONDS))

    def _stereo(self) -> Iterator[Block]:
        # One block is held back, because only behind the last one is it known how much of it is padding.
        held = np.zeros((2, 0), np.float32)
        for frame in self._frames_of_song():
            if self._is_strange(frame):
                continue
            block = self._samples_of(frame)
            yield self._counted(held)
            held = block
        yield self._counted(held[:, : held.shape[1] - self._padding(held.shape[1])])
        self._check_complete()

    def _is_strange(self, frame: AudioFrame) -> bool:
        """Whether to skip `frame`, since a damaged header gave it another sample rate."""
        if frame.sample_rate == self.info.sample_rate:
            self._strange_frames = 0
            return False
        self._strange_frames += 1
        if self._strange_frames > MAX_STRANGE_FRAMES:
            detail = f"its rate changes from {self.info.sample_rate} to {frame.sample_rate} Hz on the way"
            raise InputUnreadable(name=self.name, detail=detail)
        return True

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
        pictures = [stream for stream in self._container.streams.video if is_picture(stream)]
        drops_first = is_ogg_vorbis(self._container, self._stream)
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
        except av.error.MemoryError:
            raise
        except av.error.FFmpegError:
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
        matrix = downmix_matrix(_channel_names(frame))
        samples = to_float(frame) if matrix is not None else None
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
        rate, least = self.info.sample_rate, 0.0
        if self.info.container in _HEADED and self._declared_end is not None:
            # In MP4 a damaged packet may be skipped, and the encoder's delay may be counted or not.
            slack = MAX_MP4_FRAME * (1 + self._damaged_packets) if self.info.container == "mov" else 0
            least = self._declared_end - slack
        elif self.info.container in _ROUGH and self.info.declared_seconds is not None and not self._has_video():
            least = (self.info.declared_seconds * 0.9 - 1) * rate
        if self._samples < least:
            declared = f"{self.info.declared_seconds or 0:.2f}"
            detail = f"it ends at {self._samples / rate:.2f} s of the {declared} s it declares"
            raise InputUnreadable(name=self.name, detail=detail)

    def _has_video(self) -> bool:
        return any(not is_picture(stream) for stream in self._container.streams.video)


# --- lengths ----------------------------------------------------------------------------------------------


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
