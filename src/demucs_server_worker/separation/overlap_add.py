"""From overlapping segments to one signal: weights, the sums of one pass, and the blend of several passes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from demucs_server_worker.separation.fifo import Block, SampleFifo


def triangle(length: int) -> Tensor:
    """The weight of each sample of a segment: a triangle that is 1 in the middle, as in Demucs' `apply_model`.

    Args:
        length: samples.

    Returns:
        (samples,), float32, above 0 everywhere.
    """
    rise = torch.arange(1, length // 2 + 1)
    fall = torch.arange(length - length // 2, 0, -1)
    weight = torch.cat([rise, fall])
    return weight / weight.max()


class OverlapAdd:
    """The weighted sum of one pass's segments. Holds one segment, whatever the song's length."""

    def __init__(self, stems: int, channels: int, segment_length: int, stride: int) -> None:
        """Args: stems, channels: of what is added; segment_length, stride: samples."""
        self._weight = triangle(segment_length)
        self._stride = stride
        self._sum = torch.empty(stems, channels, segment_length)
        self._total = torch.empty(segment_length)
        self._begun = 0  # samples, from the start, that an earlier segment has put something into

    def add(self, segment: Tensor, *, is_last: bool) -> Tensor:
        """Add the next segment, and take out what no later one touches.

        Args:
            segment: (stems, channels, samples), beginning one stride after the one before.
            is_last: whether none follows.

        Returns:
            (stems, channels, samples): finished samples, following those returned before.
        """
        length = segment.shape[-1]
        weight = self._weight[:length]
        both = min(self._begun, length)
        self._sum[..., :both].addcmul_(segment[..., :both], weight[:both])
        torch.mul(segment[..., both:], weight[both:], out=self._sum[..., both:length])
        self._total[:both] += weight[:both]
        self._total[both:length] = weight[both:]
        self._begun = max(self._begun, length)
        done = length if is_last else self._stride
        finished = self._sum[..., :done] / self._total[:done]  # (stems, channels, done)
        self._advance(done)
        return finished

    def _advance(self, done: int) -> None:
        kept = max(0, self._begun - done)
        self._sum[..., :kept] = self._sum[..., done : self._begun].clone()
        self._total[:kept] = self._total[done : self._begun].clone()
        self._begun = kept


class Blend:
    """The sum of several passes (members of a bag, shifts), each with a coefficient a stem, as far as all have come."""

    def __init__(self, coefficients: Sequence[Tensor]) -> None:
        """Args: coefficients: one a pass, (stems,); over the passes they add up to 1 for each stem."""
        self._coefficients = [each[:, None, None].numpy() for each in coefficients]  # (stems, 1, 1)
        self._waiting = [SampleFifo() for _ in coefficients]

    def push(self, index: int, block: Block) -> Block | None:
        """Take the next samples of pass `index`, and give what has become complete, or None.

        Args:
            index: the pass.
            block: (stems, channels, samples); the blend's from here on.
        """
        self._waiting[index].push(block)
        ready = min(each.length for each in self._waiting)
        if ready == 0:
            return None
        if len(self._waiting) == 1:
            return self._waiting[0].take(ready)
        blended = np.zeros((*block.shape[:-1], ready), np.float32)  # (stems, channels, ready)
        for coefficient, waiting in zip(self._coefficients, self._waiting, strict=True):
            blended += coefficient * waiting.take(ready)
        return blended
