"""Stems as files: one writer a stem, fed block by block, in every output format.

The same samples and options give the same bytes: whatever a library stamps with time or chance is set to zero.
"""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import av
import av.error
import numpy as np
import soundfile
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from mutagen.ogg import OggPage
from numpy.typing import NDArray

from demucs_server_worker.errors import OutputError
from demucs_server_worker.options import AudioFormat, SeparationOptions
from demucs_server_worker.separation.outfiles import create_file, output_error
from demucs_server_worker.separation.samples import interleaved

Block = NDArray[np.float32]

_CHANNELS = 2

_RATES: dict[AudioFormat, tuple[int, ...]] = {
    "mp3": (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
    "m4a": (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000),
    "opus": (48000,),
}

# kbit/s that MPEG-1 layer III has (32 kHz and above), MPEG-2 (16 to 24 kHz) and MPEG-2.5 (below).
_MP3_BITRATES = {
    32000: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    16000: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    0: (8, 16, 24, 32, 40, 48, 56, 64),
}

_OPUS_MAX_KBITS = 510
"""RFC 6716, section 2.1.1."""

# Nominal kbit/s of libvorbis' qualities 0 to 10 at 44.1 kHz stereo, as its encoder documents them.
_VORBIS_KBITS = (64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 500)

# libsndfile crashes on a large Vorbis write, whose samples its encoder puts on the stack.
_VORBIS_PIECE_SAMPLES = 4096

_WAV_MAX_DATA_BYTES = 2**32 - 4096
"""What a RIFF's 32-bit sizes can hold, less room for the header. Past it the file is RF64 (EBU Tech 3306)."""

_SUBTYPES = {"16": "PCM_16", "24": "PCM_24", "float32": "FLOAT"}
_BYTES = {"16": 2, "24": 3, "float32": 4}


def output_rate(format: AudioFormat, sample_rate: int) -> int:
    """The rate (Hz) at which `format` holds sound of `sample_rate` Hz: the same, the next higher, or its highest."""
    rates = _RATES.get(format, (sample_rate,))
    return min((rate for rate in rates if rate >= sample_rate), default=rates[-1])


def open_writer(path: Path, options: SeparationOptions, sample_rate: int, length: int) -> StemWriter:
    """Create the file of one stem.

    Args:
        path: a name that does not exist yet, in a folder that does. It is created exclusively, following no link.
        options: `format`, `bit_depth`, `bitrate` and `mp3_preset` are obeyed.
        sample_rate: Hz, as `output_rate` gave it.
        length: samples a channel that will be written in all.

    Raises:
        DiskFull, OutputNotWritable: see there.
    """
    sink = _Sink(create_file(path), "r+")
    try:
        if options.format in ("wav", "flac", "ogg"):
            return _SoundfileWriter(sink, path, options, sample_rate, length)
        return _CodecWriter(sink, path, options, sample_rate)
    except BaseException:
        sink.close()
        raise


class StemWriter(ABC):
    """A stem being written. Leaving the block after an error leaves an unfinished file, for the caller to remove."""

    def __init__(self, sink: _Sink, path: Path) -> None:
        """Use `open_writer`."""
        self._sink = sink
        self._path = path
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None:
            self.close()
            return
        with suppress(OutputError):
            self.close()

    def write(self, block: Block) -> None:
        """Append (2, samples) at nominal full scale ±1. Integer formats cut at full scale; the others keep all.

        Raises:
            DiskFull, OutputNotWritable: see there.
        """
        if block.shape[1]:
            with self._mapped_errors():
                self._write(block)

    def close(self) -> None:
        """Finish the file and see it onto the disk. Can be called again.

        Raises:
            DiskFull, OutputNotWritable: see there; some file systems tell only now.
        """
        if self._closed:
            return
        self._closed = True
        try:
            with self._mapped_errors():
                self._finish()
                self._sink.flush()
                os.fsync(self._sink.fileno())
        finally:
            self._sink.close()

    @abstractmethod
    def _write(self, block: Block) -> None: ...

    @abstractmethod
    def _finish(self) -> None: ...

    @contextmanager
    def _mapped_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError, AssertionError, av.error.FFmpegError) as error:
            raise output_error(self._path, self._sink.error or error) from error
        # The libraries may swallow a failed write; the sink does not forget it.
        if self._sink.error is not None:
            raise output_error(self._path, self._sink.error)


class _Sink(io.FileIO):
    """The open file, which keeps the first error: libsndfile and FFmpeg report no more than that there was one."""

    error: OSError | None = None

    def write(self, data: object, /) -> int:
        """Write all of `data`, or remember why not and give the bytes written."""
        view = memoryview(cast(bytes, data)).cast("B")
        done = 0
        try:
            while done < len(view):
                done += super().write(view[done:]) or 0
        except OSError as error:
            self.error = self.error or error
        return done


class _SoundfileWriter(StemWriter):
    """WAV, FLAC and Vorbis, by libsndfile."""

    def __init__(self, sink: _Sink, path: Path, options: SeparationOptions, sample_rate: int, length: int) -> None:
        super().__init__(sink, path)
        self._format = options.format
        self._depth = options.bit_depth
        kind, subtype, level = options.format.upper(), _SUBTYPES[options.bit_depth], None
        if options.format == "ogg":
            subtype, level = "VORBIS", 1 - vorbis_quality(options.bitrate)
        if options.format == "wav" and length * _CHANNELS * _BYTES[options.bit_depth] > _WAV_MAX_DATA_BYTES:
            kind = "RF64"
        try:
            with self._mapped_errors():
                self._file = soundfile.SoundFile(
                    sink, "w", sample_rate, _CHANNELS, subtype, format=kind, compression_level=level
                )
        except OutputError:
            # The header may fail to be written without libsndfile minding; it must let go of the sink before it closes.
            with suppress(AttributeError, RuntimeError):
                self._file.close()
            raise

    def _write(self, block: Block) -> None:
        if self._format != "ogg":
            self._file.write(interleaved(_quantised(block, self._depth)))
            return
        for start in range(0, block.shape[1], _VORBIS_PIECE_SAMPLES):
            self._file.write(block[:, start : start + _VORBIS_PIECE_SAMPLES].T)  # (samples, 2)

    def _finish(self) -> None:
        self._file.close()
        if self._sink.error is None:
            _zero_peak_time(self._sink)
            if self._format == "ogg":
                _zero_serial(self._sink)


class _CodecWriter(StemWriter):
    """MP3, AAC and Opus, by FFmpeg's encoders."""

    def __init__(self, sink: _Sink, path: Path, options: SeparationOptions, sample_rate: int) -> None:
        super().__init__(sink, path)
        self._rate = sample_rate
        self._written = 0
        with self._mapped_errors():
            muxer, encoder, settings = _codec(options, sample_rate)
            self._container = av.open(sink, "w", format=muxer, container_options=_container_options(muxer, sample_rate))
            stream = self._container.add_stream(encoder, rate=sample_rate, layout="stereo", options=settings)
            self._stream = cast(AudioStream, stream)
            self._stream.bit_rate = kilobits(options.format, options.bitrate, sample_rate) * 1000

    def _write(self, block: Block) -> None:
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(block, np.float32), "fltp", "stereo")
        frame.sample_rate = self._rate
        frame.time_base = Fraction(1, self._rate)
        frame.pts = self._written
        self._written += block.shape[1]
        self._container.mux(self._stream.encode(frame))

    def _finish(self) -> None:
        if self._sink.error is None:
            self._container.mux(self._stream.encode(None))
        self._container.close()


def kilobits(format: AudioFormat, bitrate: int, sample_rate: int) -> int:
    """The bit rate nearest to `bitrate` (kbit/s) that `format` has at `sample_rate` Hz."""
    if format == "mp3":
        rates = next(rates for lowest, rates in _MP3_BITRATES.items() if sample_rate >= lowest)
        return min(rates, key=lambda rate: (abs(rate - bitrate), -rate))
    return min(bitrate, _OPUS_MAX_KBITS) if format == "opus" else bitrate


def vorbis_quality(bitrate: int) -> float:
    """The libvorbis quality, 0 to 1, whose nominal rate is nearest to `bitrate` kbit/s."""
    return float(np.interp(bitrate, _VORBIS_KBITS, np.arange(len(_VORBIS_KBITS)) / 10))


def _codec(options: SeparationOptions, sample_rate: int) -> tuple[str, str, dict[str, str]]:
    """Muxer, encoder and the encoder's own settings."""
    match options.format:
        case "mp3":
            return "mp3", "libmp3lame", {"compression_level": str(options.mp3_preset)}
        case "m4a":
            return "ipod", "aac", {}
        case _:
            return "ogg", "libopus", {"application": "audio", "vbr": "on"}


def _container_options(muxer: str, sample_rate: int) -> dict[str, str]:
    # `bitexact` leaves out version strings, times and random serial numbers.
    common = {"fflags": "+bitexact"}
    if muxer == "ipod":
        # The edit list that cuts the padding counts in this unit: milliseconds, its default, cannot say every length.
        return {**common, "movie_timescale": str(sample_rate)}
    return common


def _quantised(block: Block, depth: str) -> NDArray[Any]:
    """Samples as the file's own: rounded to nearest, cut at full scale. A power of two as the scale means that
    integers which were decoded to float come back as they were."""
    if depth == "float32":
        return block
    # float32 holds 24-bit integers exactly, so the limits are exact too.
    full = 2**15 if depth == "16" else 2**23
    whole: NDArray[np.float32] = block * np.float32(full)
    np.rint(whole, out=whole)
    np.clip(whole, -full, full - 1, out=whole)
    if depth == "16":
        return whole.astype(np.int16)
    return whole.astype(np.int32) * np.int32(2**8)  # 24 bits stand at the top of libsndfile's 32


# --- the file --------------------------------------------------------------------------------------------------------


def _zero_peak_time(sink: _Sink) -> None:
    """libsndfile stamps the PEAK chunk of float WAV files with the time."""
    head = os.pread(sink.fileno(), 256, 0)
    at = head.find(b"PEAK")
    if head[:4] in (b"RIFF", b"RF64") and 0 <= at < head.find(b"data"):
        os.pwrite(sink.fileno(), bytes(4), at + 12)  # after name, size and version


def _zero_serial(sink: _Sink) -> None:
    """libsndfile draws the serial number of an Ogg stream by chance; each page carries it under its checksum."""
    end = sink.seek(0, os.SEEK_END)
    sink.seek(0)
    while (start := sink.tell()) < end:
        page = OggPage(sink)  # type: ignore[no-untyped-call]
        page.serial = 0
        os.pwrite(sink.fileno(), page.write(), start)  # type: ignore[no-untyped-call]
