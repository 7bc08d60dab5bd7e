"""The network with an inverse Fourier transform that costs a third in training. Weights and output are the same."""

import torch
from demucs.htdemucs import HTDemucs
from torch import Tensor


class InverseSpectrogram(torch.autograd.Function):
    """Inverse short-time Fourier transform of :meth:`HTDemucs._ispec`, with its adjoint written out.

    Autograd's own way copies the spectrogram some ten times. A Hann window at a quarter of its length sums, squared, to
    3/2 wherever the network looks, so that dividing by the envelope is one constant.
    """

    @staticmethod
    def forward(ctx, parts: Tensor, length: int, window: Tensor) -> Tensor:  # type: ignore[override]
        """Return the signals ``(many, length)`` of real and imaginary parts ``(many, 2, freqs, frames)``."""
        many, _, freqs, frames = parts.shape
        size, hop = 2 * freqs, freqs // 2
        spectrum = torch.zeros(many, frames, freqs + 1, 2)
        spectrum[:, :, :freqs, 0] = parts[:, 0].transpose(1, 2)
        spectrum[:, :, :freqs, 1] = parts[:, 1].transpose(1, 2)
        pieces = torch.fft.irfft(torch.view_as_complex(spectrum), size, norm="ortho")  # (many, frames, size)
        pieces *= window / 1.5
        signal = torch.zeros(many, frames + 3, hop)
        for part in range(4):
            signal[:, part : part + frames] += pieces[:, :, part * hop : (part + 1) * hop]
        ctx.save_for_backward(window)
        ctx.shape = parts.shape
        start = hop // 2 * 3
        return signal.view(many, -1)[:, start : start + length]

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (window,) = ctx.saved_tensors
        many, _, freqs, frames = ctx.shape
        size, hop = 2 * freqs, freqs // 2
        start = hop // 2 * 3
        padded = torch.zeros(many, (frames + 3) * hop)
        padded[:, start : start + gradient.shape[-1]] = gradient
        spectrum = torch.fft.rfft(padded.unfold(1, size, hop) * (window * (2.0 / 1.5)), norm="ortho")
        parts = torch.empty(many, 2, freqs, frames)
        parts[:, 0] = spectrum.real[:, :, :freqs].transpose(1, 2)
        parts[:, 1] = spectrum.imag[:, :, :freqs].transpose(1, 2)
        parts[:, :, 0] *= 0.5  # the constant part counts once, every other frequency twice
        return parts, None, None


class TrainedHTDemucs(HTDemucs):
    """HTDemucs for training only; load its weights into ``HTDemucs`` to use them."""

    def _mask(self, z: Tensor, m: Tensor) -> Tensor:
        """Return real and imaginary parts: the network's own, or its magnitudes under the phase of the mix."""
        if self.cac:
            return m
        phase = (z / (1e-8 + z.abs()))[:, None]  # (batch, 1, channels, freqs, frames)
        return torch.stack((phase.real * m, phase.imag * m), dim=3)

    def _ispec(self, z: Tensor, length: int, scale: int = 0) -> Tensor:
        batch, sources, *_, freqs, frames = z.shape
        parts = z.reshape(batch * sources * self.audio_channels, 2, freqs, frames)
        signal = InverseSpectrogram.apply(parts, length, torch.hann_window(self.nfft))
        return signal.view(batch, sources, self.audio_channels, length)
