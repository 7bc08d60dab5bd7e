"""Sample formats: from a decoded frame of any format to float32 at nominal full scale ±1."""

from __future__ import annotations

from typing import Any

import numpy as np
from av.audio.frame import AudioFrame
from numpy.typing import NDArray

# FFmpeg's sample formats, packed names; the planar ones carry a `p` behind. The scale of integers is a power of two,
# so that writing the same depth again gives the same integers.
_DTYPES: dict[str, tuple[str, float]] = {
    "u8": ("u1", 2.0**-7),
    "s16": ("i2", 2.0**-15),
    "s32": ("i4", 2.0**-31),
    "s64": ("i8", 2.0**-63),
    "flt": ("f4", 1.0),
    "dbl": ("f8", 1.0),
}


def to_float(frame: AudioFrame) -> NDArray[np.float32] | None:
    """The samples of `frame`, of at most eight channels.

    Returns:
        (channels, samples) float32; None for a sample format that is not known.
    """
    packed = frame.format.packed.name
    if packed not in _DTYPES:
        return None
    dtype, scale = _DTYPES[packed]
    channels = len(frame.layout.channels)
    if frame.format.is_planar:
        # PyAV finds the end of the planes by a null pointer, which FFmpeg does not promise: with eight channels there
        # is a ninth plane that points nowhere. (Past eight, its search itself would leave the array.)
        planes = frame.planes[:channels]
        raw = np.stack([np.frombuffer(memoryview(plane), dtype, frame.samples) for plane in planes])
    else:
        raw = np.frombuffer(memoryview(frame.planes[0]), dtype, frame.samples * channels).reshape(-1, channels).T
    if packed == "u8":
        raw = raw.astype(np.int16) - 128
    if scale == 1.0:
        # A double beyond float32's range becomes infinite here, and is refused with the other non-numbers.
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(raw, np.float32)  # (channels, samples)
    return np.ascontiguousarray(raw, np.float32) * np.float32(scale)  # (channels, samples)


def interleaved(block: NDArray[Any]) -> NDArray[Any]:
    """(channels, samples) → (samples, channels), C-contiguous, as files hold them.

    Channel by channel, since NumPy's own copy of a transposed array walks along the short axis: six times slower.
    """
    out = np.empty((block.shape[1], block.shape[0]), block.dtype)
    for channel, samples in enumerate(block):
        out[:, channel] = samples
    return out


def is_float(frame: AudioFrame) -> bool:
    """Whether this frame's format can hold NaN or infinity."""
    return frame.format.packed.name in ("flt", "dbl")
