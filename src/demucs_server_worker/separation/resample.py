"""Changing the sample rate of a stream of stereo blocks, with an exact length at the end."""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray

Block = NDArray[np.float32]

# "HQ" is specified to 20 bits and "VHQ" to 28 (soxr's documentation). Model and source rates differ for most inputs
# that are not from a CD, each stem passes twice, and the cost is small beside the model's: see docs/decisions.md.
QUALITY = "VHQ"


def resampled_length(samples: int, in_rate: int, out_rate: int) -> int:
    """Length of `samples` at `in_rate` Hz once they are at `out_rate` Hz: samples · out / in, halves rounded up."""
    return (2 * samples * out_rate + in_rate) // (2 * in_rate)


class Resampler:
    """Resamples one signal that arrives in blocks. Time zero stays time zero: the filter's delay is taken out.

    What comes out does not depend on how the input was cut into blocks. With equal rates the blocks pass through as
    they are.
    """

    def __init__(self, in_rate: int, out_rate: int, channels: int = 2) -> None:
        """Args: in_rate, out_rate: Hz; channels: rows of each block."""
        self._in_rate = in_rate
        self._out_rate = out_rate
        self._channels = channels
        self._pushed = 0
        self._given = 0
        self._stream = None
        if in_rate != out_rate:
            self._stream = soxr.ResampleStream(in_rate, out_rate, channels, quality=QUALITY)

    def push(self, block: Block) -> Block:
        """Take the next samples and give those that are ready.

        Args:
            block: (channels, samples) at the input rate.

        Returns:
            (channels, samples) at the output rate; may be empty, since the filter looks ahead.
        """
        self._pushed += block.shape[1]
        if self._stream is None:
            self._given += block.shape[1]
            return block
        ready = self._stream.resample_chunk(np.ascontiguousarray(block.T))  # (samples, channels)
        return self._give(ready)

    def finish(self) -> Block:
        """Give the rest, so that everything given is exactly `resampled_length` of everything pushed.

        Returns:
            (channels, samples) at the output rate.
        """
        if self._stream is None:
            return np.zeros((self._channels, 0), np.float32)
        rest = self._stream.resample_chunk(np.zeros((0, self._channels), np.float32), last=True)
        missing = resampled_length(self._pushed, self._in_rate, self._out_rate) - self._given - rest.shape[0]
        if missing > 0:
            rest = np.concatenate([rest, np.zeros((missing, self._channels), np.float32)])
        return self._give(rest)

    def _give(self, ready: Block) -> Block:
        # soxr may round the total up by a sample; what lies past the exact length is never handed out.
        room = resampled_length(self._pushed, self._in_rate, self._out_rate) - self._given
        ready = ready[: max(room, 0)]
        self._given += ready.shape[0]
        return np.ascontiguousarray(ready.T)  # (channels, samples)
