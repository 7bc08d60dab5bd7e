"""Rewritten layers and networks compute the same numbers: 120 dB and more in fp32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from demucs.hdemucs import HDecLayer, HDemucs
from demucs.htdemucs import HTDemucs
from torch import Tensor, nn

from demucs_server_worker.separation.backends.channels_last import ChannelsLastCore, can_be_channels_last
from demucs_server_worker.separation.backends.conversion import core_of
from demucs_server_worker.separation.backends.rewriting import InterleavedConv, is_rewritable, rewrite
from demucs_server_worker.separation.backends.split import Core, Ends, is_divisible
from tests import model_repo

EXACT_DB = 120.0


def snr_db(reference: Tensor, estimate: Tensor) -> float:
    missed = (reference.double() - estimate.double()).square().sum()
    return float(10 * torch.log10(reference.double().square().sum() / missed.clamp_min(1e-30)))


@pytest.mark.parametrize(("kernel", "stride"), [(8, 4), (4, 2), (8, 8), (12, 4), (3, 1)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("axes", [1, 2])
@torch.no_grad()
def test_a_transposed_convolution(kernel: int, stride: int, bias: bool, axes: int) -> None:
    torch.manual_seed(kernel)
    if axes == 1:
        layer: nn.Module = nn.ConvTranspose1d(5, 3, kernel, stride, bias=bias)
        x = torch.randn(2, 5, 23)
    else:
        layer = nn.ConvTranspose2d(5, 3, (kernel, 1), (stride, 1), bias=bias)
        x = torch.randn(2, 5, 23, 7)
    assert is_rewritable(layer)
    expected = layer(x)
    found = InterleavedConv(layer)(x)  # type: ignore[arg-type]
    assert found.shape == expected.shape
    assert snr_db(expected, found) >= EXACT_DB


@pytest.mark.parametrize(
    "layer",
    [
        nn.ConvTranspose1d(4, 4, 6, 4),
        nn.ConvTranspose1d(4, 4, 8, 4, padding=1),
        nn.ConvTranspose1d(4, 4, 8, 4, output_padding=1),
        nn.ConvTranspose1d(4, 4, 8, 4, dilation=2),
        nn.ConvTranspose1d(4, 4, 8, 4, groups=2),
        nn.ConvTranspose2d(4, 4, (8, 2), (4, 1)),
        nn.ConvTranspose2d(4, 4, 8, 4),
        nn.Conv1d(4, 4, 8, 4),
    ],
    ids=["kernel", "padding", "output padding", "dilation", "groups", "second axis", "both axes", "ordinary"],
)
def test_what_the_formula_does_not_cover_is_left_alone(layer: nn.Module) -> None:
    assert not is_rewritable(layer)


FAMILIES = {
    "htdemucs": (model_repo.tiny_htdemucs, 88_200),
    "hdemucs": (model_repo.tiny_hdemucs, 60_000),
}


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_a_network_of_every_family_it_touches(family: str) -> None:
    make, samples = FAMILIES[family]
    network = make()
    torch.manual_seed(1)
    mix = torch.randn(1, 2, samples) * 0.2
    expected = network(mix)
    layers = [layer for layer in network.modules() if isinstance(layer, HDecLayer)]
    assert rewrite(network) == len(layers) > 4
    assert not any(isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d) for layer in network.modules())
    assert snr_db(expected, network(mix)) >= EXACT_DB


@pytest.mark.parametrize("kind", [HTDemucs, HDemucs])
@torch.no_grad()
def test_bands_of_frequencies_are_left_alone(kind: type[nn.Module]) -> None:
    torch.manual_seed(1)
    network = kind(sources=["a", "b"], channels=8, segment=1, multi_freqs=[0.5], multi_freqs_depth=2).eval()
    mix = torch.randn(1, 2, 44_100) * 0.2
    expected = network(mix)
    assert rewrite(network) > 0
    assert snr_db(expected, network(mix)) >= EXACT_DB


def hybrid(**settings: Any) -> HTDemucs:
    torch.manual_seed(1)
    small = {"channels": 8, "depth": 3, "dconv_init": 0.1, "bottom_channels": 32, "t_layers": 3, "t_heads": 2}
    network: HTDemucs = HTDemucs(sources=["a", "b", "c"], **({"segment": 1} | small | settings))
    return network.eval()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"freq_emb": 0},
        {"dconv_mode": 1},
        {"dconv_mode": 0},
        {"dconv_mode": 2, "dconv_depth": 3},
        {"t_cross_first": True, "t_group_norm": 1, "context": 2},
        {"t_norm_out": False, "nfft": 2048, "segment": 0.7},
    ],
    ids=str,
)
@torch.no_grad()
def test_channels_last_computes_the_same(settings: dict[str, Any]) -> None:
    network = hybrid(**settings)
    assert is_divisible(network)
    assert can_be_channels_last(network)
    ends = Ends(network)
    spectrum, wave, _, _ = ends.before(torch.randn(1, 2, ends.length) * 0.2)
    expected = Core(network)(spectrum, wave)
    found = ChannelsLastCore(network)(spectrum, wave)
    for one, other in zip(expected, found, strict=True):
        assert one.shape == other.shape
        assert snr_db(one, other) >= EXACT_DB


@pytest.mark.parametrize(
    "settings",
    [
        {"norm_starts": 1},
        {"t_layers": 0},
        {"bottom_channels": 0},
        {"rewrite": False},
    ],
    ids=str,
)
@torch.no_grad()
def test_a_network_that_cannot_be_channels_last_is_converted_as_it_is(settings: dict[str, Any]) -> None:
    network = hybrid(**settings)
    ends = Ends(network)
    spectrum, wave, _, _ = ends.before(torch.randn(1, 2, ends.length) * 0.2)
    expected = Core(network)(spectrum, wave)
    core = core_of(network)
    assert isinstance(core, Core)
    for one, other in zip(expected, core(spectrum, wave), strict=True):
        assert snr_db(one, other) >= EXACT_DB
