"""The part of a song that is needed now: samples come in at one end, and are forgotten at the other."""

from __future__ import annotations

from collections import deque

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class SlidingMix:
    """The normalised mix around the current segments. Outside the song there is silence."""

    def __init__(self, length: int, mean: float, std: float, channels: int = 2) -> None:
        """Args: length: samples of the whole song; mean, std: of its mono mix; channels: of the mix."""
        self._length = length
        self._mean = mean
        self._std = std
        self._channels = channels
        self._blocks: deque[Tensor] = deque()  # (channels, samples) each, one following the other
        self._base = 0  # position in the song of the first sample kept
        self._end = 0

    @property
    def end(self) -> int:
        """The position behind the last sample that has come in."""
        return self._end

    @property
    def held(self) -> int:
        """The number of samples in memory."""
        return self._end - self._base

    def has(self, end: int) -> bool:
        """Whether all samples before position `end` have come in, as far as the song has them."""
        return self.end >= min(end, self._length)

    def push(self, block: NDArray[np.float32]) -> None:
        """Take the next samples, (channels, samples), as decoded."""
        self._blocks.append((torch.from_numpy(block) - self._mean) / self._std)
        self._end += block.shape[-1]

    def window(self, start: int, length: int) -> Tensor:
        """The samples from `start` on, (channels, length), with silence where the song has none.

        Raises:
            IndexError: when some of them are forgotten, or have not come in yet.
        """
        first, last = max(0, start), min(start + length, self._length)
        if first < min(last, self._base) or last > self._end:
            raise IndexError(f"samples {start} to {start + length}, of {self._base} to {self.end} held")
        window = torch.zeros(self._channels, length)
        at = self._base
        for block in self._blocks:
            begin, end = max(first, at), min(last, at + block.shape[-1])
            if begin < end:
                window[:, begin - start : end - start] = block[:, begin - at : end - at]
            at += block.shape[-1]
        return window

    def forget(self, before: int) -> None:
        """Drop the samples before position `before`. The memory of a block goes with its last sample."""
        drop = min(before, self._end) - self._base
        while drop > 0:
            block = self._blocks.popleft()
            if block.shape[-1] > drop:
                self._blocks.appendleft(block[:, drop:])
            self._base += min(drop, block.shape[-1])
            drop -= block.shape[-1]
