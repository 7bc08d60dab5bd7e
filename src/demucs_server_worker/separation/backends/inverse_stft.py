"""Spectrograms back to samples, as `HTDemucs._ispec` does it (demucs 4.1, `demucs/htdemucs.py`), at half the cost.

`torch.istft` makes whole copies for its padding, its transposition, its overlap-add and its division; half a segment's
work outside the network went into them.
"""

from __future__ import annotations

import torch
from torch import Tensor

_OVERLAP = 4  # windows over each sample: Demucs' hop is a quarter of its window


class InverseStft:
    """The inverse transform for one number of samples. Not safe to share between threads: it keeps its workspace."""

    def __init__(self, nfft: int, channels: int, samples: int) -> None:
        """Prepare.

        Args:
            nfft: samples of a window.
            channels: of sound.
            samples: that come out.
        """
        self._hop = nfft // _OVERLAP
        self._samples = samples
        self._frames = -(-samples // self._hop)
        self._bins = nfft // 2
        self._window = torch.hann_window(nfft)
        # Demucs pads two empty frames on each side, which count in what the windows add up to; then it drops half a
        # window, and as much as it had padded the samples with.
        self._start = self._hop // 2 * 3
        weights = self._added((self._window**2).expand(1, self._frames + 4, nfft))
        self._envelope = weights[:, 2 * self._hop + self._start :][:, :samples].clone()
        # Zero where the highest frequency stands, which Demucs leaves out.
        self._workspace = torch.zeros(channels, self._frames, self._bins + 1, 2)

    def __call__(self, spectrum: Tensor, gain: float, offset: float) -> Tensor:
        """Samples of one source.

        Args:
            spectrum: (channels × 2, frequencies, frames), real and imaginary parts in turn.
            gain, offset: `spectrum` is multiplied by `gain`, and then `offset` is added to each number.

        Returns:
            (channels, samples)
        """
        parts = spectrum.view(len(self._workspace), 2, self._bins, self._frames)
        target = self._workspace[:, :, : self._bins]  # (channels, frames, frequencies, 2)
        torch.add(torch.tensor(offset), parts.permute(0, 3, 2, 1), alpha=gain, out=target)
        bins = torch.view_as_complex(self._workspace)
        # `normalized=True` of torch.istft is the orthonormal transform.
        frames = torch.fft.irfft(bins, n=2 * self._bins, norm="ortho").mul_(self._window)
        return self._added(frames)[:, self._start :][:, : self._samples] / self._envelope

    def _added(self, frames: Tensor) -> Tensor:
        """(channels, frames, nfft) → (channels, (frames + 3) · hop): each hop is the sum of four quarters of frames."""
        channels, count, _ = frames.shape
        quarters = frames.reshape(channels, count, _OVERLAP, self._hop)
        summed = torch.zeros(channels, count + _OVERLAP - 1, self._hop)
        for quarter in range(_OVERLAP):
            summed[:, quarter : quarter + count] += quarters[:, :, quarter]
        return summed.view(channels, -1)
