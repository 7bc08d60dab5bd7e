"""Networks as torch runs them: every network, on every device."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from demucs_server_worker.separation.backends.base import Computed
from demucs_server_worker.separation.device import name_of


class TorchBackend:
    """A network on its device, in its precision."""

    def __init__(self, network: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        """Move the network to where it runs.

        Args:
            network: one of Demucs' model classes, in eval mode.
            device: where it runs.
            dtype: float32, or the number format of autocast.
        """
        # The fast path of nn.MultiheadAttention builds whole score matrices; the slow one, scaled-dot-product
        # attention, is faster here and needs less memory (docs/decisions.md).
        torch.backends.mha.set_fastpath_enabled(False)
        self._network = network.to(device)
        self._device = device
        self._dtype = dtype

    @property
    def computed(self) -> Computed:
        """How it computes."""
        return Computed("torch", str(self._device), name_of(self._dtype))

    def run(self, batch: Tensor) -> Tensor:
        """As `Backend.run`."""
        lower = self._dtype is not torch.float32
        with torch.inference_mode(), torch.autocast(self._device.type, dtype=self._dtype, enabled=lower):
            estimate: Tensor = self._network(batch.to(self._device))
            return estimate.float().cpu()
