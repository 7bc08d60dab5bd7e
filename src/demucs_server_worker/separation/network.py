"""One model of a bag, ready to run: its backend, and what it wants to be shown."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from demucs.htdemucs import HTDemucs
from torch import Tensor, nn

from demucs_server_worker.errors import InvalidOption
from demucs_server_worker.separation.backends.base import Backend


@dataclass
class ComputeClock:
    """Seconds and number of forward passes, one a segment, counted across the networks of one separation."""

    seconds: float = 0.0
    passes: int = 0


@dataclass
class Network:
    """A member of a bag.

    Attributes:
        module: one of Demucs' model classes, asked for its rules only; it may have let go of its weights.
        backend: runs it.
        clock: counts its forward passes.
    """

    module: nn.Module
    backend: Backend
    clock: ComputeClock = field(default_factory=ComputeClock)

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

    def __call__(self, windows: Tensor) -> Tensor:
        """Forward passes of several segments.

        Args:
            windows: (segments, channels, samples), normalised.

        Returns:
            (segments, sources, channels, samples), float32, on the CPU.
        """
        started = time.perf_counter()
        estimates = self.backend.run(windows)
        self.clock.seconds += time.perf_counter() - started
        self.clock.passes += len(windows)
        return estimates
