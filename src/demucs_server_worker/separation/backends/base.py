"""What every backend can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Computed:
    """How a network was computed, for the manifest.

    Attributes:
        backend: `torch` or `openvino`.
        device: `cpu`, `cuda:0`, …
        precision: `fp32`, `bf16` or `fp16`.
    """

    backend: str
    device: str
    precision: str


class Backend(Protocol):
    """Runs one network."""

    @property
    def computed(self) -> Computed:
        """How it computes."""
        ...

    @property
    def batch(self) -> int:
        """Segments that it likes to be given at once; it takes any number."""
        ...

    def run(self, batch: Tensor) -> Tensor:
        """One forward pass.

        Args:
            batch: (batch, channels, samples), normalised, on the CPU.

        Returns:
            (batch, sources, channels, samples), float32, on the CPU.
        """
        ...
