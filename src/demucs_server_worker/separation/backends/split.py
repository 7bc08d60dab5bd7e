"""A hybrid transformer in three parts: into its spectrogram, through the network, and back to samples.

The network between is all that a converter needs to understand: no complex number, no Fourier transform, one shape.
Together the parts compute what `HTDemucs.forward` does in eval mode (demucs 4.1, `demucs/htdemucs.py`).
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from demucs.hdemucs import HEncLayer
from demucs.htdemucs import HTDemucs
from torch import Tensor, nn
from torch.nn import functional

from demucs_server_worker.separation.backends.inverse_stft import InverseStft


class Scale(NamedTuple):
    """Mean and standard deviation that the network's input was normalised by; each broadcasts over (batch, …)."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, x: Tensor) -> Scale:
        """Of each item of the batch."""
        axes = tuple(range(1, x.dim()))
        return cls(x.mean(dim=axes, keepdim=True), x.std(dim=axes, keepdim=True))

    def normalise(self, x: Tensor) -> Tensor:
        return (x - self.mean) / (1e-5 + self.std)  # as Demucs does it

    def restore(self, x: Tensor) -> Tensor:
        """(batch, sources, …) → the same, at the level of the input."""
        return x * self.std[:, None] + self.mean[:, None]


class Core(nn.Module):
    """The network without its Fourier transforms: everything that has weights."""

    def __init__(self, network: nn.Module) -> None:
        """Args: network: one that `is_divisible`, whose layers are used, not copied."""
        super().__init__()
        self._network: Any = network  # its layers are typed as modules that may be tensors

    def forward(self, spectrum: Tensor, wave: Tensor) -> tuple[Tensor, Tensor]:
        """Both branches.

        Args:
            spectrum: (batch, channels × 2, frequencies, frames), normalised.
            wave: (batch, channels, samples), normalised.

        Returns:
            (batch, sources × channels × 2, frequencies, frames) and (batch, sources × channels, samples).
        """
        x, skips, sizes, wave, wave_skips, wave_sizes = self._encode(spectrum, wave)
        x, wave = self._transform(x, wave)
        return self._decode(x, skips, sizes, wave, wave_skips, wave_sizes)

    def _encode(
        self, x: Tensor, wave: Tensor
    ) -> tuple[Tensor, list[Tensor], list[int], Tensor, list[Tensor], list[int]]:
        network = self._network
        skips, sizes, wave_skips, wave_sizes = [], [], [], []
        for depth, (layer, wave_layer) in enumerate(zip(network.encoder, network.tencoder, strict=True)):
            sizes.append(x.shape[-1])
            wave_sizes.append(wave.shape[-1])
            wave = wave_layer(wave)  # (batch, channels, samples / stride)
            x = layer(x)  # (batch, channels, frequencies / stride, frames)
            if depth == 0 and network.freq_emb is not None:
                places = torch.arange(x.shape[-2], device=x.device)
                embedding = network.freq_emb(places).t()[None, :, :, None]  # (1, channels, frequencies, 1)
                x = x + network.freq_emb_scale * embedding
            skips.append(x)
            wave_skips.append(wave)
        return x, skips, sizes, wave, wave_skips, wave_sizes

    def _transform(self, x: Tensor, wave: Tensor) -> tuple[Tensor, Tensor]:
        network = self._network
        if network.crosstransformer is None:
            return x, wave
        frequencies = x.shape[-2]
        if network.bottom_channels:
            x = network.channel_upsampler(x.flatten(2)).unflatten(2, (frequencies, -1))
            wave = network.channel_upsampler_t(wave)
        x, wave = network.crosstransformer(x, wave)
        if network.bottom_channels:
            x = network.channel_downsampler(x.flatten(2)).unflatten(2, (frequencies, -1))
            wave = network.channel_downsampler_t(wave)
        return x, wave

    def _decode(
        self, x: Tensor, skips: list[Tensor], sizes: list[int],
        wave: Tensor, wave_skips: list[Tensor], wave_sizes: list[int],
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        for layer, wave_layer in zip(self._network.decoder, self._network.tdecoder, strict=True):
            x, _ = layer(x, skips.pop(), sizes.pop())
            wave, _ = wave_layer(wave, wave_skips.pop(), wave_sizes.pop())
        return x, wave


def is_divisible(network: nn.Module) -> bool:
    """Whether the parts below are all that `network` computes, whatever its name: its settings decide.

    It must be a hybrid transformer that gives whole spectrograms (no mask, no Wiener filter), pads to one length, keeps
    its two branches apart down to the transformer, and draws nothing at random.
    """
    if type(network) is not HTDemucs:
        return False
    settings: Any = network
    encoder, wave_encoder, transformer = settings.encoder, settings.tencoder, settings.crosstransformer
    no_bands = all(isinstance(layer, HEncLayer) for layer in encoder)
    two_branches = len(encoder) == len(wave_encoder) and not any(layer.empty for layer in wave_encoder)
    steady = transformer is None or (transformer.emb == "sin" and not transformer.sin_random_shift)
    return bool(settings.cac and settings.use_train_segment and no_bands and two_branches and steady)


class Ends:
    """What stands before and behind the core. Holds no weights. Not safe to share between threads."""

    def __init__(self, network: nn.Module) -> None:
        """Args: network: one that `is_divisible`; only its settings are used."""
        self._network: Any = network
        settings = cast(Any, network)
        self.length = int(settings.segment * settings.samplerate)  # samples that the core takes
        self._sources = len(settings.sources)
        self._inverse = InverseStft(settings.nfft, settings.audio_channels, self.length)

    def example(self) -> tuple[Tensor, Tensor]:
        """Inputs of the core with the right shapes."""
        spectrum, wave, _, _ = self.before(torch.zeros(1, self._network.audio_channels, self.length))
        return spectrum, wave

    def before(self, mix: Tensor) -> tuple[Tensor, Tensor, Scale, Scale]:
        """What the core takes, and the scales to undo behind it.

        Args:
            mix: (batch, channels, samples), at most `length` of them.
        """
        wave = functional.pad(mix, (0, self.length - mix.shape[-1]))
        spectrum = self._network._magnitude(self._network._spec(wave))  # (batch, channels × 2, frequencies, frames)
        scale, wave_scale = Scale.of(spectrum), Scale.of(wave)
        return scale.normalise(spectrum), wave_scale.normalise(wave), scale, wave_scale

    def behind(self, spectrum: Tensor, wave: Tensor, scale: Scale, wave_scale: Scale, length: int) -> Tensor:
        """What the core gives, as samples: (batch, sources, channels, `length`)."""
        sources = self._sources
        batch = spectrum.shape[0]
        spectrum = spectrum.view(batch, sources, -1, *spectrum.shape[2:])
        stems = wave_scale.restore(wave.view(batch, sources, -1, self.length))
        for item in range(batch):
            gain, offset = float(scale.std[item]), float(scale.mean[item])
            for place in range(sources):
                # A whole spectrogram needs no mix to be masked with.
                stems[item, place] += self._inverse(spectrum[item, place], gain, offset)
        return stems[..., :length]
