"""The inverse transform gives the samples that Demucs' own gives."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
from demucs.htdemucs import HTDemucs

from demucs_server_worker.separation.backends.inverse_stft import InverseStft


@pytest.mark.parametrize("segment", [Fraction(39, 5), Fraction(1), Fraction(1, 3)], ids=str)
@pytest.mark.parametrize("nfft", [4096, 1024])
@torch.no_grad()
def test_it_gives_what_demucs_gives(segment: Fraction, nfft: int) -> None:
    network: Any = HTDemucs(sources=["a"], channels=4, depth=2, bottom_channels=8, t_layers=0, nfft=nfft)
    samples = int(segment * 44_100)
    frames = -(-samples // (nfft // 4))
    torch.manual_seed(1)
    spectrum = torch.randn(4, nfft // 2, frames)
    gain, offset = 0.3, -0.02
    whole = network._mask(None, (spectrum * gain + offset)[None, None].double())
    expected = network._ispec(whole, samples)[0, 0]  # (channels, samples)
    inverse = InverseStft(nfft, 2, samples)
    inverse(torch.randn_like(spectrum), 1.0, 0.0)  # an earlier pass leaves nothing behind
    found = inverse(spectrum, gain, offset)
    assert found.shape == expected.shape == (2, samples)
    assert (found - expected).square().sum() <= 1e-13 * expected.square().sum()
