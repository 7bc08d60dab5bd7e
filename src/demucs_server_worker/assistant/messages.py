"""The messages between an `Assistant` and its children: typed, one JSON object a line.

Down a child's standard input goes one chore at a time; up its standard output come `Ready` (once), then one answer a
chore. The end of standard input means that the parent is gone: the child ends.

To add a chore:
1. a struct here that derives from `Chore`, with a tag, its deadline and whether it is long; put it into `AnyChore`;
2. a struct for its answer, put into `Answer`; what goes wrong needs none: any error of `errors.py` that the chore
   raises comes back as `Refused`, and is raised again in the parent;
3. a function in a module of its own in this room that takes the chore and gives the answer; name both in `CHORES`
   of `child.py` (the module is imported by the first chore that needs it, so that a child starts at once);
4. a method of `Assistant`, or a call of `Assistant.do(chore, AnswerType)` where it is needed.
A chore may be done twice (a child that dies is replaced, and the chore tried once more): it must end the same then.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from demucs_server_worker.errors import ErrorInfo
from demucs_server_worker.options import SeparationOptions


class Chore(msgspec.Struct, frozen=True, kw_only=True):
    """What all chores have.

    Attributes:
        deadline_seconds: a child that takes longer is killed.
        is_long: whether it may take more than a moment. At least one child is always left for those that do not.
    """

    deadline_seconds: ClassVar[float] = 20.0
    is_long: ClassVar[bool] = False


class Probe(Chore, frozen=True, kw_only=True, tag="probe"):
    """Open a song as far as its first sound. Answered by `Probed`.

    Attributes:
        path: absolute path of the file.
        name: what errors call it.
        max_file_bytes, max_duration_seconds: limits, or None.
    """

    path: str
    name: str
    max_file_bytes: int | None = None
    max_duration_seconds: float | None = None


class Probed(msgspec.Struct, frozen=True, kw_only=True, tag="probed"):
    """What a song says that it is.

    Attributes:
        duration_seconds: its length by its header, or by its size and bit rate; None where neither says one.
        sample_rate: Hz.
        channels: channels.
        codec: FFmpeg's name of the decoder, such as `mp3float`.
        container: FFmpeg's name of the demuxer, such as `mp3`.
    """

    duration_seconds: float | None
    sample_rate: int
    channels: int
    codec: str
    container: str


class Reencode(Chore, frozen=True, kw_only=True, tag="reencode"):
    """Write a finished stem in another format. Answered by `Reencoded`.

    Attributes:
        path: absolute path of the stem.
        sha256: of its bytes as they were written, hexadecimal: another file is refused.
        output: absolute path of the file to write, in a private folder; one that an earlier try left is replaced.
        options: `format`, `bit_depth`, `bitrate` and `mp3_preset` count.
        stem: its name.
        samples: a channel, about.
    """

    deadline_seconds: ClassVar[float] = 1_800.0
    is_long: ClassVar[bool] = True

    path: str
    sha256: str
    output: str
    options: SeparationOptions
    stem: str
    samples: int


class Reencoded(msgspec.Struct, frozen=True, kw_only=True, tag="reencoded"):
    """What was written.

    Attributes:
        sample_rate: Hz; differs from the stem's where the format has no such rate.
        channels: channels.
        duration_seconds: seconds.
        bytes: size of the file.
        sha256: hash of the file, hexadecimal.
    """

    sample_rate: int
    channels: int
    duration_seconds: float
    bytes: int
    sha256: str


class Draw(Chore, frozen=True, kw_only=True, tag="draw"):
    """Write the peaks of a finished stem. Answered by `Drawn`.

    Attributes:
        path, sha256, output, samples: as in `Reencode`.
        points: the most pairs that are wanted.
    """

    deadline_seconds: ClassVar[float] = 600.0
    is_long: ClassVar[bool] = True

    path: str
    sha256: str
    output: str
    points: int
    samples: int


class Drawn(msgspec.Struct, frozen=True, kw_only=True, tag="drawn"):
    """The file is there; its hash, hexadecimal."""

    sha256: str


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag="ready"):
    """The child can do chores. First message of its life."""


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """The chore ended in an error; the child lives on."""

    error: ErrorInfo


AnyChore = Probe | Reencode | Draw
Answer = Probed | Reencoded | Drawn | Refused
FromChild = Ready | Answer

_encoder = msgspec.json.Encoder()
_chore: msgspec.json.Decoder[AnyChore] = msgspec.json.Decoder(AnyChore)
_from_child: msgspec.json.Decoder[FromChild] = msgspec.json.Decoder(FromChild)


def encode(message: Chore | FromChild) -> bytes:
    """One line, newline included."""
    return _encoder.encode(message) + b"\n"


def decode_chore(line: bytes) -> AnyChore:
    """Raises: msgspec.DecodeError for a line that is no chore (ValidationError is one)."""
    return _chore.decode(line)


def decode_from_child(line: bytes) -> FromChild:
    """Raises: msgspec.DecodeError for a line that is no message (ValidationError is one)."""
    return _from_child.decode(line)
