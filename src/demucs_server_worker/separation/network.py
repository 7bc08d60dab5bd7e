"""One model of a bag, ready to run: on its device, in its precision, with what it wants to be shown."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import torch
from demucs.htdemucs import HTDemucs
from torch import Tensor, nn

from demucs_server_worker.errors import InvalidOption


@dataclass
class ComputeClock:
    """Seconds and number of forward passes, counted across the networks of one separation."""

    seconds: float = 0.0
    passes: int = 0


@dataclass
class Network:
    """A member of a bag.

    Attributes:
        module: one of Demucs' model classes, in eval mode.
        device: where it runs.
        dtype: float32, or the number format of autocast.
        clock: counts its forward passes.
    """

    module: nn.Module
    device: torch.device
    dtype: torch.dtype
    clock: ComputeClock = field(default_factory=ComputeClock)

    def __post_init__(self) -> None:
        # The fast path of nn.MultiheadAttention builds whole score matrices; the slow one, scaled-dot-product
        # attention, is faster here and needs less memory (docs/decisions.md).
        torch.backends.mha.set_fastpath_enabled(False)
        self.module.to(self.device)

    @property
    def _segment(self) -> Any:
        return self.module.segment

    @property
    def own_segment(self) -> float:
        """Seconds of a segment that this model likes best."""
        return float(self._segment)

    def check_segment(self, seconds: float | None) -> None:
        """Raises InvalidOption for a segment longer than a transformer model was trained for."""
        if seconds is not None and isinstance(self.module, HTDemucs) and seconds > self.own_segment:
            raise InvalidOption(
                option="segment",
                value=seconds,
                allowed=f"this model is a transformer, trained for at most {self.own_segment:g} seconds",
            )

    def segment_length(self, seconds: float | None, sample_rate: int) -> int:
        """Samples of a full segment, for `seconds` or the model's own. As Demucs counts them: rounded down."""
        # The model's own may be a Fraction: multiplied as it is, it gives the exact number of samples.
        return int(sample_rate * (self._segment if seconds is None else seconds))

    def valid_length(self, length: int, seconds: float | None, sample_rate: int) -> int:
        """Samples that the model wants to be shown for a segment of `length`, as in Demucs' `apply_model`."""
        if isinstance(self.module, HTDemucs) and seconds is not None:
            return int(seconds * sample_rate)
        if hasattr(self.module, "valid_length"):
            try:
                return int(self.module.valid_length(length))  # type: ignore[operator]
            except ValueError:
                raise InvalidOption(
                    option="split",
                    value="no",
                    allowed=f"this model is a transformer and takes at most {self.own_segment:g} seconds at once",
                ) from None
        return length

    def __call__(self, window: Tensor) -> Tensor:
        """One forward pass.

        Args:
            window: (channels, samples), normalised.

        Returns:
            (sources, channels, samples), float32, on the CPU.
        """
        started = time.perf_counter()
        with torch.inference_mode(), self._autocast():
            out = self.module(window[None].to(self.device))  # (1, sources, channels, samples)
            estimate: Tensor = out[0].float().cpu()
        self.clock.seconds += time.perf_counter() - started
        self.clock.passes += 1
        return estimate

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not torch.float32)
