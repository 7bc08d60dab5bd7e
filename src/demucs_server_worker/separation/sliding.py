"""The part of a song that is needed now: samples come in at one end, and are forgotten at the other."""

from __future__ import annotations

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
        self._base = 0  # position in the song of the first sample kept
        self._kept = torch.zeros(channels, 0)

    @property
    def end(self) -> int:
        """The position behind the last sample that has come in."""
        return self._base + self._kept.shape[-1]

    @property
    def held(self) -> int:
        """The number of samples in memory."""
        return self._kept.shape[-1]

    def has(self, end: int) -> bool:
        """Whether all samples before position `end` have come in, as far as the song has them."""
        return self.end >= min(end, self._length)

    def push(self, block: NDArray[np.float32]) -> None:
        """Take the next samples, (channels, samples), as decoded."""
        normalised = (torch.from_numpy(block) - self._mean) / self._std
        self._kept = torch.cat([self._kept, normalised], dim=-1)

    def window(self, start: int, length: int) -> Tensor:
        """The samples from `start` on, (channels, length), with silence where the song has none.

        Raises:
            IndexError: when some of them are forgotten, or have not come in yet.
        """
        left = max(0, -start)
        right = max(0, start + length - self._length)
        first = max(0, start) - self._base
        count = length - left - right
        if first < 0 or first + count > self._kept.shape[-1]:
            raise IndexError(f"samples {start} to {start + length}, of {self._base} to {self.end} held")
        inside = self._kept[..., first : first + count]
        return torch.nn.functional.pad(inside, (left, right))  # (channels, length)

    def forget(self, before: int) -> None:
        """Drop the samples before position `before`."""
        drop = max(0, min(before, self.end) - self._base)
        if drop > self._kept.shape[-1] // 2:  # a copy each time would cost more than the memory it frees
            self._kept = self._kept[..., drop:].clone()
            self._base += drop
