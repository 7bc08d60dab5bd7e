"""A queue of samples: blocks in, any number of samples out, in order."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

Block = NDArray[np.float32]


class SampleFifo:
    """Blocks whose last axis is time, joined and cut as the reader wants them."""

    def __init__(self) -> None:
        self._blocks: deque[Block] = deque()
        self.length = 0

    def push(self, block: Block) -> None:
        """Add samples behind those that wait, (…, samples)."""
        if block.shape[-1]:
            self._blocks.append(block)
            self.length += block.shape[-1]

    def take(self, count: int) -> Block:
        """The next `count` samples, (…, count); there must be as many, and more than none."""
        self.length -= count
        parts: list[Block] = []
        while count > 0:
            head = self._blocks.popleft()
            if head.shape[-1] > count:
                self._blocks.appendleft(head[..., count:])
                head = head[..., :count]
            parts.append(head)
            count -= head.shape[-1]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
