"""Local repositories of models for tests: real architectures of Demucs with seeded random weights."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from demucs.demucs import Demucs
from demucs.hdemucs import HDemucs
from demucs.htdemucs import HTDemucs
from torch import nn

from bench.seeded import (
    FINE_TUNED_WEIGHTS,
    HTDEMUCS_PARAMETERS,
    SOURCES,
    Form,
    define_bag,
    htdemucs,
    make_htdemucs_repo,
    metadata_of,
    save_bag,
    save_member,
    seeded,
)

__all__ = [
    "FINE_TUNED_WEIGHTS", "HTDEMUCS_PARAMETERS", "SOURCES", "Form", "define_bag", "htdemucs", "make_htdemucs_repo",
    "make_tiny_repo", "metadata_of", "save_bag", "save_member", "tiny_demucs", "tiny_hdemucs", "tiny_htdemucs",
]  # fmt: skip


def tiny_htdemucs(seed: int = 0, sources: Sequence[str] = SOURCES) -> nn.Module:
    """A hybrid transformer of some 400 thousand parameters and 2 s segments."""
    return seeded(
        seed,
        HTDemucs,
        sources=list(sources),
        channels=8,
        depth=4,
        dconv_mode=3,
        dconv_init=0.1,
        bottom_channels=32,
        t_layers=2,
        t_heads=2,
        segment=Fraction(2),
    )


def tiny_hdemucs(seed: int = 0, sources: Sequence[str] = SOURCES) -> nn.Module:
    """A hybrid of spectrogram and waveform, with its LSTM and attention, and 4 s segments."""
    return seeded(seed, HDemucs, sources=list(sources), channels=4, dconv_init=0.1, segment=4)


def tiny_demucs(seed: int = 0, sources: Sequence[str] = SOURCES) -> nn.Module:
    """A Demucs in the time domain, which resamples inside, with 4 s segments."""
    return seeded(seed, Demucs, sources=list(sources), channels=4, dconv_init=0.1, segment=4)


def make_tiny_repo(folder: Path, form: Form = "safetensors") -> Path:
    """A repository of small models, written within a second or two.

    - `tiny_htdemucs`, `tiny_hdemucs`, `tiny_demucs`: bags of one
    - `tiny_ft`: four hybrid transformers, each for one stem, with the weights of `htdemucs_ft`
    - `tiny_mix`: one of each kind, with uneven weights and a segment of 3 s that the transformer does not take
    - `tiny_twice`: the same member twice and another once
    """
    save_bag(folder, "tiny_htdemucs", {"1a000001": tiny_htdemucs(1)}, form=form)
    save_bag(folder, "tiny_hdemucs", {"2a000001": tiny_hdemucs(1)}, form=form)
    save_bag(folder, "tiny_demucs", {"3a000001": tiny_demucs(1)}, form=form)
    save_bag(
        folder,
        "tiny_ft",
        {f"1a00000{seed}": tiny_htdemucs(seed) for seed in range(2, 6)},
        weights=FINE_TUNED_WEIGHTS,
        form=form,
    )
    uneven = [[1.0, 0.5, 0.0, 2.0], [1.0, 1.5, 1.0, 0.0], [0.0, 1.0, 3.0, 1.0]]
    define_bag(folder, "tiny_mix", ["1a000001", "2a000001", "3a000001"], weights=uneven, segment=3)
    define_bag(folder, "tiny_twice", ["1a000001", "1a000001", "2a000001"])
    return folder
