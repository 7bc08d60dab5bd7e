"""The door for files that anyone may have sent: what is not a plain audio container stays outside.

Only containers of audio (and the sound of common video files) are let in, by a whitelist on FFmpeg's demuxers: its
playlist-like demuxers open other files and make network requests. Nested opens are refused on top of that. The file
is opened once, by this process, as a regular file; FFmpeg sees its bytes, never its name.
"""

from __future__ import annotations

import io
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EACCES
from pathlib import Path
from typing import NoReturn

import av
import av.error
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Discard, Disposition, Stream

from demucs_server_worker.errors import (
    InputNotFound,
    InputTooLarge,
    InputUnreadable,
    NoAudio,
    OutOfMemory,
    UnsupportedFormat,
)

MAX_FRAME_SAMPLES = 1 << 20
"""A decoded frame may hold no more samples a channel: formats that are used stay below 70,000."""

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

# By default FFmpeg decodes the first five megabytes of each PCM WAV as whatever else they could be: 35 to 110 ms.
_NO_PROBING = {"max_probe_packets": "1"}

# How files of these containers begin: (offset, bytes). Only to say whether a file that will not open is damaged or
# something else altogether.
_BEGINNINGS = (
    *((0, magic) for magic in (b"RIFF", b"RF64", b"fLaC", b"OggS", b"FORM", b"ID3", b"\x1a\x45\xdf\xa3")),
    *((0, magic) for magic in (b"\x30\x26\xb2\x75", b"\xff\xfb", b"\xff\xf1")),
    (4, b"ftyp"),
)

# DTS, which may stand in a WAV as if it were PCM: the words that its frames begin with, in 16 and 14 bits and both byte
# orders (ETSI TS 102 114), and how much of a WAV is searched for them: a second and a half.
_DTS_WORDS = (b"\x7f\xfe\x80\x01", b"\xfe\x7f\x01\x80", b"\x1f\xff\xe8\x00", b"\xff\x1f\x00\xe8")
_DTS_SEARCH_BYTES = 1 << 18

# Sizes that programs write into a WAV while they do not know the real one.
_WAV_UNKNOWN_SIZES = (0, 0x7FFF_F000, 0xFFFF_F000)
_WAV_MAX_CHUNKS = 64


class InputFile(io.FileIO):
    """A file opened for reading, whose failed seeks are values: PyAV prints every exception that a seek raises."""

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """As for any file, but -1 where the place does not exist; damaged headers ask for such places."""
        try:
            return super().seek(offset, whence)
        except OSError:
            return -1


def open_file(path: Path, name: str, max_bytes: int | None) -> InputFile:
    """Open a regular file of at most `max_bytes`, calling it `name` in errors.

    Raises:
        InputNotFound, InputUnreadable, InputTooLarge, UnsupportedFormat: see there.
    """
    try:
        # Without O_NONBLOCK, opening a named pipe would wait for someone to write into it.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, ValueError) as error:
        raise InputNotFound(path=name) from error
    except OSError as error:
        raise InputUnreadable(name=name, detail=reason(error)) from error
    try:
        _check_file(os.fstat(fd), name, max_bytes)
        return InputFile(fd, "r")
    except BaseException:
        os.close(fd)
        raise


def open_container(file: InputFile, name: str) -> InputContainer:
    """Let FFmpeg look at `file`, and take it only as one of the accepted containers.

    Raises:
        UnsupportedFormat: it is something else.
        InputUnreadable: it is one of them, but damaged or cut.
        NoAudio: it is a WAV without a sample.
    """
    head = os.pread(file.fileno(), 64, 0)
    options = _OPTIONS
    if head[:4] in (b"RIFF", b"RF64"):
        _check_wav(file, name)
        if not _may_hold_dts(file):
            options = _OPTIONS | _NO_PROBING
    try:
        return av.open(
            file,
            "r",
            container_options=options,
            metadata_errors="replace",
            buffer_size=READ_BYTES,
            io_open=_refuse_nested,
        )
    except (av.error.InvalidDataError, av.error.ArgumentError, av.error.EOFError) as error:
        if any(head[at:].startswith(magic) for at, magic in _BEGINNINGS):
            raise InputUnreadable(name=name, detail="its header is damaged or cut off") from error
        raise UnsupportedFormat(name=name, detail="its content is none of these formats") from error


def choose_stream(container: InputContainer, name: str) -> AudioStream:
    """The sound track that a player would play; all the others are passed over.

    Raises:
        NoAudio, InputUnreadable, UnsupportedFormat: see there.
    """
    streams = container.streams.audio
    if not streams and not container.streams.video:
        raise InputUnreadable(name=name, detail="no track in it can be made out")
    if not streams:
        raise NoAudio(name=name, detail="it has no sound track")
    stream = next((each for each in streams if each.disposition & Disposition.default), streams[0])
    for other in container.streams:
        if other.index != stream.index and not is_picture(other):
            other.discard = Discard.all
    codec = stream.codec_context.name if stream.codec_context is not None else "unknown"
    if codec not in _CODECS:
        raise UnsupportedFormat(name=name, detail=f"its sound is coded as {codec}")
    stream.codec_context.options = {"max_samples": str(MAX_FRAME_SAMPLES)}
    if is_ogg_vorbis(container, stream):
        stream.codec_context.options = {**stream.codec_context.options, "flags2": "+skip_manual"}
    return stream


def is_ogg_vorbis(container: InputContainer, stream: AudioStream) -> bool:
    """Whether the ends are cut by `decode` and not by FFmpeg.

    In a file of a single Ogg page FFmpeg counts the first packet, which has no sound of its own, and so cuts too much
    or nothing from the end. Without its help the first packet gives a frame that is to be dropped (Vorbis I, 4.3.8),
    and the declared length is where the sound ends.
    """
    return container.format.name == "ogg" and stream.codec_context.name == "vorbis"


def is_picture(stream: Stream) -> bool:
    """Whether `stream` is a cover, which FFmpeg shows as a video of one frame."""
    return stream.type == "video" and bool(stream.disposition & Disposition.attached_pic)


@contextmanager
def mapped_errors(name: str) -> Iterator[None]:
    """FFmpeg's and the system's errors become errors of the input."""
    try:
        yield
    except av.error.MemoryError as error:
        raise OutOfMemory(detail=f"while decoding {name}") from error
    except (av.error.FFmpegError, OSError) as error:
        raise InputUnreadable(name=name, detail=reason(error)) from error


def reason(error: Exception) -> str:
    """What went wrong, without the path that the system puts behind it, and without FFmpeg's numbers."""
    if isinstance(error, av.error.FFmpegError) and not isinstance(error, OSError):
        return "its data is damaged"
    return (getattr(error, "strerror", None) or "it cannot be read").lower()


def _refuse_nested(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    raise PermissionError(EACCES, "an input may not open other files")


def _check_file(status: os.stat_result, name: str, max_bytes: int | None) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise InputUnreadable(name=name, detail=f"it is {kind}")
    if max_bytes is not None and status.st_size > max_bytes:
        raise InputTooLarge(name=name, size=status.st_size, limit=max_bytes)
    if status.st_size == 0:
        raise UnsupportedFormat(name=name, detail="the file is empty")


def _may_hold_dts(file: InputFile) -> bool:
    beginning = os.pread(file.fileno(), _DTS_SEARCH_BYTES, 0)
    return any(word in beginning for word in _DTS_WORDS)


def _check_wav(file: InputFile, name: str) -> None:
    """Compare the size of the samples that a WAV declares with the file: FFmpeg plays a cut one as if it were whole."""
    fd, size, at, declared = file.fileno(), os.fstat(file.fileno()).st_size, 12, 0
    for _ in range(_WAV_MAX_CHUNKS):
        chunk = os.pread(fd, 32, at)
        if len(chunk) < 8:
            return
        kind, length = struct.unpack_from("<4sI", chunk)
        if kind == b"ds64" and len(chunk) >= 24:
            declared = struct.unpack_from("<Q", chunk, 16)[0]
        if kind == b"data":
            break
        at += 8 + length + length % 2
    else:
        return
    unknown = length in _WAV_UNKNOWN_SIZES or length >= _WAV_UNKNOWN_SIZES[-1]
    declared = declared if unknown else length
    present = size - at - 8
    if present <= 0:
        raise NoAudio(name=name, detail="its sound track is empty")
    if present < declared:
        raise InputUnreadable(name=name, detail=f"it holds {present} of the {declared} bytes of sound it declares")
