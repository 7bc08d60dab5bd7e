"""The core of a hybrid transformer, written so that channels lie side by side in memory all the way through.

Convolutions on a CPU want it so, and the normalisations and gates between them do as well; what costs is every change
of the order. `split.Core`, converted as Demucs writes it, spends a third of its time on such changes. Here a tensor
comes in two shapes: *images*, (1, channels, rows, columns), for two-dimensional convolutions, and *rows*,
(rows, columns, channels), for what is within a residual branch. In the order that OpenVINO gives to images both are the
same bytes, and it knows so wherever the permutation stands next to a reshape; hence the reshapes. With one row for each
frequency, and one row for samples, both branches of the network are the same code.

What is computed is what demucs 4.1 computes (`demucs/hdemucs.py`, `demucs/demucs.py`, `demucs/transformer.py`).
"""

from __future__ import annotations

from typing import Any, cast

import torch
from demucs.transformer import MyGroupNorm, create_2d_sin_embedding
from torch import Tensor, nn
from torch.nn import functional

from demucs_server_worker.separation.backends.rewriting import is_rewritable

_BRANCH = (nn.Conv1d, nn.GroupNorm, nn.GELU, nn.Conv1d, nn.GroupNorm, nn.GLU)  # and a scale


def can_be_channels_last(network: nn.Module) -> bool:
    """Whether `ChannelsLastCore` computes what `network` does: its settings decide.

    Args:
        network: one that `split.is_divisible`.
    """
    its = cast(Any, network)
    decoders = (*its.decoder, *its.tdecoder)
    layers = (*its.encoder, *its.tencoder, *decoders)
    return (
        its.crosstransformer is not None
        and bool(its.bottom_channels)
        and not any(layer.norm or layer.rewrite is None for layer in layers)
        and all(layer.dconv is None or all(map(_is_plain, layer.dconv.layers)) for layer in layers)
        and all(layer.pad and is_rewritable(layer.conv_tr) for layer in decoders)
    )


def _is_plain(branch: Any) -> bool:
    """Whether a residual branch is what `_Branch` computes: normalised as a whole, no LSTM and no attention in it."""
    kinds = [type(part) for part in branch]
    return (*kinds[:-1],) == _BRANCH and branch[1].num_groups == branch[4].num_groups == 1


class ChannelsLastCore(nn.Module):
    """As `split.Core`, for a batch of one."""

    def __init__(self, network: nn.Module) -> None:
        """Args: network: one that `can_be_channels_last`; its transformer is used and changed, the rest is copied."""
        super().__init__()
        its = cast(Any, network)
        self._encoder = nn.ModuleList(map(_Encoder, its.encoder))
        self._wave_encoder = nn.ModuleList(map(_Encoder, its.tencoder))
        self._decoder = nn.ModuleList(map(_Decoder, its.decoder))
        self._wave_decoder = nn.ModuleList(map(_Decoder, its.tdecoder))
        self._has_embedding = its.freq_emb is not None
        if self._has_embedding:
            embedding = its.freq_emb.weight.detach() * its.freq_emb_scale  # (frequencies, channels)
            self._embedding = _constant(embedding.t()[None, :, :, None])
        self._up, self._wave_up = _Linear(its.channel_upsampler), _Linear(its.channel_upsampler_t)
        self._down, self._wave_down = _Linear(its.channel_downsampler), _Linear(its.channel_downsampler_t)
        self._transformer: Any = its.crosstransformer
        for layer in (*self._transformer.layers, *self._transformer.layers_t):
            if isinstance(layer.norm_out, MyGroupNorm) and layer.norm_out.num_groups == 1:
                layer.norm_out = _SequenceNorm(layer.norm_out)

    def forward(self, spectrum: Tensor, wave: Tensor) -> tuple[Tensor, Tensor]:
        """As `split.Core.forward`."""
        x, wave = spectrum, wave[:, :, None]  # images; the wave's: (1, channels, 1, samples)
        skips: list[Tensor] = []
        wave_skips: list[Tensor] = []
        lengths: list[int] = []
        for layer, wave_layer in zip(self._encoder, self._wave_encoder, strict=True):
            lengths.append(wave.shape[3])
            wave = wave_layer(wave)
            x = layer(x)
            if not skips and self._has_embedding:
                x = x + self._embedding
            skips.append(x)
            wave_skips.append(wave)
        x, wave = self._transform(x, wave)
        for layer, wave_layer in zip(self._decoder, self._wave_decoder, strict=True):
            x = layer(x, skips.pop(), None)
            wave = wave_layer(wave, wave_skips.pop(), lengths.pop())
        return x, wave[:, :, 0]

    def _transform(self, x: Tensor, wave: Tensor) -> tuple[Tensor, Tensor]:
        """Images to images. The order of a sequence is nothing to attention, so frequencies may come before frames."""
        transformer = self._transformer
        frequencies, frames = x.shape[2:]
        x, wave = self._up(rows_of(x)), self._wave_up(rows_of(wave))
        width = x.shape[-1]
        # The same sines that Demucs adds, (1, width, frequencies, frames) and (samples, 1, width)
        places: Tensor = create_2d_sin_embedding(  # type: ignore[no-untyped-call]
            width, frequencies, frames, x.device, transformer.max_period
        )
        wave_places = transformer._get_pos_embedding(wave.shape[1], 1, width, x.device)
        x = x.reshape(1, frequencies * frames, width)
        x = transformer.norm_in(x) + transformer.weight_pos_embed * rows_of(places).reshape(x.shape)
        wave = transformer.norm_in_t(wave) + transformer.weight_pos_embed * wave_places.permute(1, 0, 2)
        for place, (layer, wave_layer) in enumerate(zip(transformer.layers, transformer.layers_t, strict=True)):
            if place % 2 == transformer.classic_parity:
                x, wave = layer(x), wave_layer(wave)
            else:
                x, wave = layer(x, wave), wave_layer(wave, x)
        return image_of(self._down(x).reshape(frequencies, frames, -1)), image_of(self._wave_down(wave))


def rows_of(image: Tensor) -> Tensor:
    """(1, channels, rows, columns) → (rows, columns, channels)"""
    _, channels, rows, columns = image.shape
    return image.permute(0, 2, 3, 1).reshape(rows, columns, channels)


def image_of(rows: Tensor) -> Tensor:
    """(rows, columns, channels) → (1, channels, rows, columns)"""
    return rows.reshape(1, *rows.shape).permute(0, 3, 1, 2)


def _constant(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach().clone().contiguous(), requires_grad=False)


class _Encoder(nn.Module):
    """`HEncLayer`: image to image."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self._multiple = 1 if layer.freq else layer.stride
        self._conv = _Conv(layer.conv)
        self._residual = nn.Identity() if layer.dconv is None else _Residual(layer.dconv)
        self._gated = _GatedConv(layer.rewrite)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.pad(x, (0, -x.shape[3] % self._multiple)) if x.shape[3] % self._multiple else x
        gated: Tensor = self._gated(self._residual(functional.gelu(self._conv(x))))
        return gated


class _Decoder(nn.Module):
    """`HDecLayer`: image to image. Its transposed convolution is computed as `rewriting.InterleavedConv` does."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self._is_last, self._is_of_frequencies = layer.last, layer.freq
        self._cut, self._stride = layer.pad, layer.stride
        self._gated = _GatedConv(layer.rewrite)
        self._residual = nn.Identity() if layer.dconv is None else _Residual(layer.dconv)
        original = layer.conv_tr
        chin, chout = original.weight.shape[:2]
        taps = original.kernel_size[0] // self._stride
        weight = original.weight.detach().reshape(chin, chout, taps, self._stride).flip(2)
        weight = weight.permute(3, 1, 0, 2).reshape(self._stride * chout, chin, taps)
        self._weight = _constant(weight[..., None] if layer.freq else weight[:, :, None])
        self._bias = _constant(original.bias.repeat(self._stride)) if original.bias is not None else None
        self._padding = (taps - 1, 0) if layer.freq else (0, taps - 1)

    def forward(self, x: Tensor, skip: Tensor, length: int | None) -> Tensor:
        x = self._residual(self._gated(x + skip))
        y = rows_of(functional.conv2d(x, self._weight, self._bias, padding=self._padding))
        rows, columns, _ = y.shape  # channels: those of `stride` neighbours, one after the other
        if self._is_of_frequencies:
            y = y.reshape(rows, columns, self._stride, -1).permute(0, 2, 1, 3)
            y = y.reshape(rows * self._stride, columns, -1)[self._cut : -self._cut]
        else:
            assert length is not None  # noqa: S101 (only frequencies go without)
            y = y.reshape(rows, columns * self._stride, -1)[:, self._cut : self._cut + length]
        image = image_of(y)
        return image if self._is_last else functional.gelu(image)


class _Residual(nn.Module):
    """`DConv`: image to image."""

    def __init__(self, dconv: Any) -> None:
        super().__init__()
        self._branches = nn.ModuleList(map(_Branch, dconv.layers))

    def forward(self, x: Tensor) -> Tensor:
        rows = rows_of(x)
        for branch in self._branches:
            rows = rows + branch(rows)
        return image_of(rows)


class _Branch(nn.Module):
    """One branch of `DConv`: rows to rows. The scale at its end is folded into the normalisation before."""

    def __init__(self, layers: Any) -> None:
        super().__init__()
        conv, norm, _, widen, wide_norm, _, scale = layers
        self._conv, self._widen = _Conv(conv), _Conv(widen)
        self._eps, self._wide_eps = norm.eps, wide_norm.eps
        self._weight, self._bias = _constant(norm.weight), _constant(norm.bias)
        weight, gate_weight = wide_norm.weight.chunk(2)
        bias, gate_bias = wide_norm.bias.chunk(2)
        self._value_weight, self._value_bias = _constant(weight * scale.scale), _constant(bias * scale.scale)
        self._gate_weight, self._gate_bias = _constant(gate_weight), _constant(gate_bias)

    def forward(self, x: Tensor) -> Tensor:
        h = _normalised(rows_of(self._conv(image_of(x))), self._eps)
        h = functional.gelu(h * self._weight + self._bias)
        h = _normalised(rows_of(self._widen(image_of(h))), self._wide_eps)
        value, gate = h.chunk(2, dim=-1)
        gate = torch.sigmoid(gate * self._gate_weight + self._gate_bias)
        return (value * self._value_weight + self._value_bias) * gate


def _normalised(rows: Tensor, eps: float) -> Tensor:
    """Each row to mean 0 and variance 1, over columns and channels: a `GroupNorm` of one group, without its affine."""
    count, columns, channels = rows.shape
    # OpenVINO sums up each line of numbers on its own, in single precision, and lines on several threads: the one row
    # of samples, millions of numbers long, becomes as many lines as it has channels (fp32: 124 dB instead of 87).
    lines = channels if count == 1 else 1
    flat = rows.reshape(count, lines, columns * channels // lines)
    return functional.layer_norm(flat, flat.shape[1:], eps=eps).reshape(rows.shape)


class _Conv(nn.Module):
    """A convolution over columns, or over both axes: image to image."""

    def __init__(self, original: nn.Conv1d | nn.Conv2d, part: slice = slice(None)) -> None:
        """Args: original: its weights are copied; part: of its output channels."""
        super().__init__()
        weight = original.weight[part]
        along_columns = weight.dim() == 3
        self._weight = _constant(weight[:, :, None] if along_columns else weight)
        self._bias = None if original.bias is None else _constant(original.bias[part])
        padding: Any = original.padding
        self._stride = (1, *original.stride) if along_columns else original.stride
        self._padding = (0, *padding) if along_columns else padding
        self._dilation = (1, *original.dilation) if along_columns else original.dilation

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self._weight, self._bias, self._stride, self._padding, self._dilation)


class _GatedConv(nn.Module):
    """A convolution and `GLU`, as two convolutions: nothing has to be split. Image to image."""

    def __init__(self, original: nn.Conv1d | nn.Conv2d) -> None:
        super().__init__()
        half = original.out_channels // 2
        self._value, self._gate = _Conv(original, slice(half)), _Conv(original, slice(half, None))

    def forward(self, x: Tensor) -> Tensor:
        value: Tensor = self._value(x) * torch.sigmoid(self._gate(x))
        return value


class _Linear(nn.Module):
    """A convolution with a kernel of one: rows to rows."""

    def __init__(self, original: nn.Conv1d) -> None:
        super().__init__()
        self._weight = _constant(original.weight[:, :, 0])
        self._bias = None if original.bias is None else _constant(original.bias)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self._weight, self._bias)


class _SequenceNorm(nn.Module):
    """`MyGroupNorm` of one group: (1, length, channels), normalised over both, with no need to transpose."""

    def __init__(self, original: MyGroupNorm) -> None:
        super().__init__()
        self._weight, self._bias, self._eps = _constant(original.weight), _constant(original.bias), original.eps

    def forward(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[1:], eps=self._eps) * self._weight + self._bias
