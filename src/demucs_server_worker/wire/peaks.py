"""A stem as a picture, for drawing it."""

from __future__ import annotations

import struct
import sys
from array import array

from pydantic import Field

from demucs_server_worker.wire.base import Shape

# As `separation.peaks` writes it: version, flags, Hz, samples a pair, pairs, channels.
_HEADER = struct.Struct("<iIiiIi")
_FULL_SCALE = 2**15
_DIGITS = 4


class PeaksBody(Shape):
    """The lowest and the highest sample of each stretch of a stem, both channels together; ±1 is full scale."""

    stem: str = Field(examples=["vocals"])
    sample_rate: int = Field(description="Hz, of the sound", examples=[44100])
    samples_per_point: int = Field(description="samples that a pair stands for; the last, for fewer", examples=[4061])
    duration_seconds: float = Field(examples=[184.2])
    min: tuple[float, ...] = Field(description="lowest samples", examples=[[-0.1, -0.42]])
    max: tuple[float, ...] = Field(description="highest samples, as many", examples=[[0.12, 0.38]])


def peaks_body(stem: str, duration_seconds: float, data: bytes) -> PeaksBody:
    """The peaks for the wire.

    Args:
        stem: its name.
        duration_seconds: its length.
        data: a file that `separation.peaks` wrote.
    """
    _, _, sample_rate, samples_per_point, _, _ = _HEADER.unpack_from(data)
    pairs = array("h", data[_HEADER.size :])
    if sys.byteorder == "big":
        pairs.byteswap()
    scaled = [round(value / _FULL_SCALE, _DIGITS) for value in pairs]
    return PeaksBody(
        stem=stem, sample_rate=sample_rate, samples_per_point=samples_per_point, duration_seconds=duration_seconds,
        min=tuple(scaled[::2]), max=tuple(scaled[1::2]),
    )  # fmt: skip
