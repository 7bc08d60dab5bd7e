"""Rewritten layers and networks compute the same numbers: 120 dB and more in fp32."""

from __future__ import annotations

import pytest
import torch
from demucs.hdemucs import HDecLayer, HDemucs
from demucs.htdemucs import HTDemucs
from torch import Tensor, nn

from demucs_server_worker.separation.backends.rewriting import InterleavedConv, is_rewritable, rewrite
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
