"""Other ways to compute the same numbers, which a backend has faster code for."""

from __future__ import annotations

import torch
from demucs.hdemucs import HDecLayer, MultiWrap
from torch import Tensor, nn


class InterleavedConv(nn.Module):
    """A transposed convolution, computed as a convolution with more channels whose outputs are interleaved.

    With a stride of s and a kernel of m · s taps, each output sample n = s · q + r is the sum over j < m of
    input[q - j] · weight[r + s · j]: an ordinary convolution with m taps and one channel for each r, s times the
    channels. It works along the third axis (samples, or frequencies) of inputs with three or four axes.
    """

    def __init__(self, original: nn.ConvTranspose1d | nn.ConvTranspose2d) -> None:
        """Args: original: one that `is_rewritable`; its weights are copied."""
        super().__init__()
        self._stride = original.stride[0]
        taps = original.kernel_size[0] // self._stride
        chin, chout, *_ = original.weight.shape
        rest = original.weight.shape[3:]  # () or (1,)
        weight = original.weight.detach().reshape(chin, chout, taps, self._stride, *rest)
        # The newest input stands last in the window of a convolution, and meets the first taps of the kernel.
        weight = weight.flip(2).permute(1, 3, 0, 2, *range(4, weight.dim()))  # (chout, stride, chin, taps, …)
        weight = weight.reshape(chout * self._stride, chin, taps, *rest)
        kind = nn.Conv2d if rest else nn.Conv1d
        padding = (taps - 1, 0) if rest else taps - 1
        self.conv = kind(chin, chout * self._stride, tuple(weight.shape[2:]), padding=padding)  # type: ignore[arg-type]
        self.conv.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
        if original.bias is None:
            self.conv.bias = None
        else:
            self.conv.bias = nn.Parameter(original.bias.detach().repeat_interleave(self._stride), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, chin, n, …) → (batch, chout, stride · (n - 1) + kernel, …)"""
        y: Tensor = self.conv(x)  # (batch, chout · stride, n + taps - 1, …)
        batch, channels, length, *rest = y.shape
        y = y.view(batch, channels // self._stride, self._stride, length, *rest)
        return y.transpose(2, 3).reshape(batch, channels // self._stride, length * self._stride, *rest)


def is_rewritable(layer: nn.Module) -> bool:
    """Whether `layer` is a transposed convolution along its third axis alone, its kernel a multiple of its stride."""
    if not isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d):
        return False
    plain = not any(layer.padding) and not any(layer.output_padding) and set(layer.dilation) == {1}
    along_one_axis = all(size == 1 for size in (*layer.kernel_size[1:], *layer.stride[1:]))
    return plain and layer.groups == 1 and along_one_axis and layer.kernel_size[0] % layer.stride[0] == 0


@torch.no_grad()
def rewrite(network: nn.Module) -> int:
    """Put an `InterleavedConv` into each decoder layer of a hybrid network that can have one.

    Layers that work on bands of frequencies keep theirs: `MultiWrap` reaches into it to join the bands.

    Args:
        network: changed in place; computes the same as before.

    Returns:
        How many were put in.
    """
    banded = {layer for wrap in network.modules() if isinstance(wrap, MultiWrap) for layer in wrap.layers}
    count = 0
    for layer in network.modules():
        if isinstance(layer, HDecLayer) and layer not in banded and is_rewritable(layer.conv_tr):
            layer.conv_tr = InterleavedConv(layer.conv_tr)  # type: ignore[assignment]
            count += 1
    return count
