"""Networks as torch runs them: every network, on every device."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn

from demucs_server_worker.separation.backends.allocator import LargeBlocks
from demucs_server_worker.separation.backends.base import Computed
from demucs_server_worker.separation.device import name_of

_log = logging.getLogger(__name__)

# What a GPU is given at once, where it has room: enough work to keep it busy.
MOST_SEGMENTS = 8
# Of a GPU's free memory, for each: demucs 4.1's README asks for about 7 GB for all, with the model and the song on it.
BYTES_A_SEGMENT = 2 * 10**9


class TorchBackend:
    """A network on its device, in its precision."""

    def __init__(self, network: nn.Module, device: torch.device, dtype: torch.dtype, batch: int | None = None) -> None:
        """Move the network to where it runs, and leave it there.

        Args:
            network: one of Demucs' model classes, in eval mode.
            device: where it runs.
            dtype: float32, or the number format of autocast.
            batch: segments at once; None takes what suits the device.
        """
        # The fast path of nn.MultiheadAttention builds whole score matrices; the slow one, scaled-dot-product
        # attention, is faster here and needs less memory (docs/decisions.md).
        torch.backends.mha.set_fastpath_enabled(False)
        LargeBlocks.keep()
        self._network = network.to(device)
        self._device = device
        self._dtype = dtype
        self._batch = batch or _segments_at_once(device)

    @property
    def computed(self) -> Computed:
        """How it computes."""
        return Computed("torch", str(self._device), name_of(self._dtype))

    @property
    def batch(self) -> int:
        """As `Backend.batch`; fewer from the first time on that the device had no memory for so many."""
        return self._batch

    def run(self, batch: Tensor) -> Tensor:
        """As `Backend.run`. Where the device lacks the memory for all of them, in parts.

        Raises:
            torch.OutOfMemoryError: it lacks the memory for a single one.
        """
        try:
            return torch.cat([self._run(part) for part in torch.split(batch, self._batch)])
        except torch.OutOfMemoryError:
            if self._batch == 1:
                raise
        # Outside of the handler: the error's traceback holds what did not fit.
        self._batch = max(1, self._batch // 2)
        _log.warning("%s lacks the memory for more than %d segments at once", self._device, self._batch)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        return self.run(batch)

    def _run(self, batch: Tensor) -> Tensor:
        lower = self._dtype is not torch.float32
        with torch.inference_mode(), torch.autocast(self._device.type, dtype=self._dtype, enabled=lower):
            estimate: Tensor = self._network(batch.to(self._device))
            return estimate.float().cpu()


def _segments_at_once(device: torch.device) -> int:
    """One on a CPU, whose caches hold no second one."""
    if device.type != "cuda":
        return 1
    free, _ = torch.cuda.mem_get_info(device)
    return min(MOST_SEGMENTS, max(1, free // BYTES_A_SEGMENT))
